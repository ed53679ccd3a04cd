/** A namespace in a file. */
import {
  close,
  closeSync,
  fdatasync,
  fstat,
  ftruncate,
  open,
  read,
  readSync,
  write,
  writeSync,
} from 'node:fs';
import { promisify } from 'node:util';
import type { Backend } from './backend.ts';

const ZEROS = new Uint8Array(1024 * 1024);
const calls = {
  open: promisify(open),
  fstat: promisify(fstat),
  ftruncate: promisify(ftruncate),
  fdatasync: promisify(fdatasync),
  close: promisify(close),
};

/** `read` or `write` of node:fs. */
type Move = (
  fd: number,
  bytes: Uint8Array,
  offset: number,
  length: number,
  position: number,
  done: (error: Error | null, moved: number) => void,
) => void;

export interface FileOptions {
  /** Makes a file that is not there, and extends one that is shorter (sparsely). */
  readonly bytes?: number;
  /**
   * Read and write on the event loop: cheaper by two changes of threads where the file is in the page cache, and a standstill
   * for all hosts where it is not.
   */
  readonly sync?: boolean;
}

export class FileBackend implements Backend {
  readonly name: string;
  readonly bytes: number;
  readonly volatileCache = true;
  readonly discardsToZeros = false;
  readonly #fd: number;
  readonly #sync: boolean;
  readonly #moving = new Set<Promise<number>>();

  private constructor(path: string, fd: number, bytes: number, sync: boolean) {
    this.name = path;
    this.#fd = fd;
    this.bytes = bytes;
    this.#sync = sync;
  }

  /** @throws Error ENOENT for a file that is not there, without `bytes` */
  static async open(path: string, { bytes, sync = false }: FileOptions = {}): Promise<FileBackend> {
    // Opened to append first, so that it is made where it is missing and never truncated.
    if (bytes !== undefined) closeSync(await calls.open(path, 'a'));
    const fd = await calls.open(path, 'r+');
    try {
      const { size } = await calls.fstat(fd);
      if (bytes !== undefined && size < bytes) await calls.ftruncate(fd, bytes);
      return new FileBackend(path, fd, bytes ?? size, sync);
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  async read(offset: number, into: Uint8Array): Promise<void> {
    for (let done = 0; done < into.length; ) {
      const moved = this.#sync
        ? readSync(this.#fd, into, done, into.length - done, offset + done)
        : await this.#later(read, into, done, offset);
      if (moved === 0) throw new Error(`${this.name} ends at ${offset + done} bytes`);
      done += moved;
    }
  }

  async write(offset: number, from: Uint8Array): Promise<void> {
    for (let done = 0; done < from.length; ) {
      done += this.#sync
        ? writeSync(this.#fd, from, done, from.length - done, offset + done)
        : await this.#later(write, from, done, offset);
    }
  }

  /** Moves what is left of [bytes] after [done]; resolves with how much of it has been moved. */
  #later(call: Move, bytes: Uint8Array, done: number, offset: number): Promise<number> {
    const moving = new Promise<number>((resolve, reject) => {
      call(this.#fd, bytes, done, bytes.length - done, offset + done, (error, moved) => {
        this.#moving.delete(moving);
        if (error === null) resolve(moved);
        else reject(error);
      });
    });
    this.#moving.add(moving);
    return moving;
  }

  async zero(offset: number, length: number): Promise<void> {
    for (let done = 0; done < length; done += ZEROS.length) {
      await this.write(offset + done, ZEROS.subarray(0, Math.min(ZEROS.length, length - done)));
    }
  }

  /** Advice, which Node has no call to pass on. */
  discard(): void {}

  flush(): Promise<void> {
    return calls.fdatasync(this.#fd);
  }

  async close(): Promise<void> {
    // The number of a closed file may be given to another one.
    await Promise.allSettled(this.#moving);
    await calls.close(this.#fd);
  }
}
