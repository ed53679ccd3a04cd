/** The ring that the addon fills with completions: numbers only, nothing is allocated for one. */
import { layout } from '../layout.ts';

const C = layout.completion;

/** Completions of one batch, by index 0 … n-1. What an index names changes with the next batch. */
export class CompletionRing {
  /** The ring's memory, shared with the addon. */
  readonly words: Uint32Array;
  /** Completions carry the device's clock. */
  readonly timestamps: boolean;
  /** The same words as signed numbers: V8 allocates memory for larger ones. @internal */
  readonly _signed: Int32Array;

  constructor(capacity: number, timestamps = false) {
    this.timestamps = timestamps;
    this.words = new Uint32Array(new SharedArrayBuffer(capacity * C.words * 4));
    this._signed = new Int32Array(this.words.buffer);
  }

  /** Handle of the queue pair, with RECEIVE_QUEUE_BIT for its receive queue. */
  queue(index: number): number {
    return this.words[index * C.words + C.queue] as number;
  }

  /** Sequence number of the work request. */
  seq(index: number): number {
    return this.words[index * C.words + C.seq] as number;
  }

  /** IBV_WC_* status. */
  status(index: number): number {
    return this.words[index * C.words + C.status] as number;
  }

  /** IBV_WC_* opcode; valid when the status is SUCCESS. */
  opcode(index: number): number {
    return this.words[index * C.words + C.opcode] as number;
  }

  /** Bytes of a received message; valid when the status is SUCCESS. */
  byteLen(index: number): number {
    return this.words[index * C.words + C.byte_len] as number;
  }

  /** Flags (enum ibv_wc_flags): 1 = GRH, 2 = with immediate data, 8 = with an invalidated rkey. */
  flags(index: number): number {
    return this.words[index * C.words + C.wc_flags] as number;
  }

  /** Immediate data in host byte order, with flag 2; the invalidated rkey, with flag 8. */
  immData(index: number): number {
    return this.words[index * C.words + C.imm_data] as number;
  }

  vendorErr(index: number): number {
    return this.words[index * C.words + C.vendor_err] as number;
  }

  /** Number of the local queue pair; tells the receives of a shared receive queue apart. */
  qpNum(index: number): number {
    return this.words[index * C.words + C.qp_num] as number;
  }

  /** Number of the queue pair that sent the datagram (UD). */
  srcQp(index: number): number {
    return this.words[index * C.words + C.src_qp] as number;
  }

  /** Index of the partition key of the datagram (UD, QP1). */
  pkeyIndex(index: number): number {
    return this.words[index * C.words + C.pkey_index] as number;
  }

  /** Local identifier of the sender (UD, InfiniBand). */
  slid(index: number): number {
    return (this.words[index * C.words + C.path] as number) >>> 16;
  }

  /** Service level (UD). */
  sl(index: number): number {
    return (this.words[index * C.words + C.path] as number) & 0xff;
  }

  /** Low bits of the local identifier that the datagram was sent to (UD, InfiniBand). */
  dlidPathBits(index: number): number {
    return ((this.words[index * C.words + C.path] as number) >>> 8) & 0xff;
  }

  /** Low word of the raw device clock, of a queue with timestamps. */
  timestampLo(index: number): number {
    return this.words[index * C.words + C.timestamp_lo] as number;
  }

  /** High word of the raw device clock, of a queue with timestamps. */
  timestampHi(index: number): number {
    return this.words[index * C.words + C.timestamp_hi] as number;
  }
}
