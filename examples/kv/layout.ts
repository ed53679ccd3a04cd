/**
 * How keys and values lie in registered memory, and how a reader tells whole bytes from torn ones. Pure.
 *
 * An RDMA READ is not atomic against the writes of the CPU, so everything in memory can be checked by itself, in two
 * ways. A stamp stands before and after what it belongs to, and is changed first and last: a READ that goes upwards
 * through memory and meets a change never sees the same stamp twice. A CRC-32 covers devices that read in any order.
 *
 * The table is an array of buckets of 256 bytes; all numbers are little-endian:
 *
 *     bucket   0 stamp: even, odd while it is written      slot  0 hash of the key
 *              4 CRC-32 of 8 … 251, begun with the stamp         4 bytes of the block, 0: the slot is free
 *              8 generation of the table                         8 number of the segment
 *             12 index of the bucket                            12 where the block begins in the segment
 *             16 flags                                          16 version, 64 bits
 *             28 eight slots of 28 bytes                        24 CRC-32 of the block without its last stamp
 *            252 stamp
 *
 * A block holds one key and its value. Its stamp is the low half of its version, never 0, and 0 as soon as the block is no
 * longer what a bucket names:
 *
 *     0 stamp, 4 high half of the version, 8 bytes of the key, 12 bytes of the value, 16 key, value, stamp at the next
 *     multiple of 4
 */
import { crc32 } from 'node:zlib';

export const MAX_KEY_BYTES = 255;
export const MAX_VALUE_BYTES = 1024 * 1024;

export const BUCKET_BYTES = 256;
export const BUCKET_SLOTS = 8;
const BUCKET_HEADER = 28;
const BUCKET_CLOSING = 252;
const SLOT_BYTES = 28;
const BLOCK_HEADER = 16;
const HIGH = 2 ** 32;

/** Some keys of the bucket had no slot left: only the server knows them. */
export const OVERFLOW = 1;
/** The table has been replaced by a larger one. */
export const RETIRED = 2;

/** Bytes of the longest block. */
export const MAX_BLOCK_BYTES = blockBytes(MAX_KEY_BYTES, MAX_VALUE_BYTES);

/** Where a key's block is. */
export interface Slot {
  readonly hash: number;
  readonly segment: number;
  /** Bytes from the start of the segment. */
  readonly offset: number;
  /** Bytes of the block. */
  readonly length: number;
  /** At most 2^53 - 1; no two blocks have the same. */
  readonly version: number;
  readonly checksum: number;
}

const fenceCell = new Int32Array(new SharedArrayBuffer(4));

/** Keeps compiler and processor from moving writes across it. */
export function fence(): void {
  Atomics.add(fenceCell, 0, 1);
}

