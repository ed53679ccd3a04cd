/** GET by RDMA READ alone: finds a key in the server's memory and checks what it finds. Knows no device. */
import {
  BUCKET_BYTES,
  checkBucket,
  findSlots,
  hashKey,
  MAX_BLOCK_BYTES,
  OVERFLOW,
  RETIRED,
  readBlock,
  readFlags,
  type Slot,
} from './layout.ts';
import type { Description, Memory } from './protocol.ts';

/** What happened to one-sided GETs. */
export interface ReaderCounters {
  /** RDMA READs. */
  reads: number;
  /** Buckets that were being written. */
  tornBuckets: number;
  /** Blocks that were being written, or were others' by then. */
  tornBlocks: number;
  /** Keys found at once, where they had been before. */
  hits: number;
  /** Keys that were not any more where they had been before. */
  moved: number;
}

/** Counters at 0. */
export function readerCounters(): ReaderCounters {
  return { reads: 0, tornBuckets: 0, tornBlocks: 0, hits: 0, moved: 0 };
}

/**
 * Reads [length] bytes at [offset] of the peer's memory and calls [use] with them; they are of use only there.
 *
 * @throws what the connection's end throws
 */
export type ReadMemory = <T>(
  memory: Memory,
  offset: number,
  length: number,
  use: (bytes: Buffer) => T,
) => Promise<T>;

/** What a reader finds. */
export type Found =
  | { readonly outcome: 'value'; readonly value: Buffer; readonly version: number }
  | { readonly outcome: 'absent' }
  /** The table has been replaced: a new description is needed. */
  | { readonly outcome: 'retired' }
  /** The server has to be asked: the key has no slot, or is written all the time. */
  | { readonly outcome: 'ask' };

/** READs of a bucket, or of a block, that may come back torn before the server is asked. */
export const MAX_ATTEMPTS = 8;
/** Keys whose places are remembered. */
const MAX_PLACES = 65_536;

/** Reads the table of one description. */
export class Reader {
  readonly description: Description;
  readonly #read: ReadMemory;
  readonly #counters: ReaderCounters;
  /** Where keys were found: the segments outlive the tables, and a block that is no longer valid says so. */
  readonly #places: Map<string, Slot>;

  /** [places] are shared by the readers of one connection. */
  constructor(
    description: Description,
    read: ReadMemory,
    counters: ReaderCounters,
    places = new Map<string, Slot>(),
  ) {
    this.description = description;
    this.#read = read;
    this.#counters = counters;
    this.#places = places;
  }

  /**
   * Finds a key. The value is the one that the key had at some time between the call and the answer.
   *
   * @throws what a READ throws, when the connection ends or the lease is over
   */
  async get(key: Buffer): Promise<Found> {
    const name = key.toString('latin1');
    const place = this.#places.get(name);
    if (place !== undefined) {
      const value = await this.#readBlock(place, key);
      if (typeof value !== 'string') {
        this.#counters.hits++;
        return { outcome: 'value', value, version: place.version };
      }
      this.#counters.moved++;
      this.#places.delete(name);
    }
    const hash = hashKey(key, this.description.seed);
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      const bucket = await this.#readBucket(hash);
      if (bucket === 'retired') return { outcome: 'retired' };
      if (bucket === 'torn') {
        this.#counters.tornBuckets++;
        continue;
      }
      let torn = false;
      for (const slot of bucket.slots) {
        const value = await this.#readBlock(slot, key);
        if (typeof value !== 'string') {
          this.#remember(name, slot);
          return { outcome: 'value', value, version: slot.version };
        }
        if (value === 'torn') torn = true;
      }
      if (!torn) return { outcome: bucket.overflowed ? 'ask' : 'absent' };
      this.#counters.tornBlocks++;
    }
    return { outcome: 'ask' };
  }

  #readBucket(hash: number): Promise<'torn' | 'retired' | { slots: Slot[]; overflowed: boolean }> {
    const { table, generation } = this.description;
    const index = hash & (table.length / BUCKET_BYTES - 1);
    this.#counters.reads++;
    return this.#read(table, index * BUCKET_BYTES, BUCKET_BYTES, (bytes) => {
      const state = checkBucket(bytes, index, generation);
      if (state === 'torn') return 'torn';
      const flags = readFlags(bytes);
      if (state === 'other' || (flags & RETIRED) !== 0) return 'retired';
      return { slots: findSlots(bytes, hash), overflowed: (flags & OVERFLOW) !== 0 };
    });
  }

  async #readBlock(slot: Slot, key: Buffer): Promise<Buffer | 'torn' | 'otherKey'> {
    const segment = this.description.segments[slot.segment];
    const { offset, length } = slot;
    if (segment === undefined || length > MAX_BLOCK_BYTES || offset + length > segment.length) {
      throw new Error(
        `the table names ${length} bytes at ${offset} of segment ${slot.segment}: it is damaged`,
      );
    }
    this.#counters.reads++;
    return this.#read(segment, offset, length, (bytes) => {
      const value = readBlock(bytes, slot, key);
      return typeof value === 'string' ? value : Buffer.from(value);
    });
  }

  #remember(name: string, slot: Slot): void {
    if (this.#places.size >= MAX_PLACES) {
      const [oldest] = this.#places.keys();
      this.#places.delete(oldest!);
    }
    this.#places.set(name, slot);
  }
}
