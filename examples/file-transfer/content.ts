/** The bytes of a transfer and their SHA-256. */
import { createHash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { type HashTime, Status, TransferError } from './protocol.ts';

/** Something to send: a file, or bytes made for the occasion. */
export interface Source {
  readonly size: number;
  /** Fills `into` from `offset`. Rejects with TransferError (CHANGED) when the file has become shorter. */
  read(into: Buffer, offset: number): Promise<void>;
  /** Rejects with TransferError (CHANGED) when the file was written to since it was opened. */
  checkUnchanged(): Promise<void>;
  close(): Promise<void>;
}

/** Reads exactly `into.length` bytes. */
export async function readFully(handle: FileHandle, into: Buffer, offset: number): Promise<void> {
  for (let done = 0; done < into.length; ) {
    const { bytesRead } = await handle.read(into, done, into.length - done, offset + done);
    if (bytesRead === 0) {
      throw new TransferError(
        Status.CHANGED,
        `the file became shorter than ${offset + into.length} bytes meanwhile`,
      );
    }
    done += bytesRead;
  }
}

/** Writes all of `from`. */
export async function writeFully(handle: FileHandle, from: Buffer, offset: number): Promise<void> {
  for (let done = 0; done < from.length; ) {
    const { bytesWritten } = await handle.write(from, done, from.length - done, offset + done);
    done += bytesWritten;
  }
}

/** An open file as a source. Owns the handle. */
export async function fileSource(handle: FileHandle): Promise<Source> {
  const opened = await handle.stat({ bigint: true });
  return {
    size: Number(opened.size),
    read: (into, offset) => readFully(handle, into, offset),
    async checkUnchanged() {
      const now = await handle.stat({ bigint: true });
      if (now.size === opened.size && now.mtimeNs === opened.mtimeNs) return;
      throw new TransferError(Status.CHANGED, 'the file was changed while it was being sent; try again');
    },
    close: () => handle.close(),
  };
}

/** Bytes in memory as a source. */
export function bufferSource(bytes: Buffer): Source {
  return {
    size: bytes.length,
    async read(into, offset) {
      bytes.copy(into, 0, offset, offset + into.length);
    },
    async checkUnchanged() {},
    async close() {},
  };
}

/**
 * SHA-256 of a transfer. `during`: of the chunks as they pass, which costs CPU while data move. `after`: by reading
 * the file once more when all has arrived, which keeps the CPUs free meanwhile and checks what the file holds.
 */
export class TransferHash {
  readonly time: HashTime;
  readonly #hash = createHash('sha256');

  constructor(time: HashTime) {
    this.time = time;
  }

  /** Takes the next chunk. Chunks come in order. */
  update(bytes: Buffer): void {
    if (this.time === 'during') this.#hash.update(bytes);
  }

  /** The hash of the whole. `scratch` holds two buffers: one is read into while the other is hashed. */
  async digest(
    size: number,
    read: (into: Buffer, offset: number) => Promise<void>,
    scratch: readonly [Buffer, Buffer],
  ): Promise<Buffer> {
    if (this.time === 'during') return this.#hash.digest();
    const step = Math.min(scratch[0].length, scratch[1].length);
    const readAt = async (offset: number): Promise<Buffer> => {
      const into = scratch[(offset / step) % 2 === 0 ? 0 : 1].subarray(0, Math.min(step, size - offset));
      await read(into, offset);
      return into;
    };
    let next = size > 0 ? readAt(0) : undefined;
    for (let offset = step; next; offset += step) {
      const bytes: Buffer = await next;
      next = offset < size ? readAt(offset) : undefined;
      // The next read runs in the thread pool while this thread hashes; an early failure is seen by the next turn.
      next?.catch(() => {});
      this.#hash.update(bytes);
    }
    return this.#hash.digest();
  }
}
