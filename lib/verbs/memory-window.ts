import { addon } from '../addon.ts';
import { invalidArgument } from '../errors.ts';
import { checkInteger } from './check.ts';
import { Owned } from './owned.ts';
import type { ProtectionDomain } from './protection-domain.ts';

/** What a window is bound to. */
export interface MwBinding {
  /** First address, as its region is addressed. */
  readonly addr: bigint;
  /** Bytes. */
  readonly length: bigint;
  /** Flags of {@link Access}. */
  readonly access: number;
  /** lkey of the region. */
  readonly lkey: number;
  /** False until the bind's completion has been seen. */
  readonly confirmed: boolean;
}

/**
 * A memory window: an rkey for a part of a memory region, given and taken away by work requests. Made by
 * {@link ProtectionDomain.allocMw}.
 *
 * Type 1 can be used through every queue pair of its protection domain; each bind replaces the one before, and one of
 * length 0 unbinds it. Type 2 can be used only through the queue pair that bound it, and must be invalidated (LOCAL_INV,
 * or SEND_WITH_INV of the peer) before it is bound again.
 *
 * Who goes first: a region that is closed closes the windows that are bound to it, and a queue pair the windows of type
 * 2 that were bound through it and not invalidated.
 */
export class MemoryWindow extends Owned {
  readonly pd: ProtectionDomain;
  readonly type: 1 | 2;

  /** @internal */
  constructor(pd: ProtectionDomain, type: 1 | 2) {
    super('memory window', addon.allocMw(pd._handle, type));
    this.pd = pd;
    this.type = type;
  }

  /**
   * Key for a peer's work requests; it changes with every bind. A peer may learn it before the bind has completed only
   * by a send on the same queue pair (ibv_bind_mw(3)).
   *
   * @throws RdmaError ERR_RDMA_CLOSED
   */
  get rkey(): number {
    return addon.mwRkey(this._handle);
  }

  /**
   * What the window is bound to by the last bind that was posted; undefined when there is none, when it failed, or when
   * the window has been invalidated since. An invalidation by the peer is noticed with the receive that reports it.
   *
   * @throws RdmaError ERR_RDMA_CLOSED
   */
  get binding(): MwBinding | undefined {
    return addon.mwBinding(this._handle);
  }
}

/**
 * The rkey for the next bind of a window: its low 8 bits incremented, so that peers with the old one are refused
 * (ibv_inc_rkey(3)).
 */
export function incRkey(rkey: number): number {
  checkInteger('rkey', rkey, 0, 0xffff_ffff);
  return ((rkey & 0xffff_ff00) | ((rkey + 1) & 0xff)) >>> 0;
}

/** Throws unless [type] is that of a window (enum ibv_mw_type). @internal */
export function checkMwType(type: unknown): asserts type is 1 | 2 {
  if (type !== 1 && type !== 2) {
    throw invalidArgument(
      'ERR_INVALID_ARG_VALUE',
      `type of a memory window must be 1 or 2, not ${String(type)}`,
    );
  }
}
