/**
 * The file that keeps a store: every PUT and DELETE, in order. What is written whole counts; a record that a killed server
 * has left half written is the last one, and is cut off.
 *
 *     file: "nrkvlog1", records      record: 0 CRC-32 of what follows, 4 operation, 5 bytes of the key, 8 bytes of the
 *                                            value, 12 version (64 bits), 20 key, value
 */
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import { KvError } from './errors.ts';
import { MAX_KEY_BYTES, MAX_VALUE_BYTES } from './layout.ts';

/** A change of the store; without a value the key was deleted. */
export interface Change {
  readonly key: Buffer;
  readonly version: number;
  readonly value?: Uint8Array | undefined;
}

/** Settings of a log. */
export interface LogOptions {
  readonly path: string;
  /** Have every change on the disk before it is answered, not only in the page cache. */
  readonly sync: boolean;
  /** All keys and values, when the log is written anew. */
  readonly snapshot: () => Iterable<Change>;
  /** Bytes of the live keys and values, about. */
  readonly liveBytes: () => number;
  /** The log is written anew at twice the live bytes and these, 16 MiB by default. */
  readonly slackBytes?: number;
}

const MAGIC = Buffer.from('nrkvlog1');
const HEADER_BYTES = 20;
const MAX_RECORD_BYTES = HEADER_BYTES + MAX_KEY_BYTES + MAX_VALUE_BYTES;
const CHUNK_BYTES = 4 * 1024 * 1024;
const SLACK_BYTES = 16 * 1024 * 1024;
const HIGH = 2 ** 32;
const PUT = 1;
const DELETE = 2;
const NO_VALUE = new Uint8Array(0);

interface Waiting {
  readonly record: readonly Uint8Array[];
  readonly apply: () => void;
  readonly reject: (error: Error) => void;
}

/** Appends changes and calls back when they are in the file, in the same order. */
export class Log {
  readonly #options: LogOptions;
  #file: FileHandle;
  #size: number;
  #waiting: Waiting[] = [];
  #writing: Promise<void> | undefined;
  #broken: Error | undefined;

  private constructor(options: LogOptions, file: FileHandle, size: number) {
    this.#options = options;
    this.#file = file;
    this.#size = size;
  }

