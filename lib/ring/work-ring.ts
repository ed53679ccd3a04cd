/**
 * A send or receive queue as a ring of slots in memory that JavaScript fills and the addon reads: one native call posts
 * a whole batch. A work request is named by its sequence number; slot = sequence number modulo capacity, and the rest of
 * the number is its generation.
 */
import type { NativeQueueLimits } from '../addon.ts';
import { layout } from '../layout.ts';

const WR = layout.workRequest;
const SGE = layout.sge;
const TWO_32 = 0x1_0000_0000;

/**
 * Called once for every work request, when it is retired.
 *
 * @param status one of WcStatus
 * @param byteLen bytes of the message, for a successful receive
 * @param wc index of its completion in the ring of the completion queue, valid during the call; -1 when there is none,
 *   because a later work request's completion implied this one or the queue pair was closed
 */
export type OnRetired = (status: number, byteLen: number, wc: number) => void;

const DONE = 0;
const UNSIGNALLED = 1;
const SIGNALLED = 2;
const IBV_SEND_SIGNALED = 2;

/** Slots, SGEs and inline areas of one queue. Not for users: QueuePair checks what goes in. */
export class WorkRing {
  /** The ring's memory, shared with the addon. */
  readonly memory: Uint8Array;
  readonly limits: NativeQueueLimits;
  readonly #words: Uint32Array;
  readonly #sgeBase: number;
  readonly #inlineBase: number;
  readonly #mask: number;
  readonly #retired: (OnRetired | null)[];
  readonly #states: Uint8Array;
  #head = 0;
  #tail = 0;

  constructor(limits: NativeQueueLimits) {
    this.limits = limits;
    const buffer = new SharedArrayBuffer(limits.ringBytes);
    this.memory = new Uint8Array(buffer);
    this.#words = new Uint32Array(buffer, 0, limits.ringBytes >>> 2);
    this.#sgeBase = limits.capacity * WR.words;
    this.#inlineBase = (this.#sgeBase + limits.capacity * limits.maxSge * SGE.words) * 4;
    this.#mask = limits.capacity - 1;
    this.#states = new Uint8Array(limits.capacity);
    this.#retired = new Array<OnRetired | null>(limits.capacity).fill(null);
  }

  /** Sequence number of the next work request. */
  get tail(): number {
    return this.#tail;
  }

  /** Work requests that can be posted now. */
  get free(): number {
    return this.limits.maxWr - ((this.#tail - this.#head) >>> 0);
  }

  /** Work requests in flight. */
  get outstanding(): number {
    return (this.#tail - this.#head) >>> 0;
  }

  /** Fills the slot of [seq]; its SGEs are filled by {@link setSge}. */
  setWorkRequest(
    seq: number,
    opcode: number,
    flags: number,
    numSge: number,
    remoteLo: number,
    remoteHi: number,
    rkey: number,
    immData: number,
  ): void {
    const words = this.#words;
    const base = (seq & this.#mask) * WR.words;
    words[base + WR.opcode] = opcode;
    words[base + WR.send_flags] = flags;
    words[base + WR.num_sge] = numSge;
    words[base + WR.inline_length] = 0;
    words[base + WR.imm_data] = immData;
    words[base + WR.rkey] = rkey;
    words[base + WR.remote_addr_lo] = remoteLo;
    words[base + WR.remote_addr_hi] = remoteHi;
  }

  /** The operands of atomics, ATOMIC_WRITE, FLUSH and BIND_MW; see native/core/layout.h. */
  setOperands(seq: number, argLo: number, argHi: number, arg2Lo: number, arg2Hi: number): void {
    const words = this.#words;
    const base = (seq & this.#mask) * WR.words;
    words[base + WR.arg_lo] = argLo;
    words[base + WR.arg_hi] = argHi;
    words[base + WR.arg2_lo] = arg2Lo;
    words[base + WR.arg2_hi] = arg2Hi;
  }

  /** Where a message of a UD or XRC_SEND queue pair goes. */
  setTarget(seq: number, object: number, remoteQpn: number, remoteQkey: number): void {
    const words = this.#words;
    const base = (seq & this.#mask) * WR.words;
    words[base + WR.object] = object;
    words[base + WR.remote_qpn] = remoteQpn;
    words[base + WR.remote_qkey] = remoteQkey;
  }

  /** What BIND_MW works on; the rest is in {@link setOperands}. */
  setWindow(seq: number, rkey: number, lkey: number, access: number): void {
    const words = this.#words;
    const base = (seq & this.#mask) * WR.words;
    words[base + WR.object] = rkey;
    words[base + WR.object2] = lkey;
    words[base + WR.remote_qkey] = access;
  }

  setSge(seq: number, index: number, addr: number, length: number, lkey: number): void {
    const words = this.#words;
    const base = this.#sgeBase + ((seq & this.#mask) * this.limits.maxSge + index) * SGE.words;
    words[base + SGE.addr_lo] = addr >>> 0;
    words[base + SGE.addr_hi] = (addr / TWO_32) >>> 0;
    words[base + SGE.length] = length;
    words[base + SGE.lkey] = lkey;
  }

  /** Copies [data] into the inline area of [seq]. */
  setInline(seq: number, data: Uint8Array): void {
    const slot = seq & this.#mask;
    this.memory.set(data, this.#inlineBase + slot * this.limits.maxInline);
    this.#words[slot * WR.words + WR.inline_length] = data.length;
  }

  /** Takes note that the next work request is on its way, and whom to tell when it is retired. */
  posted(retired: OnRetired | null): void {
    const slot = this.#tail & this.#mask;
    // The addon has added SIGNALED where the queue pair or the device wants it.
    const flags = this.#words[slot * WR.words + WR.send_flags] as number;
    this.#retired[slot] = retired;
    this.#states[slot] = (flags & IBV_SEND_SIGNALED) !== 0 ? SIGNALLED : UNSIGNALLED;
    this.#tail = (this.#tail + 1) >>> 0;
  }

  /**
   * Retires [seq], which completed with [status], after the unsignalled ones just before it: they brought no error, so
   * they were carried out. Signalled ones before it have completions of their own, which may come later (siw).
   */
  complete(seq: number, status: number, byteLen: number, wc: number): void {
    const mask = this.#mask;
    let first = seq;
    while (first !== this.#head && this.#states[(first - 1) & mask] === UNSIGNALLED)
      first = (first - 1) >>> 0;
    for (; first !== seq; first = (first + 1) >>> 0) this.#retire(first, 0, 0, -1);
    this.#retire(seq, status, byteLen, wc);
  }

  /** Retires everything with [status]. */
  retireAll(status: number): void {
    while (this.#head !== this.#tail) this.#retire(this.#head, status, 0, -1);
  }

  #retire(seq: number, status: number, byteLen: number, wc: number): void {
    const slot = seq & this.#mask;
    const retired = this.#retired[slot] as OnRetired | null;
    this.#retired[slot] = null;
    this.#states[slot] = DONE;
    while (this.#head !== this.#tail && this.#states[this.#head & this.#mask] === DONE) {
      this.#head = (this.#head + 1) >>> 0;
    }
    if (retired !== null) retired(status, byteLen, wc);
  }
}
