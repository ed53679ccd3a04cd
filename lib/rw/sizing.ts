// How large a queue pair must be for a number of operations: the counterpart of the kernel's rdma_rw_mr_factor().

import { MAX_SGE_BYTES } from '../dma/layout.ts';
import { quirksOf } from '../dma/quirks.ts';
import type { Transport } from '../dma/types.ts';
import { invalidArgument } from '../errors.ts';

/** A device, as far as sizes go; {@link Device} is one. */
export interface SizedDevice {
  readonly provider: string;
  readonly transport: Transport;
  readonly attr: {
    readonly maxSge: number;
    readonly maxSgeRd: number;
    readonly maxQpWr: number;
    readonly maxCqe: number;
  };
  queryPort(port: number): { readonly maxMsgSz: number };
}

/** What a queue pair is to carry at a time. */
export interface RwLoad {
  /** READs and WRITEs under way at the same time. */
  readonly operations: number;
  /** Most fragments of one of them; default 1. */
  readonly fragments?: number;
  /** Most bytes of one of them; default 1 MiB. */
  readonly bytes?: number;
  /** Whether there are READs among them, whose SGEs are fewer on some devices; default true. */
  readonly reads?: boolean;
  /** Whether each WRITE has a message behind it; default false. */
  readonly messages?: boolean;
  /** SENDs and atomics under way at the same time beside them; default 0. */
  readonly sends?: number;
  /** Receives that stand ready; default 0. */
  readonly receives?: number;
  /** SGEs of one work request; default 4, or what the device has. */
  readonly maxSendSge?: number;
  /** Whether the fragments are memory of V8, not of the arena; default true. */
  readonly foreign?: boolean;
  /** The port, whose longest message counts; default 1. */
  readonly port?: number;
}

/** What a queue pair needs for a load; spread {@link qp} into its options. */
export interface RwSizing {
  /** Options of {@link ProtectionDomain.createQp} and {@link CmId.createQp}. */
  readonly qp: { readonly maxSendWr: number; readonly maxRecvWr: number; readonly maxSendSge: number };
  /** Entries of a completion queue that serves sends and receives: each work request can complete with an error. */
  readonly cqe: number;
  /** Work requests of the largest operation. */
  readonly wrsPerOperation: number;
  /** Memory regions that all operations together register at most; neighbours and small fragments are copied instead. */
  readonly regions: number;
  /**
   * Operations that are on the device together: fewer than asked for when the device's queues are shorter. The others wait
   * in the context; nothing fails.
   */
  readonly concurrent: number;
}

/**
 * What a queue pair of [device] needs so that the operations of [load] neither wait for slots nor are copied for want of
 * them. Where the device has less, its limits: then operations wait their turn.
 *
 * ```ts
 * const size = rwSizing(device, { operations: 64, fragments: 16, bytes: 1 << 20 });
 * const cq = device.createCq({ cqe: size.cqe });
 * id.createQp({ pd, sendCq: cq, ...size.qp });
 * ```
 *
 * @throws RdmaError ERR_OUT_OF_RANGE for a load that is none; EMSGSIZE when one operation needs more than the longest send
 *   queue of the device: use fewer fragments, or more SGEs
 * @see kernel drivers/infiniband/core/rw.c, rdma_rw_mr_factor(), rdma_rw_init_qp()
 */
export function rwSizing(device: SizedDevice, load: RwLoad): RwSizing {
  const { attr } = device;
  const { fragments = 1, bytes = 2 ** 20, sends = 0, receives = 0, operations, port = 1 } = load;
  const { reads = true, messages = false, foreign = true } = load;
  const { maxSendSge = Math.min(4, attr.maxSge) } = load;
  const most = Number.MAX_SAFE_INTEGER;
  check('operations', operations, 0, most);
  check('fragments', fragments, 1, most);
  check('bytes', bytes, 1, most);
  check('sends', sends, 0, most);
  check('receives', receives, 0, most);
  check('maxSendSge', maxSendSge, 1, attr.maxSge);
  if (operations + sends + receives === 0) check('operations', operations, 1, most);

  const quirks = quirksOf(device.provider, device.transport);
  const maxMessage = Math.min(device.queryPort(port).maxMsgSz, MAX_SGE_BYTES);
  const readSges = quirks.singleSgeRead ? 1 : Math.min(maxSendSge, attr.maxSgeRd);
  const writes = wrsOf(fragments, bytes, maxSendSge, maxMessage, quirks.tinyBytes > 0 && maxSendSge === 1);
  // A tiny READ is split where its remote range crosses a page.
  const readWrs = reads ? wrsOf(fragments, bytes, readSges, maxMessage, quirks.tinyBytes > 0) : 0;
  const wrsPerOperation = operations === 0 ? 0 : Math.max(writes + (messages ? 1 : 0), readWrs);
  if (wrsPerOperation > attr.maxQpWr) {
    throw invalidArgument(
      'EMSGSIZE',
      `an operation of ${fragments} fragments and ${bytes} bytes needs up to ${wrsPerOperation} work requests, and a send ` +
        `queue of this device has at most ${attr.maxQpWr}`,
      { errno: -90 },
    );
  }
  const maxSendWr = Math.max(1, Math.min(sends + operations * wrsPerOperation, attr.maxQpWr));
  const maxRecvWr = Math.min(receives, attr.maxQpWr);
  const room = Math.max(0, maxSendWr - sends);
  return {
    qp: { maxSendWr, maxRecvWr, maxSendSge },
    cqe: Math.min(granted(maxSendWr) + granted(maxRecvWr), attr.maxCqe),
    wrsPerOperation,
    regions: foreign || (reads && quirks.sinkNeedsOwnMr) ? operations * fragments : 0,
    concurrent: wrsPerOperation === 0 ? 0 : Math.min(operations, Math.floor(room / wrsPerOperation)),
  };
}

/**
 * Work requests that a queue of [asked] may take in the end: queues are rounded up, and a context uses all of what it was
 * given. @see kernel drivers/infiniband/sw/rxe/rxe_queue.c, rxe_queue_init(); siw_verbs.c, siw_create_qp()
 */
function granted(asked: number): number {
  return asked === 0 ? 0 : 2 ** Math.ceil(Math.log2(asked + 1));
}

/** Most work requests of [fragments] pieces: one ends when its SGEs are used up or its bytes are. */
function wrsOf(fragments: number, bytes: number, sges: number, maxMessage: number, split: boolean): number {
  const cuts = Math.ceil(bytes / maxMessage) - 1;
  const wrs = cuts + Math.ceil((fragments + cuts) / sges);
  return split ? 2 * wrs : wrs;
}

function check(name: string, value: number, least: number, most: number): void {
  if (Number.isInteger(value) && value >= least && value <= most) return;
  throw invalidArgument(
    'ERR_OUT_OF_RANGE',
    `load.${name} must be an integer from ${least} to ${most}, got ${value}`,
  );
}
