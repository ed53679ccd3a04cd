/** The client: fetches, stores and lists files of a server. */
import { open, stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import type { DmaCounters } from '../../lib/index.ts';
import { fileSource, readFully, TransferHash, writeFully } from './content.ts';
import type { Limits } from './hello.ts';
import { type Exposure, type Link, LostError, type Slot, type SlotMemory, Watchdog } from './link.ts';
import { PartFile } from './part-file.ts';
import {
  type Chunk,
  decodeResponse,
  encodeRequest,
  type HashTime,
  type Request,
  type Response,
  Status,
  TransferError,
} from './protocol.ts';
import { Turns } from './window.ts';

/** Settings of a transfer. */
export interface TransferOptions {
  /** When both ends compute the SHA-256. Default `after`. */
  hash?: HashTime;
  /** Called after every chunk, with the bytes that have arrived and the size of the file. */
  onProgress?: (done: number, size: number) => void;
  /** For get: whether the file is on the disk before it gets its name. Default false. */
  sync?: boolean;
}

/** What a transfer did. */
export interface TransferResult {
  /** Size of the file in bytes. */
  bytes: number;
  /**
   * Seconds from the request until the last byte was written to the destination file; file IO at both ends is in
   * it, and so is hashing when it is done `during`.
   */
  seconds: number;
  /** Seconds after that: what was left of hashing, comparing, and renaming the file. */
  verifySeconds: number;
  /** The hash that both ends found, hexadecimal. */
  sha256: string;
}

/** A request without its tag. */
type Untagged<T> = T extends { tag: number } ? Omit<T, 'tag'> : never;

const KEEP_ALIVE_MS = 1000;
const MAX_LIST_BYTES = 64 * 1024 * 1024;

/** One connection to a server. One transfer at a time; for more at once open more clients. */
export class FileClient {
  readonly #link: Link;
  readonly #pending = new Map<
    number,
    { resolve: (response: Response) => void; reject: (error: Error) => void }
  >();
  readonly #watchdog: Watchdog;
  readonly #keepAlive: NodeJS.Timeout;
  #keepAlivePending = false;
  #nextTag = 1;
  #busy = false;
  #lost: Error | undefined;

  /** Takes over an established connection. `timeoutMs`: a server silent for so long is given up. */
  constructor(link: Link, { timeoutMs = 5000 }: { timeoutMs?: number } = {}) {
    this.#link = link;
    this.#watchdog = new Watchdog(timeoutMs, (silentMs) => {
      void link.close(new LostError(`the server said nothing for ${silentMs} ms; it is taken for dead`));
    });
    this.#keepAlive = setInterval(() => this.#sendKeepAlive(), Math.min(KEEP_ALIVE_MS, timeoutMs / 4));
    this.#keepAlive.unref();
    link.onMessage((bytes) => this.#receive(bytes));
    void link.lost.then((reason) => this.#end(reason));
  }

  /** What the two ends agreed on. */
  get limits(): Limits {
    return this.#link.limits;
  }

  /** Strategy counters of the library for this connection. */
  get counters(): Readonly<DmaCounters> {
    return this.#link.counters;
  }

  /** Ends the connection. With a reason, a transfer that still runs rejects with it. */
  async close(reason?: Error): Promise<void> {
    await this.#link.close(reason);
  }

  #end(reason: Error): void {
    this.#lost = reason;
    this.#watchdog.stop();
    clearInterval(this.#keepAlive);
    for (const { reject } of this.#pending.values()) reject(reason);
    this.#pending.clear();
  }

  #receive(bytes: Buffer): void {
    this.#watchdog.heard();
    try {
      const response = decodeResponse(bytes);
      const waiting = this.#pending.get(response.tag);
      if (!waiting) {
        throw new TransferError(
          response.status || Status.PROTOCOL,
          response.text || `answer to unknown request ${response.tag}`,
        );
      }
      this.#pending.delete(response.tag);
      if (response.status === Status.OK) waiting.resolve(response);
      else waiting.reject(new TransferError(response.status, response.text));
    } catch (error) {
      void this.#link.close(error as Error);
    }
  }

  #request(request: Untagged<Request>): Promise<Response> {
    if (this.#lost) return Promise.reject(this.#lost);
    const tag = this.#nextTag;
    this.#nextTag = tag === 0xffffffff ? 1 : tag + 1;
    const message = encodeRequest({ ...request, tag } as Request);
    return new Promise((resolve, reject) => {
      this.#pending.set(tag, { resolve, reject });
      // A failed SEND ends the connection, which rejects everything pending.
      this.#link.send(message).catch(() => {});
    });
  }

  #sendKeepAlive(): void {
    if (this.#keepAlivePending) return;
    this.#keepAlivePending = true;
    this.#request({ kind: 'keepAlive' })
      .catch(() => {})
      .finally(() => {
        this.#keepAlivePending = false;
      });
  }

  /** Runs one transfer: nobody else meanwhile, and a failure is told to the server. */
  async #exclusive<T>(run: () => Promise<T>): Promise<T> {
    if (this.#busy) {
      throw new TransferError(
        Status.STATE,
        'a transfer is running on this connection; await it or connect once more',
      );
    }
    this.#busy = true;
    try {
      return await run();
    } catch (error) {
      await this.#request({ kind: 'abort' }).catch(() => {});
      throw error;
    } finally {
      this.#busy = false;
    }
  }

  /** Asks for all chunks of a file, as many at once as there are slots. `step` does this end's part of one. */
  async #runChunks(
    size: number,
    slots: readonly Slot[],
    step: (slot: Slot, chunk: Piece) => Promise<void>,
  ): Promise<void> {
    const { chunkBytes } = this.limits;
    let next = 0;
    let failure: unknown;
    const lane = async (slot: Slot): Promise<void> => {
      while (next < size && failure === undefined) {
        const offset = next;
        const length = Math.min(chunkBytes, size - offset);
        next += length;
        try {
          await step(slot, { offset, length, bytes: slot.bytes.subarray(0, length) });
        } catch (error) {
          failure ??= error;
        }
      }
    };
    // Every lane ends before the memory may go: a chunk in flight still uses its slot.
    await Promise.all(slots.slice(0, this.limits.depth).map(lane));
    if (failure !== undefined) throw failure;
  }

  #requestChunk(kind: Chunk['kind'], slot: Slot, { offset, length }: Piece): Promise<Response> {
    return this.#request({ kind, offset, length, addr: slot.addr, rkey: slot.rkey });
  }

  async #allocSlots(size: number, exposure: Exposure): Promise<SlotMemory> {
    const { chunkBytes, depth } = this.limits;
    const count = Math.max(2, Math.min(depth, Math.ceil(size / chunkBytes)));
    return this.#link.allocSlots(count, Math.min(chunkBytes, Math.max(size, 4096)), exposure);
  }

  /**
   * Fetches `name` into the file `destination` (or into a file of the same base name, if that is a directory).
   * The file appears under its name when it is complete and its hash agrees; an older one is replaced.
   */
  async get(name: string, destination: string, options: TransferOptions = {}): Promise<TransferResult> {
    return this.#exclusive(async () => {
      const start = performance.now();
      const path = await this.#destination(name, destination);
      const { size } = await this.#request({ kind: 'openGet', hash: options.hash ?? 'after', name });
      const part = await PartFile.create(path);
      try {
        const hash = new TransferHash(options.hash ?? 'after');
        const write = (bytes: Buffer, offset: number): Promise<void> =>
          writeFully(part.handle, bytes, offset);
        const read = (into: Buffer, offset: number): Promise<void> => readFully(part.handle, into, offset);
        const result = await this.#fetch(size, start, hash, write, read, options);
        await part.commit(options.sync);
        return result;
      } catch (error) {
        await part.discard();
        throw error;
      }
    });
  }

  async #destination(name: string, destination: string): Promise<string> {
    const path = resolve(destination);
    const isDirectory = (await stat(path).catch(() => undefined))?.isDirectory() ?? false;
    return isDirectory ? join(path, basename(name)) : path;
  }

  /** The chunks of an open get, and its end. */
  async #fetch(
    size: number,
    start: number,
    hash: TransferHash,
    write: (bytes: Buffer, offset: number) => Promise<void>,
    read: (into: Buffer, offset: number) => Promise<void>,
    { onProgress }: TransferOptions,
  ): Promise<TransferResult> {
    const memory = await this.#allocSlots(size, 'peerWrites');
    const turns = new Turns();
    let done = 0;
    try {
      await this.#runChunks(size, memory.slots, async (slot, piece) => {
        try {
          await this.#requestChunk('getChunk', slot, piece);
          const written = write(piece.bytes, piece.offset);
          await Promise.all([written, this.#hashInTurn(turns, hash, piece)]);
          done += piece.length;
          onProgress?.(done, size);
        } catch (error) {
          turns.fail(error as Error);
          throw error;
        }
      });
      return await this.#verify(size, start, hash, read, memory);
    } finally {
      await memory.close();
    }
  }

  async #hashInTurn(turns: Turns, hash: TransferHash, { offset, length, bytes }: Piece): Promise<void> {
    await turns.wait(offset);
    hash.update(bytes);
    turns.advance(offset + length);
  }

  async #verify(
    size: number,
    start: number,
    hash: TransferHash,
    read: (into: Buffer, offset: number) => Promise<void>,
    memory: SlotMemory,
  ): Promise<TransferResult> {
    const arrived = performance.now();
    const [one, two] = memory.slots;
    const sha256 = await hash.digest(size, read, [one!.bytes, two!.bytes]);
    const response = await this.#request({ kind: 'close', sha256 });
    if (!response.sha256.equals(sha256)) {
      throw new TransferError(
        Status.HASH,
        `SHA-256 differs: server ${response.sha256.toString('hex')}, client ${sha256.toString('hex')}`,
      );
    }
    return {
      bytes: size,
      seconds: (arrived - start) / 1000,
      verifySeconds: (performance.now() - arrived) / 1000,
      sha256: sha256.toString('hex'),
    };
  }

  /** Stores the file `path` as `name` (default: its base name). A file of that name is replaced at once at the end. */
  async put(path: string, name = basename(path), options: TransferOptions = {}): Promise<TransferResult> {
    return this.#exclusive(async () => {
      const start = performance.now();
      const handle = await open(path);
      const stats = await handle.stat();
      if (!stats.isFile()) {
        await handle.close();
        throw new TransferError(
          Status.NOT_A_FILE,
          `${path} is not a regular file; only regular files are transferred`,
        );
      }
      const source = await fileSource(handle);
      try {
        const { size } = source;
        await this.#request({ kind: 'openPut', hash: options.hash ?? 'after', name, size });
        const hash = new TransferHash(options.hash ?? 'after');
        const memory = await this.#allocSlots(size, 'peerReads');
        const turns = new Turns();
        let done = 0;
        try {
          await this.#runChunks(size, memory.slots, async (slot, piece) => {
            try {
              await source.read(piece.bytes, piece.offset);
              await turns.wait(piece.offset);
              const stored = this.#requestChunk('putChunk', slot, piece);
              hash.update(piece.bytes);
              turns.advance(piece.offset + piece.length);
              await stored;
              done += piece.length;
              options.onProgress?.(done, size);
            } catch (error) {
              turns.fail(error as Error);
              throw error;
            }
          });
          await source.checkUnchanged();
          return await this.#verify(size, start, hash, source.read, memory);
        } finally {
          await memory.close();
        }
      } finally {
        await source.close();
      }
    });
  }

  /** The server's files: every regular file below its directory, with its size in bytes. */
  async list(): Promise<{ name: string; size: number }[]> {
    return this.#exclusive(async () => {
      const { size } = await this.#request({ kind: 'openList' });
      if (size > MAX_LIST_BYTES) {
        throw new TransferError(
          Status.PROTOCOL,
          `the list has ${size} bytes; the limit is ${MAX_LIST_BYTES}`,
        );
      }
      const text = Buffer.alloc(size);
      const write = async (bytes: Buffer, offset: number): Promise<void> => {
        bytes.copy(text, offset);
      };
      const read = async (): Promise<void> => {};
      await this.#fetch(size, performance.now(), new TransferHash('during'), write, read, {});
      return parseList(text.toString('utf8'));
    });
  }
}

/** One chunk of the file, and the registered memory that holds it. */
interface Piece {
  offset: number;
  length: number;
  bytes: Buffer;
}

function parseList(text: string): { name: string; size: number }[] {
  const isEntry = (entry: unknown): entry is { name: string; size: number } => {
    const { name, size } = (entry ?? {}) as Record<string, unknown>;
    return typeof name === 'string' && Number.isSafeInteger(size);
  };
  try {
    const entries: unknown = JSON.parse(text);
    if (Array.isArray(entries) && entries.every(isEntry)) return entries;
  } catch {
    // Said below, as for every other shape that is not a list.
  }
  throw new TransferError(Status.PROTOCOL, 'the server sent a list that is not one');
}
