/** Which parts of a segment are free: best of the bins first, neighbours joined. Pure. */

/** Every extent begins at a multiple of this many bytes. */
export const GRANULE = 64;

const TRIES = 8;

/** Four bins for each power of two: what lies in a bin differs by less than a quarter. */
function binOf(granules: number): number {
  const log = 31 - Math.clz32(granules);
  return log < 2 ? granules : log * 4 + ((granules >>> (log - 2)) & 3);
}

/** Free extents of one segment; offsets and lengths in bytes outside, in granules inside. */
export class Extents {
  /** Start of every free extent, to its length. */
  readonly #lengths = new Map<number, number>();
  /** End of every free extent, to its start. */
  readonly #starts = new Map<number, number>();
  /** Starts of the free extents of about a length. */
  readonly #bins: Set<number>[] = Array.from({ length: 128 }, () => new Set());
  #free = 0;

  /** [bytes]: all free at first, a multiple of {@link GRANULE}. */
  constructor(bytes: number) {
    this.#insert(0, bytes / GRANULE);
  }

  /** Bytes that are free, perhaps not in one piece. */
  get free(): number {
    return this.#free * GRANULE;
  }

  /** Takes an extent of at least [bytes]. @returns where it begins, or -1 when none is long enough */
  alloc(bytes: number): number {
    const wanted = Math.ceil(bytes / GRANULE);
    const first = binOf(wanted);
    // In its own bin some are too short: a few are tried, all of them only when nothing longer is left.
    const start = this.#find(first, first, wanted, TRIES) ?? this.#find(first + 1, 127, wanted, 1);
    const found = start ?? this.#find(first, first, wanted, Number.POSITIVE_INFINITY);
    if (found === undefined) return -1;
    const length = this.#lengths.get(found)!;
    this.#remove(found, length);
    if (length > wanted) this.#insert(found + wanted, length - wanted);
    return found * GRANULE;
  }

  #find(from: number, to: number, wanted: number, tries: number): number | undefined {
    for (let bin = from; bin <= to; bin++) {
      let left = tries;
      for (const start of this.#bins[bin]!) {
        if (this.#lengths.get(start)! >= wanted) return start;
        left--;
        if (left === 0) break;
      }
    }
    return undefined;
  }

  /** Gives back what {@link alloc} has returned for as many bytes. */
  release(offset: number, bytes: number): void {
    let start = offset / GRANULE;
    let length = Math.ceil(bytes / GRANULE);
    const before = this.#starts.get(start);
    if (before !== undefined) {
      const joined = this.#lengths.get(before)!;
      this.#remove(before, joined);
      start = before;
      length += joined;
    }
    const after = this.#lengths.get(start + length);
    if (after !== undefined) {
      this.#remove(start + length, after);
      length += after;
    }
    this.#insert(start, length);
  }

  #insert(start: number, length: number): void {
    this.#lengths.set(start, length);
    this.#starts.set(start + length, start);
    this.#bins[binOf(length)]!.add(start);
    this.#free += length;
  }

  #remove(start: number, length: number): void {
    this.#lengths.delete(start);
    this.#starts.delete(start + length);
    this.#bins[binOf(length)]!.delete(start);
    this.#free -= length;
  }
}
