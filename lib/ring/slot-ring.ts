/**
 * The receives of a shared receive queue, in memory that JavaScript fills and the addon reads. They come back in any order,
 * so each has a slot from a free list; the addon adds a generation, and passes on only completions that match it.
 */
import { layout } from '../layout.ts';

const WR = layout.workRequest;
const SGE = layout.sge;
const TWO_32 = 0x1_0000_0000;

/** Bits of a receive's name that are its slot (native/core/shared_recv_queue.h); the rest is the generation. */
const SLOT_MASK = 0xf_ffff;

/** Memory for a number of slots. @internal */
export interface SlotMemory {
  readonly capacity: number;
  readonly memory: Uint8Array;
  /** The slots of the batch to be posted. */
  readonly batch: Uint32Array;
}

/** Slots, SGEs and the free list. [T] is what is told when a receive is retired. Not for users. */
export class SlotRing<T> {
  readonly limits: { maxWr: number; readonly maxSge: number };
  #slots: SlotMemory;
  #words: Uint32Array;
  /** The free slots are the first #available of these. */
  #free: Uint32Array;
  #available: number;
  #retired: (T | null)[];
  #outstanding = 0;

  constructor(maxWr: number, maxSge: number) {
    this.limits = { maxWr, maxSge };
    this.#slots = this.#allocate(2 ** Math.ceil(Math.log2(maxWr)));
    const { capacity, memory } = this.#slots;
    this.#words = new Uint32Array(memory.buffer);
    this.#free = Uint32Array.from({ length: capacity }, (_, i) => capacity - 1 - i);
    this.#available = capacity;
    this.#retired = new Array<T | null>(capacity).fill(null);
  }

  /** What is shared with the addon. */
  get shared(): SlotMemory {
    return this.#slots;
  }

  /** Receives that can be posted now. */
  get free(): number {
    return this.limits.maxWr - this.#outstanding;
  }

  /** Receives in flight. */
  get outstanding(): number {
    return this.#outstanding;
  }

  /** Memory for [maxWr] receives: what there is, or more. */
  memoryFor(maxWr: number): SlotMemory {
    return maxWr <= this.#slots.capacity ? this.#slots : this.#allocate(2 ** Math.ceil(Math.log2(maxWr)));
  }

  /** Changes the limit, and the memory to what {@link memoryFor} returned. */
  resize(maxWr: number, slots: SlotMemory): void {
    this.limits.maxWr = maxWr;
    const before = this.#slots.capacity;
    if (slots === this.#slots) return;
    this.#slots = slots;
    this.#words = new Uint32Array(slots.memory.buffer);
    const free = new Uint32Array(slots.capacity);
    free.set(this.#free.subarray(0, this.#available));
    for (let slot = before; slot < slots.capacity; slot += 1) {
      free[this.#available] = slot;
      this.#available += 1;
      this.#retired.push(null);
    }
    this.#free = free;
  }

  /** The slot that the receive [index] of the next batch goes to. */
  slot(index: number): number {
    const slot = this.#free[this.#available - 1 - index] as number;
    this.#slots.batch[index] = slot;
    return slot;
  }

  /** Fills [slot]; its SGEs are filled by {@link setSge}. */
  setReceive(slot: number, numSge: number): void {
    this.#words[slot * WR.words + WR.num_sge] = numSge;
  }

  setSge(slot: number, index: number, addr: number, length: number, lkey: number): void {
    const words = this.#words;
    const base = this.#slots.capacity * WR.words + (slot * this.limits.maxSge + index) * SGE.words;
    words[base + SGE.addr_lo] = addr >>> 0;
    words[base + SGE.addr_hi] = (addr / TWO_32) >>> 0;
    words[base + SGE.length] = length;
    words[base + SGE.lkey] = lkey;
  }

  /** Takes note that the next receive of the batch is on its way, and whom to tell when it is retired. */
  posted(retired: T | null): void {
    this.#available -= 1;
    this.#outstanding += 1;
    this.#retired[this.#free[this.#available] as number] = retired;
  }

  /** Gives the slot of the receive that is named [name] back; returns whom to tell. */
  retire(name: number): T | null {
    const slot = name & SLOT_MASK;
    const retired = this.#retired[slot] as T | null;
    this.#retired[slot] = null;
    this.#free[this.#available] = slot;
    this.#available += 1;
    this.#outstanding -= 1;
    return retired;
  }

  /** Whom to tell of all that is in flight. */
  takeAll(): T[] {
    const all = this.#retired.filter((retired): retired is T => retired !== null);
    this.#retired.fill(null);
    return all;
  }

  #allocate(capacity: number): SlotMemory {
    const bytes = capacity * (WR.words + this.limits.maxSge * SGE.words) * 4;
    return {
      capacity,
      memory: new Uint8Array(new SharedArrayBuffer(bytes)),
      batch: new Uint32Array(new SharedArrayBuffer(capacity * 4)),
    };
  }
}