  /**
   * Opens or creates the file and has every change in it replayed.
   *
   * @param onCut told how many bytes of an unfinished record were cut off
   * @throws KvError ERR_KV_LOG when it is not a log, or is damaged before its last record
   */
  static async open(
    options: LogOptions,
    replay: (change: Change) => void,
    onCut: (bytes: number) => void = () => {},
  ): Promise<Log> {
    const { path } = options;
    // What a killed server has left of writing its log anew.
    await rm(`${path}.new`, { force: true });
    const file = await open(path, 'a+');
    try {
      const { size } = await file.stat();
      // A server that was killed as it made the file may have left a part of the first bytes.
      const begun = size >= MAGIC.length;
      const end = begun ? await replayFile(file, path, size, replay) : 0;
      if (end < size) {
        await file.truncate(end);
        onCut(size - end);
      }
      if (!begun) await file.appendFile(MAGIC);
      return new Log(options, file, Math.max(end, MAGIC.length));
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** Bytes of the file. */
  get size(): number {
    return this.#size;
  }

  /**
   * Appends a change and calls [apply] once it is in the file, after those that were appended before.
   *
   * @throws KvError ERR_KV_LOG when it can not be written; then nothing can any more
   */
  append<T>(change: Change, apply: () => T): Promise<T> {
    return new Promise((resolve, reject) => {
      const record = encodeChange(change);
      this.#waiting.push({ record, apply: () => resolve(apply()), reject });
      this.#writing ??= this.#write();
    });
  }

  /** Writes what waits, in one go; what is appended meanwhile goes with the next. */
  async #write(): Promise<void> {
    while (this.#waiting.length > 0) {
      const batch = this.#waiting;
      this.#waiting = [];
      try {
        if (this.#broken !== undefined) throw this.#broken;
        await this.#append(batch.flatMap(({ record }) => record));
      } catch (error) {
        this.#broken ??= new KvError(
          'ERR_KV_LOG',
          `${this.#options.path} can not be written: ${(error as Error).message}; nothing is stored any more`,
          { cause: error },
        );
        for (const { reject } of batch) reject(this.#broken);
        continue;
      }
      for (const { apply } of batch) apply();
      await this.#compactWhenDue();
    }
    this.#writing = undefined;
  }

  async #append(buffers: Uint8Array[]): Promise<void> {
    await writeAll(this.#file, buffers);
    if (this.#options.sync) await this.#file.datasync();
    this.#size += lengthOf(buffers);
  }

  /** PUTs wait meanwhile; GETs do not need the server. */
  async #compactWhenDue(): Promise<void> {
    const { path, snapshot, liveBytes, slackBytes = SLACK_BYTES } = this.#options;
    if (this.#size < 2 * liveBytes() + slackBytes) return;
    let size = MAGIC.length;
    try {
      const file = await open(`${path}.new`, 'ax');
      let batch: Uint8Array[] = [MAGIC];
      let bytes = 0;
      for (const change of snapshot()) {
        const record = encodeChange(change);
        batch.push(...record);
        bytes += lengthOf(record);
        if (bytes < CHUNK_BYTES) continue;
        await writeAll(file, batch);
        size += bytes;
        [batch, bytes] = [[], 0];
      }
      await writeAll(file, batch);
      await file.datasync();
      await rename(`${path}.new`, path);
      await this.#file.close();
      this.#file = file;
      this.#size = size + bytes;
    } catch (error) {
      this.#broken = new KvError(
        'ERR_KV_LOG',
        `${path} can not be written anew: ${(error as Error).message}`,
        { cause: error },
      );
    }
  }

  /** Resolves when everything is in the file. */
  async close(): Promise<void> {
    await this.#writing;
    await this.#file.close();
  }
}

function lengthOf(buffers: readonly Uint8Array[]): number {
  return buffers.reduce((sum, { length }) => sum + length, 0);
}

function encodeChange({ key, version, value }: Change): Uint8Array[] {
  const header = Buffer.alloc(HEADER_BYTES);
  const bytes = value ?? NO_VALUE;
  header.writeUInt8(value === undefined ? DELETE : PUT, 4);
  header.writeUInt8(key.length, 5);
  header.writeUInt32LE(bytes.length, 8);
  header.writeUInt32LE(version % HIGH, 12);
  header.writeUInt32LE(Math.floor(version / HIGH), 16);
  // zlib begins anew when it is given nothing.
  const record = [header, key, bytes].filter(({ length }) => length > 0);
  const checked = [header.subarray(4), ...record.slice(1)];
  header.writeUInt32LE(
    checked.reduce((crc, part) => crc32(part, crc), 0),
    0,
  );
  return record;
}

/** Linux takes 1024 buffers at a time, and may write less than all. */
async function writeAll(file: FileHandle, buffers: readonly Uint8Array[]): Promise<void> {
  for (let at = 0; at < buffers.length; at += 1024) {
    const group = buffers.slice(at, at + 1024);
    const { bytesWritten } = await file.writev(group);
    if (bytesWritten < lengthOf(group)) await file.appendFile(Buffer.concat(group).subarray(bytesWritten));
  }
}

/** @returns where the last whole record ends */
async function replayFile(
  file: FileHandle,
  path: string,
  size: number,
  replay: (change: Change) => void,
): Promise<number> {
  const chunk = Buffer.alloc(CHUNK_BYTES + MAX_RECORD_BYTES);
  let position = 0;
  let [start, end] = [0, 0];
  /** Whether [bytes] from [start] on are in the chunk. */
  const have = async (bytes: number): Promise<boolean> => {
    if (end - start < bytes) {
      chunk.copyWithin(0, start, end);
      [start, end] = [0, end - start];
      const { bytesRead } = await file.read(chunk, end, chunk.length - end, position + end);
      end += bytesRead;
    }
    return end - start >= bytes;
  };
  const damaged = (what: string): KvError =>
    new KvError('ERR_KV_LOG', `${path}: ${what} at byte ${position}; restore it, or begin with another file`);
  if (!(await have(MAGIC.length)) || !chunk.subarray(0, MAGIC.length).equals(MAGIC)) {
    throw damaged('this is not the log of a store');
  }
  position = MAGIC.length;
  start = position;
  while (await have(HEADER_BYTES)) {
    const keyBytes = chunk.readUInt8(start + 5);
    const bytes = HEADER_BYTES + keyBytes + chunk.readUInt32LE(start + 8);
    if (bytes > MAX_RECORD_BYTES) throw damaged(`a record of ${bytes} bytes`);
    if (!(await have(bytes))) break;
    const record = chunk.subarray(start, start + bytes);
    if (crc32(record.subarray(4)) !== record.readUInt32LE(0)) {
      if (position + bytes === size) break;
      throw damaged('a record with a wrong checksum');
    }
    replay(decodeChange(record, keyBytes));
    position += bytes;
    start += bytes;
  }
  return position;
}

function decodeChange(record: Buffer, keyBytes: number): Change {
  const version = record.readUInt32LE(12) + record.readUInt32LE(16) * HIGH;
  const key = Buffer.from(record.subarray(HEADER_BYTES, HEADER_BYTES + keyBytes));
  if (record.readUInt8(4) === DELETE) return { key, version };
  return { key, version, value: record.subarray(HEADER_BYTES + keyBytes) };
}
