/** Keys and values in memory that may be read from outside at any time. Knows nothing of connections and devices. */
import { randomBytes } from 'node:crypto';
import { KvError } from './errors.ts';
import { Extents } from './extents.ts';
import {
  BUCKET_SLOTS,
  blockBytes,
  clearBlock,
  hashKey,
  MAX_KEY_BYTES,
  MAX_VALUE_BYTES,
  nextVersion,
  type Slot,
  writeBlock,
} from './layout.ts';
import { Table } from './table.ts';

/** Bytes of a segment: values lie in segments, which are registered one by one. */
export const SEGMENT_BYTES = 16 * 1024 * 1024;
/** The table grows when more than so much of its slots is taken: few buckets are full then. */
const MAX_LOAD = 0.6;
const MAX_BUCKETS = 262_144;
const BLOCK_HEADER_BYTES = 16;

/** What a store is made with. */
export interface StoreOptions {
  /** Bytes for keys and values, a multiple of 4096; 64 MiB by default. */
  readonly memoryBytes?: number;
  /** Buckets of the first table, a power of two; 1024 by default. */
  readonly buckets?: number;
}

/** What a reader must know to find keys by itself. */
export interface Published {
  readonly table: Table;
  readonly segments: readonly ArrayBuffer[];
  /** Of {@link hashKey}. */
  readonly seed: number;
}

/** A value, as the server hands it out. */
export interface Stored {
  /** A copy. */
  readonly value: Buffer;
  readonly version: number;
}

interface Entry {
  slot: Slot;
  /** Where the table has it; -1: nowhere. */
  position: number;
}

/** A value that has its memory and is not published yet. */
export interface Prepared {
  readonly key: Buffer;
  readonly version: number;
  readonly slot: Slot;
}

/** What a store holds. */
export interface StoreStats {
  readonly keys: number;
  /** Bytes of blocks that are free. */
  readonly freeBytes: number;
  readonly memoryBytes: number;
  readonly buckets: number;
  /** Tables made so far. */
  readonly generation: number;
  /** Keys that only a message finds. */
  readonly overflowed: number;
}

/** @throws KvError ERR_KV_INVALID for a key or a value that is too long */
export function checkLengths(keyBytes: number, valueBytes = 0): void {
  if (keyBytes > MAX_KEY_BYTES) {
    throw new KvError(
      'ERR_KV_INVALID',
      `the key has ${keyBytes} bytes; at most ${MAX_KEY_BYTES} are possible`,
    );
  }
  if (valueBytes > MAX_VALUE_BYTES) {
    throw new KvError(
      'ERR_KV_INVALID',
      `the value has ${valueBytes} bytes; at most ${MAX_VALUE_BYTES} are possible`,
    );
  }
}

/**
 * The store. A value is written to memory that nobody reads, and then published: {@link prepare}, {@link publish}. What it
 * replaces is made invalid before that, so a reader finds the old value or the new one and never anything else.
 */
export class Store {
  readonly #entries = new Map<string, Entry>();
  readonly #segments: { memory: ArrayBuffer; bytes: Buffer; extents: Extents }[] = [];
  readonly #seed = randomBytes(4).readUInt32LE();
  #table: Table;
  #version = 0;
  #overflowed = 0;

  constructor({ memoryBytes = 64 * 1024 * 1024, buckets = 1024 }: StoreOptions = {}) {
    if (!Number.isInteger(memoryBytes / 4096) || memoryBytes < 4096 || memoryBytes > 4 * 2 ** 30) {
      throw new KvError(
        'ERR_KV_INVALID',
        `memory is ${memoryBytes} bytes; give a multiple of 4096 up to 4 GiB`,
      );
    }
    if (!Number.isInteger(Math.log2(buckets)) || buckets > MAX_BUCKETS) {
      throw new KvError('ERR_KV_INVALID', `buckets is ${buckets}; give a power of two up to ${MAX_BUCKETS}`);
    }
    for (let left = memoryBytes; left > 0; left -= SEGMENT_BYTES) {
      const memory = new ArrayBuffer(Math.min(left, SEGMENT_BYTES));
      this.#segments.push({ memory, bytes: Buffer.from(memory), extents: new Extents(memory.byteLength) });
    }
    this.#table = new Table(buckets, 1);
  }

