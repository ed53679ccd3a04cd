/**
 * A send or receive queue as a ring of slots in memory that JavaScript fills and the addon reads: one native call posts
 * a whole batch. A work request is named by its sequence number; slot = sequence number modulo capacity, and the rest of
 * the number is its generation.
 */
import type { NativeQueueLimits } from '../addon.ts';
import { layout, SGE_IN_SLOT } from '../layout.ts';

const WR = layout.workRequest;
const SGE = layout.sge;
const TWO_32 = 0x1_0000_0000;
/** The high word of 2^53 - 1. */
const MAX_HIGH = 0x1f_ffff;

// For the hot path: constants take a third of the bytecode of properties.
const {
  words: WR_WORDS,
  opcode: OPCODE,
  send_flags: SEND_FLAGS,
  num_sge: NUM_SGE,
  imm_data: IMM_DATA,
  rkey: RKEY,
  remote_addr_lo: REMOTE_ADDR_LO,
  remote_addr_hi: REMOTE_ADDR_HI,
  arg_lo: SGE_ADDR_LO,
  arg_hi: SGE_ADDR_HI,
  arg2_lo: SGE_LENGTH,
  arg2_hi: SGE_LKEY,
} = layout.workRequest;
/** The same number as SGE_IN_SLOT, for signed words. */
const IN_SLOT = SGE_IN_SLOT | 0;

/**
 * Called once for every work request, when it is retired.
 *
 * @param status one of WcStatus
 * @param byteLen bytes of the message, for a successful receive
 * @param wc index of its completion in the ring of the completion queue, valid during the call; -1 when there is none,
 *   because a later work request's completion implied this one or the queue pair was closed
 * @param slot where in the ring the work request was, as the methods of a batch return it
 */
export type OnRetired = (status: number, byteLen: number, wc: number, slot: number) => void;

/** Stands for no callback where another would be meant otherwise. */
const nobody: OnRetired = () => {};

/**
 * Slots, SGEs and inline areas of one queue. Not for users: QueuePair checks what goes in.
 *
 * Sequence numbers are 32 bits that wrap around, kept as signed integers: V8 allocates memory for larger ones.
 */
export class WorkRing {
  /** The ring's memory, shared with the addon. */
  readonly memory: Uint8Array;
  readonly limits: NativeQueueLimits;
  readonly #words: Uint32Array;
  /** The same words as signed numbers: storing those is cheaper. */
  readonly #signed: Int32Array;
  readonly #sgeBase: number;
  /** Words of a slot's SGEs. */
  readonly #sgeWords: number;
  readonly #inlineBase: number;
  readonly #mask: number;
  /** Whom to tell of a work request, by slot; null: {@link #lasting}. */
  readonly #retired: (OnRetired | null)[];
  /** The callback that one batch after the other is posted with, so that nothing is stored for any of them. */
  #lasting: OnRetired | null = null;
  #head = 0;
  #tail = 0;
  #added = 0;
  #room = 0;

  constructor(limits: NativeQueueLimits) {
    this.limits = limits;
    const buffer = new SharedArrayBuffer(limits.ringBytes);
    this.memory = new Uint8Array(buffer);
    this.#words = new Uint32Array(buffer, 0, limits.ringBytes >>> 2);
    this.#signed = new Int32Array(buffer, 0, limits.ringBytes >>> 2);
    this.#sgeBase = limits.capacity * WR.words;
    this.#sgeWords = limits.maxSge * SGE.words;
    this.#inlineBase = (this.#sgeBase + limits.capacity * this.#sgeWords) * 4;
    this.#mask = limits.capacity - 1;
    this.#retired = new Array<OnRetired | null>(limits.capacity).fill(null);
  }

  /** Sequence number of the next work request. */
  get tail(): number {
    return this.#tail;
  }

