/** What a promise of a work request resolves with. */
import type { CompletionRing } from '../ring/completion-ring.ts';

const WC_GRH = 1;
const WC_WITH_IMM = 2;
const WC_WITH_INV = 8;

/** A successful completion (struct ibv_wc, ibv_poll_cq(3)). */
export interface WorkCompletion {
  /** One of {@link WcOpcode}. */
  readonly opcode: number;
  /** Bytes received, for a receive. */
  readonly byteLen: number;
  /** Immediate data that came with the message. */
  readonly immData?: number;
  /** The rkey that the message has invalidated. */
  readonly invalidatedRkey?: number;
  /** The local queue pair. */
  readonly qpNum: number;
  /** The sender's queue pair, for a datagram. */
  readonly srcQp: number;
  /** For a datagram: the first 40 bytes of the buffer are the global routing header. Other types may set it or not. */
  readonly grh: boolean;
  /** For a datagram to QP1. */
  readonly pkeyIndex: number;
  /** The sender's local identifier, for a datagram on InfiniBand. */
  readonly slid: number;
  /** Service level, for a datagram. */
  readonly sl: number;
  /** For a datagram on InfiniBand. */
  readonly dlidPathBits: number;
  /** Raw device clock, of a completion queue with timestamps. */
  readonly timestamp?: bigint;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** The completion at index [wc] of [ring]. @internal */
export function workCompletion(ring: CompletionRing, wc: number, byteLen: number): WorkCompletion {
  const flags = ring.flags(wc);
  // A literal and assignments: V8 makes a spread of every shape anew, which takes longer than all the rest.
  const completion: Mutable<WorkCompletion> = {
    opcode: ring.opcode(wc),
    byteLen,
    qpNum: ring.qpNum(wc),
    srcQp: ring.srcQp(wc),
    grh: (flags & WC_GRH) !== 0,
    pkeyIndex: ring.pkeyIndex(wc),
    slid: ring.slid(wc),
    sl: ring.sl(wc),
    dlidPathBits: ring.dlidPathBits(wc),
  };
  if ((flags & WC_WITH_IMM) !== 0) completion.immData = ring.immData(wc);
  if ((flags & WC_WITH_INV) !== 0) completion.invalidatedRkey = ring.immData(wc);
  if (ring.timestamps) {
    completion.timestamp = (BigInt(ring.timestampHi(wc)) << 32n) | BigInt(ring.timestampLo(wc));
  }
  return completion;
}