  get published(): Published {
    return { table: this.#table, segments: this.#segments.map(({ memory }) => memory), seed: this.#seed };
  }

  get stats(): StoreStats {
    return {
      keys: this.#entries.size,
      freeBytes: this.#segments.reduce((sum, { extents }) => sum + extents.free, 0),
      memoryBytes: this.#segments.reduce((sum, { memory }) => sum + memory.byteLength, 0),
      buckets: this.#table.buckets,
      generation: this.#table.generation,
      overflowed: this.#overflowed,
    };
  }

  /** Copies of all keys, in the order of their bytes. */
  keys(): Buffer[] {
    return [...this.#entries.keys()].map((name) => Buffer.from(name, 'latin1')).sort(Buffer.compare);
  }

  get(key: Buffer): Stored | undefined {
    const entry = this.#entries.get(nameOf(key));
    if (entry === undefined) return undefined;
    const block = this.#block(entry.slot);
    const start = BLOCK_HEADER_BYTES + key.length;
    return {
      value: Buffer.from(block.subarray(start, start + block.readUInt32LE(12))),
      version: entry.slot.version,
    };
  }

  /**
   * Puts a value into memory of its own.
   *
   * @param version by default the next one
   * @throws KvError ERR_KV_FULL, ERR_KV_INVALID
   */
  prepare(key: Buffer, value: Uint8Array, version = nextVersion(this.#version)): Prepared {
    checkLengths(key.length, value.length);
    this.#version = Math.max(this.#version, version);
    const length = blockBytes(key.length, value.length);
    for (const [segment, { bytes, extents }] of this.#segments.entries()) {
      const offset = extents.alloc(length);
      if (offset < 0) continue;
      const checksum = writeBlock(bytes.subarray(offset, offset + length), key, value, version);
      const slot = { hash: hashKey(key, this.#seed), segment, offset, length, version, checksum };
      return { key, version, slot };
    }
    const { memoryBytes, freeBytes } = this.stats;
    throw new KvError(
      'ERR_KV_FULL',
      `no room for ${length} bytes: ${freeBytes} of ${memoryBytes} bytes are free, in smaller pieces; delete keys or serve with more memory`,
    );
  }

  /** Makes a prepared value the key's. */
  publish({ key, slot }: Prepared): void {
    const name = nameOf(key);
    const entry = this.#entries.get(name);
    if (entry !== undefined) {
      const old = entry.slot;
      clearBlock(this.#block(old));
      this.#table.replace(entry.position, slot);
      entry.slot = slot;
      this.#free(old);
      return;
    }
    const position = this.#table.insert(slot);
    if (position < 0) this.#overflowed++;
    this.#entries.set(name, { slot, position });
    this.#grow();
  }

  /** Gives up a prepared value. */
  discard({ slot }: Prepared): void {
    clearBlock(this.#block(slot));
    this.#free(slot);
  }

  has(key: Buffer): boolean {
    return this.#entries.has(nameOf(key));
  }

  /** @returns false when there is no such key */
  delete(key: Buffer): boolean {
    const name = nameOf(key);
    const entry = this.#entries.get(name);
    if (entry === undefined) return false;
    const { slot, position } = entry;
    clearBlock(this.#block(slot));
    this.#table.remove(position, slot.hash);
    if (position < 0) this.#overflowed--;
    this.#entries.delete(name);
    this.#free(slot);
    return true;
  }

  /** Twice as many buckets once most are taken. The old table stays as long as somebody has it. */
  #grow(): void {
    const old = this.#table;
    if (this.#entries.size <= old.buckets * BUCKET_SLOTS * MAX_LOAD || old.buckets >= MAX_BUCKETS) return;
    const table = new Table(old.buckets * 2, old.generation + 1);
    this.#overflowed = 0;
    for (const entry of this.#entries.values()) {
      entry.position = table.insert(entry.slot);
      if (entry.position < 0) this.#overflowed++;
    }
    this.#table = table;
    old.retire();
  }

  #block({ segment, offset, length }: Slot): Buffer {
    return this.#segments[segment]!.bytes.subarray(offset, offset + length);
  }

  #free({ segment, offset, length }: Slot): void {
    this.#segments[segment]!.extents.release(offset, length);
  }
}

/** A key as the key of a map: one character for each byte. */
export function nameOf(key: Buffer): string {
  return key.toString('latin1');
}
