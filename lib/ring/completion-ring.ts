/** The ring that the addon fills with completions: numbers only, nothing is allocated for one. */
import { layout } from '../layout.ts';

const C = layout.completion;

/** Completions of one batch, by index 0 … n-1. What an index names changes with the next batch. */
export class CompletionRing {
  /** The ring's memory, shared with the addon. */
  readonly words: Uint32Array;

  constructor(capacity: number) {
    this.words = new Uint32Array(new SharedArrayBuffer(capacity * C.words * 4));
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

  /** Flags: 2 = with immediate data (IBV_WC_WITH_IMM). */
  flags(index: number): number {
    return this.words[index * C.words + C.wc_flags] as number;
  }

  /** Immediate data, in host byte order; valid with flag 2. */
  immData(index: number): number {
    return this.words[index * C.words + C.imm_data] as number;
  }

  vendorErr(index: number): number {
    return this.words[index * C.words + C.vendor_err] as number;
  }
}
