/** The published table: what clients READ to find a key. The server's own index is the map of {@link Store}. */
import {
  BUCKET_BYTES,
  BUCKET_SLOTS,
  changeBucket,
  formatBucket,
  isFree,
  OVERFLOW,
  RETIRED,
  type Slot,
  writeFlags,
  writeSlot,
} from './layout.ts';

/** An array of buckets in memory of its own. */
export class Table {
  /** The memory that clients may read. */
  readonly memory: ArrayBuffer;
  /** A power of two. */
  readonly buckets: number;
  /** Number of the table: a larger one that replaces it has the next. */
  readonly generation: number;
  readonly #bytes: Buffer;
  /** Keys of each bucket that found no slot. */
  readonly #overflowed: Uint32Array;

  constructor(buckets: number, generation: number) {
    this.memory = new ArrayBuffer(buckets * BUCKET_BYTES);
    this.buckets = buckets;
    this.generation = generation;
    this.#bytes = Buffer.from(this.memory);
    this.#overflowed = new Uint32Array(buckets);
    for (let index = 0; index < buckets; index++) formatBucket(this.#bucket(index), index, generation);
  }

  /** Publishes a key. @returns the position of its slot, or -1: only the server knows it, and the bucket says so */
  insert(slot: Slot): number {
    const index = slot.hash & (this.buckets - 1);
    const bucket = this.#bucket(index);
    for (let position = 0; position < BUCKET_SLOTS; position++) {
      if (!isFree(bucket, position)) continue;
      changeBucket(bucket, () => writeSlot(bucket, position, slot));
      return position;
    }
    this.#overflowed[index]!++;
    if (this.#overflowed[index] === 1) changeBucket(bucket, () => writeFlags(bucket, OVERFLOW));
    return -1;
  }

  /** Publishes another block of the key at [position]. Nothing is published of a key without a slot. */
  replace(position: number, slot: Slot): void {
    if (position < 0) return;
    const bucket = this.#bucket(slot.hash & (this.buckets - 1));
    changeBucket(bucket, () => writeSlot(bucket, position, slot));
  }

  /** Takes a key out. */
  remove(position: number, hash: number): void {
    const index = hash & (this.buckets - 1);
    const bucket = this.#bucket(index);
    if (position >= 0) {
      changeBucket(bucket, () => writeSlot(bucket, position, undefined));
      return;
    }
    this.#overflowed[index]!--;
    if (this.#overflowed[index] === 0) changeBucket(bucket, () => writeFlags(bucket, 0));
  }

  /** Tells whoever still reads this table that there is another. */
  retire(): void {
    for (let index = 0; index < this.buckets; index++) {
      const bucket = this.#bucket(index);
      changeBucket(bucket, () => writeFlags(bucket, RETIRED));
    }
  }

  #bucket(index: number): Buffer {
    return this.#bytes.subarray(index * BUCKET_BYTES, (index + 1) * BUCKET_BYTES);
  }
}