  /** Work requests that can be posted now. */
  get free(): number {
    return this.limits.maxWr - ((this.#tail - this.#head) | 0);
  }

  /** Work requests in flight. */
  get outstanding(): number {
    return (this.#tail - this.#head) | 0;
  }

  /** Index of the slot of [seq]. */
  slot(seq: number): number {
    return seq & this.#mask;
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

  /**
   * Fills the next slot with a work request of one SGE, to be posted with all that are added. What it is given is checked in
   * the course of splitting it into words: this and its caller must stay short enough to be inlined together, or V8
   * allocates memory for every address that is passed.
   *
   * @returns the slot's index; -1 when there is no room or a number is not a whole one in its range
   */
  add(
    opcode: number,
    flags: number,
    immData: number,
    remoteAddr: number,
    rkey: number,
    addr: number,
    length: number,
    lkey: number,
  ): number {
    const added = this.#added;
    if (added >= this.#room && !this.#makeRoom()) return -1;
    const addrLo = addr >>> 0;
    const addrHi = (addr - addrLo) / TWO_32;
    const remoteLo = remoteAddr >>> 0;
    const remoteHi = (remoteAddr - remoteLo) / TWO_32;
    if (
      (addrHi & MAX_HIGH) !== addrHi ||
      (remoteHi & MAX_HIGH) !== remoteHi ||
      length >>> 0 !== length ||
      lkey >>> 0 !== lkey ||
      rkey >>> 0 !== rkey ||
      immData >>> 0 !== immData ||
      flags >>> 0 !== flags
    ) {
      return -1;
    }
    const words = this.#signed;
    const slot = (this.#tail + added) & this.#mask;
    const wr = slot * WR_WORDS;
    words[wr + OPCODE] = opcode;
    words[wr + SEND_FLAGS] = flags;
    words[wr + NUM_SGE] = IN_SLOT;
    words[wr + IMM_DATA] = immData;
    words[wr + RKEY] = rkey;
    words[wr + REMOTE_ADDR_LO] = remoteLo;
    words[wr + REMOTE_ADDR_HI] = remoteHi;
    words[wr + SGE_ADDR_LO] = addrLo;
    words[wr + SGE_ADDR_HI] = addrHi;
    words[wr + SGE_LENGTH] = length;
    words[wr + SGE_LKEY] = lkey;
    this.#added = added + 1;
    return slot;
  }

  /** Work requests that have been added and not posted. */
  get added(): number {
    return this.#added;
  }

  /** Forgets what has been added. */
  drop(): void {
    this.#added = 0;
    this.#room = 0;
  }

  /** Learns how much room there is: it only grows until the next post. */
  #makeRoom(): boolean {
    this.#room = this.free;
    return this.#added < this.#room;
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
    const base = this.#sgeBase + (seq & this.#mask) * this.#sgeWords + index * SGE.words;
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

  /** Takes note that the next [count] work requests are on their way, and whom to tell when one is retired. */
  posted(count: number, retired: OnRetired | null): void {
    const mask = this.#mask;
    const tail = this.#tail;
    for (let i = 0; i < count; i += 1) this.#retired[(tail + i) & mask] = retired ?? nobody;
    this.#tail = (tail + count) | 0;
  }

  /** As {@link posted}, for a callback that most likely comes again. */
  postedBatch(count: number, retired: OnRetired | null): void {
    if (this.#head === this.#tail) this.#lasting = retired;
    if (retired === this.#lasting) this.#tail = (this.#tail + count) | 0;
    else this.posted(count, retired);
  }

  /**
   * Retires [seq], which completed with [status], after the [implied] ones just before it: they brought no error, so they
   * were carried out. [head] is the oldest that is still in flight then. What is retired makes room before it is told.
   */
  complete(seq: number, status: number, byteLen: number, wc: number, implied: number, head: number): void {
    let before = (seq - implied) | 0;
    if (before !== this.#head) {
      this.#completeEarly(before, seq, status, byteLen, wc);
      return;
    }
    for (; before !== seq; before = (before + 1) | 0) {
      this.#head = (before + 1) | 0;
      this.#retire(before, 0, 0, -1);
    }
    // Those after it that had completed early.
    for (let done = (seq + 1) | 0; done !== head; done = (done + 1) | 0)
      this.#retired[done & this.#mask] = null;
    this.#head = head;
    this.#retire(seq, status, byteLen, wc);
  }

  /** Retires everything with [status]. */
  retireAll(status: number): void {
    while (this.#head !== this.#tail) {
      const seq = this.#head;
      this.#head = (seq + 1) | 0;
      this.#retire(seq, status, 0, -1);
    }
    this.#lasting = null;
    this.#retired.fill(null);
  }

  /** Retires [first] to [last], while an earlier one is still in flight (siw). */
  #completeEarly(first: number, last: number, status: number, byteLen: number, wc: number): void {
    for (let seq = first; ; seq = (seq + 1) | 0) {
      const slot = seq & this.#mask;
      const retired = this.#retired[slot] ?? this.#lasting;
      this.#retired[slot] = nobody;
      if (seq === last) {
        retired?.(status, byteLen, wc, slot);
        return;
      }
      retired?.(0, 0, -1, slot);
    }
  }

  #retire(seq: number, status: number, byteLen: number, wc: number): void {
    const slot = seq & this.#mask;
    let retired = this.#retired[slot] as OnRetired | null;
    if (retired === null) retired = this.#lasting;
    else this.#retired[slot] = null;
    if (retired !== null) retired(status, byteLen, wc, slot);
  }
}
