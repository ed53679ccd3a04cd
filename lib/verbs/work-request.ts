/** Work requests as objects, and how they become slots of a queue's ring. */
import { invalidArgument, RdmaError } from '../errors.ts';
import type { WorkRing } from '../ring/work-ring.ts';
import { Opcode, SendFlags } from './constants.ts';

const TWO_32 = 0x1_0000_0000;

/** A piece of registered memory (struct ibv_sge). */
export interface Sge {
  /** Address of the first byte. */
  readonly addr: number;
  /** Bytes. */
  readonly length: number;
  /** Local key of the memory region that holds all of it. */
  readonly lkey: number;
}

/** A work request of the send queue (struct ibv_send_wr). */
export interface SendWr {
  /** One of {@link Opcode}. */
  readonly opcode: number;
  readonly sges: readonly Sge[];
  /** Bytes that are copied now and sent inline; instead of SGEs. */
  readonly inline?: Uint8Array;
  /** Of {@link SendFlags}. */
  readonly flags?: number;
  /** For RDMA READ and WRITE. */
  readonly remoteAddr?: number | bigint;
  /** For RDMA READ and WRITE. */
  readonly rkey?: number;
  /** 32 bits, for the opcodes WITH_IMM. */
  readonly immData?: number;
}

/** A work request of the receive queue (struct ibv_recv_wr). */
export interface RecvWr {
  readonly sges: readonly Sge[];
}

/** What the filling of a slot must know of its queue pair. @internal */
export interface SlotContext {
  readonly qpNum: number;
  /** READs are always signalled (siw). */
  readonly signalReads: boolean;
}

function fillSges(
  ring: WorkRing,
  seq: number,
  sges: readonly Sge[],
  index: number,
  context: SlotContext,
): void {
  if (!Array.isArray(sges)) {
    throw invalidArgument(
      'ERR_INVALID_ARG_TYPE',
      `work request ${index}: sges must be an array of {addr, length, lkey}`,
    );
  }
  if (sges.length > ring.limits.maxSge) {
    throw new RdmaError(
      'ERR_OUT_OF_RANGE',
      `work request ${index}: ${sges.length} SGEs, but this queue takes at most ${ring.limits.maxSge}`,
      { wrIndex: index, posted: 0, qpNum: context.qpNum },
    );
  }
  for (let i = 0; i < sges.length; i += 1) {
    const { addr, length, lkey } = sges[i] as Sge;
    // Written so that NaN, fractions and everything that is not a number fail too.
    if (!(addr >= 0 && addr <= Number.MAX_SAFE_INTEGER && Number.isInteger(addr))) {
      throw invalidArgument(
        'ERR_OUT_OF_RANGE',
        `work request ${index}: SGE ${i}: addr ${addr} is not an address`,
      );
    }
    if (length >>> 0 !== length) {
      throw invalidArgument(
        'ERR_OUT_OF_RANGE',
        `work request ${index}: SGE ${i}: length ${length} is not in 0 … 2^32 - 1`,
      );
    }
    ring.setSge(seq, i, addr, length, lkey);
  }
}

/** Fills the slot of [seq] with [wr], the work request [index] of its batch. @internal */
export function fillRecv(ring: WorkRing, seq: number, wr: RecvWr, index: number, context: SlotContext): void {
  const { sges } = wr;
  fillSges(ring, seq, sges, index, context);
  ring.setWorkRequest(seq, 0, SendFlags.SIGNALED, sges.length, 0, 0, 0, 0);
}

/** Fills the slot of [seq] with [wr], the work request [index] of its batch. @internal */
export function fillSend(ring: WorkRing, seq: number, wr: SendWr, index: number, context: SlotContext): void {
  const remote = wr.remoteAddr ?? 0;
  let lo: number;
  let hi: number;
  if (typeof remote === 'bigint') {
    lo = Number(remote & 0xffff_ffffn);
    hi = Number((remote >> 32n) & 0xffff_ffffn);
  } else {
    if (!(remote >= 0 && Number.isSafeInteger(remote))) {
      throw invalidArgument(
        'ERR_OUT_OF_RANGE',
        `work request ${index}: remoteAddr ${remote} is not an address; above 2^53 - 1 give a bigint`,
      );
    }
    lo = remote >>> 0;
    hi = (remote / TWO_32) >>> 0;
  }
  const { inline } = wr;
  // siw completes what follows a READ before the READ: only a completion of its own tells that a READ is done.
  const flags = context.signalReads && wr.opcode === Opcode.RDMA_READ ? SendFlags.SIGNALED : 0;
  if (inline === undefined) {
    fillSges(ring, seq, wr.sges, index, context);
    ring.setWorkRequest(
      seq,
      wr.opcode,
      flags | (wr.flags ?? 0),
      wr.sges.length,
      lo,
      hi,
      wr.rkey ?? 0,
      wr.immData ?? 0,
    );
    return;
  }
  if (inline.length > ring.limits.maxInline) {
    throw new RdmaError(
      'ERR_OUT_OF_RANGE',
      `work request ${index}: ${inline.length} bytes inline, but this queue pair takes at most ${ring.limits.maxInline}`,
      { wrIndex: index, posted: 0, qpNum: context.qpNum },
    );
  }
  ring.setWorkRequest(
    seq,
    wr.opcode,
    (wr.flags ?? 0) | SendFlags.INLINE,
    0,
    lo,
    hi,
    wr.rkey ?? 0,
    wr.immData ?? 0,
  );
  ring.setInline(seq, inline);
}
