// A binary buddy allocator over the offsets of one slab. It knows nothing about memory: offsets in, offsets out.

import { invalidArgument } from '../errors.ts';

/** Smallest block, bytes. One cache line: two blocks never share one. */
export const MIN_BLOCK = 64;

const MIN_SHIFT = 6;
const FREE = 0x40;
const USED = 0x80;
const ORDER = 0x3f;

/** Rounds up to the block size the allocator would use for [bytes]. */
export function blockSize(bytes: number): number {
  return bytes <= MIN_BLOCK ? MIN_BLOCK : 2 ** (32 - Math.clz32(bytes - 1));
}

/**
 * Buddy allocator: power-of-two blocks from 64 bytes up to the whole range. A block starts at a multiple of its own
 * size, so no block of at most 4096 bytes crosses a page and a block's alignment equals its size.
 *
 * A block can be *held* while the device uses it. Freeing a held block only marks it; the last {@link release} returns
 * it, so memory is never handed out again under a work request that still names it.
 */
export class BuddyAllocator {
  /** Bytes managed; a power of two. */
  readonly size: number;
  readonly #maxOrder: number;
  /** Per 64-byte unit: 0 inside a block, FREE|order or USED|order at a block's head. */
  readonly #state: Uint8Array;
  /** Free lists, doubly linked by unit + 1 (0 ends a list). Zeroed pages cost nothing until a list reaches them. */
  readonly #next: Uint32Array;
  readonly #prev: Uint32Array;
  readonly #heads: Uint32Array;
  /** Per block head: work requests in flight × 2, plus 1 when the block was freed meanwhile. */
  readonly #holds: Uint32Array;
  /** Bit n set: the free list of order n is not empty. */
  #available = 0;
  #used = 0;
  #blocks = 0;

  /** @param size - bytes, a power of two between 64 and 2^30; throws ERR_OUT_OF_RANGE otherwise. */
  constructor(size: number) {
    if (!Number.isInteger(size) || size < MIN_BLOCK || size > 2 ** 30 || blockSize(size) !== size) {
      throw invalidArgument('ERR_OUT_OF_RANGE', `size must be a power of two from 64 to 2^30, got ${size}`);
    }
    const units = size >>> MIN_SHIFT;
    this.size = size;
    this.#maxOrder = 31 - Math.clz32(units);
    this.#state = new Uint8Array(units);
    this.#next = new Uint32Array(units);
    this.#prev = new Uint32Array(units);
    this.#holds = new Uint32Array(units);
    this.#heads = new Uint32Array(this.#maxOrder + 1);
    this.#push(0, this.#maxOrder);
  }

  /** Bytes in allocated blocks (block sizes, not the lengths asked for). */
  get used(): number {
    return this.#used;
  }

  /** Allocated blocks. */
  get blocks(): number {
    return this.#blocks;
  }

  /** Size in bytes of the largest block that could be allocated now; 0 when full. */
  get largestFree(): number {
    return this.#available === 0 ? 0 : MIN_BLOCK * 2 ** (31 - Math.clz32(this.#available));
  }

  /** Offset of a block of at least [bytes] (a positive integer), or -1 when no free block is large enough. */
  alloc(bytes: number): number {
    if (bytes > this.size) return -1;
    const order = bytes <= MIN_BLOCK ? 0 : 26 - Math.clz32(bytes - 1);
    const fits = this.#available >>> order;
    if (fits === 0) return -1;
    // Lowest set bit: the smallest free block that fits.
    let from = order + 31 - Math.clz32(fits & -fits);
    const unit = this.#heads[from]! - 1;
    this.#unlink(unit, from);
    while (from > order) {
      from--;
      this.#push(unit + (1 << from), from);
    }
    this.#state[unit] = USED | order;
    this.#used += MIN_BLOCK << order;
    this.#blocks++;
    return unit * MIN_BLOCK;
  }

  /**
   * Returns the block at [offset]. A held block goes back at its last {@link release}.
   * Throws ERR_INVALID_STATE when no allocated block starts there (double free, or not a block's start).
   */
  free(offset: number): void {
    const unit = offset / MIN_BLOCK;
    const state = this.#state[unit] ?? 0;
    if ((state & USED) === 0 || (this.#holds[unit]! & 1) !== 0) {
      throw invalidArgument(
        'ERR_INVALID_STATE',
        `no allocated block starts at offset ${offset} (freed twice?)`,
      );
    }
    if (this.#holds[unit] !== 0) {
      this.#holds[unit]! |= 1;
      return;
    }
    this.#recycle(unit, state & ORDER);
  }

  /**
   * Holds every block that [offset, offset + length) touches. Returns false, holding nothing, when part of the range is
   * free memory (a view kept after its block was freed).
   */
  hold(offset: number, length: number): boolean {
    const end = offset + length;
    let at = offset;
    while (at < end) {
      const unit = this.#headOf(at);
      if (unit < 0 || (this.#holds[unit]! & 1) !== 0) {
        if (at > offset) this.release(offset, at - offset);
        return false;
      }
      this.#holds[unit]! += 2;
      at = (unit + (1 << (this.#state[unit]! & ORDER))) * MIN_BLOCK;
    }
    return true;
  }

  /** Undoes one successful {@link hold} of the same range. */
  release(offset: number, length: number): void {
    const end = offset + length;
    let at = offset;
    while (at < end) {
      const unit = this.#headOf(at);
      const order = this.#state[unit]! & ORDER;
      const holds = this.#holds[unit]! - 2;
      if (holds === 1) {
        this.#holds[unit] = 0;
        this.#recycle(unit, order);
      } else {
        this.#holds[unit] = holds;
      }
      at = (unit + (1 << order)) * MIN_BLOCK;
    }
  }

  /** Unit of the allocated block around byte [offset], or -1 when that byte is free. */
  #headOf(offset: number): number {
    const unit = offset >>> MIN_SHIFT;
    for (let order = 0; order <= this.#maxOrder; order++) {
      const head = (unit >>> order) << order;
      const state = this.#state[head]!;
      if (state !== 0 && (state & ORDER) >= order) return (state & USED) !== 0 ? head : -1;
    }
    return -1;
  }

  #recycle(unit: number, order: number): void {
    this.#used -= MIN_BLOCK << order;
    this.#blocks--;
    let head = unit;
    let at = order;
    this.#state[head] = 0;
    while (at < this.#maxOrder) {
      const buddy = head ^ (1 << at);
      if (this.#state[buddy] !== (FREE | at)) break;
      this.#unlink(buddy, at);
      head &= ~(1 << at);
      at++;
    }
    this.#push(head, at);
  }

  #push(unit: number, order: number): void {
    const first = this.#heads[order]!;
    this.#state[unit] = FREE | order;
    this.#next[unit] = first;
    this.#prev[unit] = 0;
    if (first !== 0) this.#prev[first - 1] = unit + 1;
    this.#heads[order] = unit + 1;
    this.#available |= 1 << order;
  }

  #unlink(unit: number, order: number): void {
    const next = this.#next[unit]!;
    const prev = this.#prev[unit]!;
    if (next !== 0) this.#prev[next - 1] = prev;
    if (prev !== 0) this.#next[prev - 1] = next;
    else {
      this.#heads[order] = next;
      if (next === 0) this.#available &= ~(1 << order);
    }
    this.#state[unit] = 0;
  }
}
