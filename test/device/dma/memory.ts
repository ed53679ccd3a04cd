// Memory for transfers, with guard bytes around every fragment.

import type { ArenaBuffer } from '../../../lib/index.ts';

/** Fills the space around fragments; payloads have it too, so its place tells. */
export const GUARD = 0xa5;

/** Space before, between and after fragments: odd, so that fragments cross pages and are not aligned. */
const GAP = 61;

/** Bytes that tell their place. */
export function pattern(length: number, seed: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let i = 0; i < length; i++) bytes[i] = (i * 31 + (i >>> 8) * 7 + seed) & 0xff;
  return bytes;
}

/** Fragments inside one stretch of memory. */
export class Guarded {
  readonly fragments: Uint8Array[];
  readonly #whole: Uint8Array;
  readonly #lengths: readonly number[];
  readonly #gap: number;

  constructor(whole: Uint8Array, lengths: readonly number[], gap = GAP) {
    this.#whole = whole;
    this.#lengths = lengths;
    this.#gap = gap;
    let at = gap;
    this.fragments = lengths.map((length) => {
      const fragment = whole.subarray(at, at + length);
      at += length + gap;
      return fragment;
    });
    this.clear();
  }

  /** Bytes needed for fragments of these lengths. */
  static size(lengths: readonly number[], gap = GAP): number {
    return lengths.reduce((sum, length) => sum + length + gap, gap);
  }

  clear(): void {
    this.#whole.fill(GUARD);
  }

  /** Spreads [bytes] over the fragments. */
  put(bytes: Uint8Array): void {
    let at = 0;
    for (const fragment of this.fragments) {
      fragment.set(bytes.subarray(at, at + fragment.length));
      at += fragment.length;
    }
  }

  /** The fragments' bytes, in order. */
  get(): Buffer {
    return Buffer.concat(this.fragments);
  }

  /** Bytes outside the fragments that are not as they were. */
  damage(): number {
    let damaged = 0;
    let at = 0;
    for (const length of [...this.#lengths, 0]) {
      for (const end = at + this.#gap; at < end; at++) if (this.#whole[at] !== GUARD) damaged++;
      at += length;
    }
    for (; at < this.#whole.length; at++) if (this.#whole[at] !== GUARD) damaged++;
    return damaged;
  }
}

/** Fragments of these lengths in arena memory. */
export function inArena(block: ArenaBuffer, lengths: readonly number[]): Guarded {
  return new Guarded(block.bytes.subarray(0, Guarded.size(lengths)), lengths);
}

/** Fragments of these lengths in arena memory, with pages between them: page-aligned where the lengths are. */
export function inPages(block: ArenaBuffer, lengths: readonly number[]): Guarded {
  return new Guarded(block.bytes.subarray(0, Guarded.size(lengths, 4096)), lengths, 4096);
}

/** Fragments of these lengths in memory from V8, none of it a slice of a pool. */
export function inForeign(lengths: readonly number[]): Guarded {
  return new Guarded(new Uint8Array(Math.max(Guarded.size(lengths), 65537)), lengths);
}