/** Hash of a key, 32 bits: CRC-32, and the finalizer of MurmurHash3 so that every bit counts in the low ones. */
export function hashKey(key: Uint8Array, seed: number): number {
  // zlib answers 0 when it is given nothing.
  let hash = key.length === 0 ? seed : crc32(key, seed);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/** The version after [version]: its low half is never 0. */
export function nextVersion(version: number): number {
  const next = version + 1;
  return next % HIGH === 0 ? next + 1 : next;
}

/** Bytes of the block of a key and a value of so many bytes. */
export function blockBytes(keyBytes: number, valueBytes: number): number {
  return ((BLOCK_HEADER + keyBytes + valueBytes + 3) & ~3) + 4;
}

/** Writes a block into memory that no bucket names yet. @returns its checksum */
export function writeBlock(block: Buffer, key: Uint8Array, value: Uint8Array, version: number): number {
  const closing = block.length - 4;
  const end = BLOCK_HEADER + key.length + value.length;
  block.writeUInt32LE(0, 0);
  block.writeUInt32LE(0, closing);
  fence();
  block.writeUInt32LE(Math.floor(version / HIGH), 4);
  block.writeUInt32LE(key.length, 8);
  block.writeUInt32LE(value.length, 12);
  block.set(key, BLOCK_HEADER);
  block.set(value, BLOCK_HEADER + key.length);
  block.fill(0, end, closing);
  fence();
  block.writeUInt32LE(version % HIGH, closing);
  block.writeUInt32LE(version % HIGH, 0);
  fence();
  return crc32(block.subarray(0, closing));
}

/** Makes a block invalid for every reader, before its memory is used again. */
export function clearBlock(block: Buffer): void {
  block.writeUInt32LE(0, 0);
  block.writeUInt32LE(0, block.length - 4);
  fence();
}

/**
 * Reads a block that [slot] has told of.
 *
 * @returns the value, a view of [block]; 'torn' when the bytes are not those that the slot names, because they were being
 *   written or are used by others now; 'otherKey' when they are those of another key with the same hash
 */
export function readBlock(block: Buffer, slot: Slot, key: Uint8Array): Buffer | 'torn' | 'otherKey' {
  const closing = slot.length - 4;
  const stamp = slot.version % HIGH;
  const keyBytes = block.readUInt32LE(8);
  const valueBytes = block.readUInt32LE(12);
  if (
    block.readUInt32LE(0) !== stamp ||
    block.readUInt32LE(closing) !== stamp ||
    blockBytes(keyBytes, valueBytes) !== slot.length ||
    crc32(block.subarray(0, closing)) !== slot.checksum
  ) {
    return 'torn';
  }
  const keyEnd = BLOCK_HEADER + keyBytes;
  if (block.compare(key, 0, key.length, BLOCK_HEADER, keyEnd) !== 0) return 'otherKey';
  return block.subarray(keyEnd, keyEnd + valueBytes);
}

/** Writes an empty bucket. */
export function formatBucket(bucket: Buffer, index: number, generation: number): void {
  changeBucket(bucket, () => {
    bucket.fill(0, 8, BUCKET_CLOSING);
    bucket.writeUInt32LE(generation, 8);
    bucket.writeUInt32LE(index, 12);
  });
}

/** Lets [change] change what is between the stamps of a bucket; readers that meet it see a torn bucket. */
export function changeBucket(bucket: Buffer, change: () => void): void {
  const stamp = (bucket.readUInt32LE(0) + 2) >>> 0;
  bucket.writeUInt32LE((stamp - 1) >>> 0, 0);
  bucket.writeUInt32LE((stamp - 1) >>> 0, BUCKET_CLOSING);
  fence();
  change();
  bucket.writeUInt32LE(crc32(bucket.subarray(8, BUCKET_CLOSING), stamp), 4);
  fence();
  bucket.writeUInt32LE(stamp, BUCKET_CLOSING);
  bucket.writeUInt32LE(stamp, 0);
  fence();
}

/** Sets or frees a slot, within {@link changeBucket}. */
export function writeSlot(bucket: Buffer, position: number, slot: Slot | undefined): void {
  const at = BUCKET_HEADER + position * SLOT_BYTES;
  if (slot === undefined) {
    bucket.fill(0, at, at + SLOT_BYTES);
    return;
  }
  bucket.writeUInt32LE(slot.hash, at);
  bucket.writeUInt32LE(slot.length, at + 4);
  bucket.writeUInt32LE(slot.segment, at + 8);
  bucket.writeUInt32LE(slot.offset, at + 12);
  bucket.writeUInt32LE(slot.version % HIGH, at + 16);
  bucket.writeUInt32LE(Math.floor(slot.version / HIGH), at + 20);
  bucket.writeUInt32LE(slot.checksum, at + 24);
}

/** The flags of a bucket, OVERFLOW and RETIRED; within {@link changeBucket} they can be written. */
export function writeFlags(bucket: Buffer, flags: number): void {
  bucket.writeUInt32LE(flags, 16);
}

/** @see writeFlags */
export function readFlags(bucket: Buffer): number {
  return bucket.readUInt32LE(16);
}

/** Whether a slot is free. */
export function isFree(bucket: Buffer, position: number): boolean {
  return bucket.readUInt32LE(BUCKET_HEADER + position * SLOT_BYTES + 4) === 0;
}

/** Whether the bytes are those of a bucket that nobody was writing: 'other' when it is not the one that was asked for. */
export function checkBucket(bucket: Buffer, index: number, generation: number): 'whole' | 'torn' | 'other' {
  const stamp = bucket.readUInt32LE(0);
  if (
    stamp % 2 !== 0 ||
    stamp !== bucket.readUInt32LE(BUCKET_CLOSING) ||
    crc32(bucket.subarray(8, BUCKET_CLOSING), stamp) !== bucket.readUInt32LE(4)
  ) {
    return 'torn';
  }
  return bucket.readUInt32LE(8) === generation && bucket.readUInt32LE(12) === index ? 'whole' : 'other';
}

/** The slots of a whole bucket whose keys have this hash: mostly one or none. */
export function findSlots(bucket: Buffer, hash: number): Slot[] {
  const found: Slot[] = [];
  for (let position = 0; position < BUCKET_SLOTS; position++) {
    const at = BUCKET_HEADER + position * SLOT_BYTES;
    if (isFree(bucket, position) || bucket.readUInt32LE(at) !== hash) continue;
    found.push({
      hash,
      length: bucket.readUInt32LE(at + 4),
      segment: bucket.readUInt32LE(at + 8),
      offset: bucket.readUInt32LE(at + 12),
      version: bucket.readUInt32LE(at + 16) + bucket.readUInt32LE(at + 20) * HIGH,
      checksum: bucket.readUInt32LE(at + 24),
    });
  }
  return found;
}
