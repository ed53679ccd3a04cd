// What particular devices get wrong or do differently, in one place. Keyed on the driver, not on the transport.

import type { Transport } from './types.ts';

/** Pages of the soft drivers, bytes. */
export const PAGE_BYTES = 4096;

/** siw sends up to this many bytes inside its header buffer (`MAX_HDR_INLINE`). */
const SIW_HEADER_BYTES = 32;

/** How a device differs. */
export interface Quirks {
  /**
   * Payloads of at most this many bytes are not safe in a single SGE; 0 = none. Those that cross a page arrive damaged, with
   * status SUCCESS, when a driver thread sends them; and while a posting system call is still on its way out, such a thread
   * reads any of them by the address of a process that is not its own, which fails, or ends a User-mode Linux. So a SEND or
   * WRITE gets two SGEs, and a READ is split in two where its remote range crosses a page.
   * @see drivers/infiniband/sw/siw/siw_qp_tx.c, `siw_try_1seg`; siw_verbs.c, `siw_post_send`, `in_syscall`
   */
  readonly tinyBytes: number;
  /**
   * Work requests of at least this many bytes are signalled: an unsignalled one is given to TCP by page reference, and
   * a later completion does not mean that TCP is done with it. @see siw_qp_tx.c, `siw_qp_prepare_tx`, `zcopy_tx`
   */
  readonly signalFrom: number;
  /** The device takes one SGE per READ (iWARP's READ request carries one sink). @see RFC 5040 §4.4 */
  readonly singleSgeRead: boolean;
  /**
   * The key of a READ's sink goes on the wire and must allow remote writes, so the sink needs a region of exactly its
   * own range: the arena's key would open the arena to the peer. @see RFC 5040 §4.4, kernel rdma_rw_io_needs_mr()
   */
  readonly sinkNeedsOwnMr: boolean;
  /**
   * Only plain SEND and WRITE can be inline: an inline SEND_WITH_INV stays in the queue for ever.
   * @see siw_qp_tx.c, `siw_activate_tx_from_sq`
   */
  readonly plainInline: boolean;
}

const none: Quirks = {
  tinyBytes: 0,
  signalFrom: Number.POSITIVE_INFINITY,
  singleSgeRead: false,
  sinkNeedsOwnMr: false,
  plainInline: false,
};
const iwarp: Quirks = { ...none, singleSgeRead: true, sinkNeedsOwnMr: true };
const siw: Quirks = {
  tinyBytes: SIW_HEADER_BYTES,
  signalFrom: PAGE_BYTES,
  singleSgeRead: true,
  sinkNeedsOwnMr: false,
  plainInline: true,
};

/**
 * The quirks of a device.
 *
 * @param untrustedPeer READ sinks get a region of their own also where they work without one (siw): the peer learns the key
 */
export function quirksOf(provider: string, transport: Transport, untrustedPeer = false): Quirks {
  if (provider === 'siw') return untrustedPeer ? { ...siw, sinkNeedsOwnMr: true } : siw;
  return transport === 'iwarp' ? iwarp : none;
}

/**
 * Whether the driver takes every offset in an on-demand page for its start, so that only packets of whole pages are right.
 * @see kernel drivers/infiniband/sw/rxe/rxe_odp.c, `__rxe_odp_mr_copy`
 */
export function odpFromPageStart(provider: string): boolean {
  return provider === 'rxe';
}

/** Bytes of [length] before the next page boundary after [addr]; [length] when it crosses none. */
export function bytesToPageEnd(addr: number, length: number): number {
  return Math.min(length, PAGE_BYTES - (addr % PAGE_BYTES));
}
