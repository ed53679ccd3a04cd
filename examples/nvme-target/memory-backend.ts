/** A namespace in memory: the device reads and writes it in place. */
import type { Backend, Views } from './backend.ts';

/** Each is registered as a whole, at its first use. */
const CHUNK_BYTES = 16 * 1024 * 1024;
/** Smaller buffers might be slices of a pool, and are never registered. */
const LEAST_BYTES = 128 * 1024;
/** Zeroing more than this at a time would keep the other queues waiting. */
const ZERO_BYTES = 8 * 1024 * 1024;

export class MemoryBackend implements Backend {
  readonly name: string;
  readonly bytes: number;
  readonly volatileCache = false;
  readonly discardsToZeros = true;
  readonly #chunks: Uint8Array[] = [];

  /** @param bytes a multiple of the block size of its namespace */
  constructor(bytes: number) {
    this.name = 'memory';
    this.bytes = bytes;
    for (let left = bytes; left > 0; left -= CHUNK_BYTES) {
      const length = Math.min(left, CHUNK_BYTES);
      this.#chunks.push(new Uint8Array(Math.max(length, LEAST_BYTES)).subarray(0, length));
    }
  }

  views(offset: number, length: number): Views {
    const views: Uint8Array[] = [];
    for (let done = 0; done < length; ) {
      const chunk = this.#chunks[Math.floor((offset + done) / CHUNK_BYTES)]!;
      const at = (offset + done) % CHUNK_BYTES;
      const take = Math.min(length - done, chunk.length - at);
      views.push(chunk.subarray(at, at + take));
      done += take;
    }
    return views;
  }

  async read(offset: number, into: Uint8Array): Promise<void> {
    let done = 0;
    for (const view of this.views(offset, into.length)) {
      into.set(view, done);
      done += view.length;
    }
  }

  async write(offset: number, from: Uint8Array): Promise<void> {
    let done = 0;
    for (const view of this.views(offset, from.length)) {
      view.set(from.subarray(done, done + view.length));
      done += view.length;
    }
  }

  async zero(offset: number, length: number): Promise<void> {
    for (let done = 0; done < length; done += ZERO_BYTES) {
      if (done > 0) await new Promise((resolve) => setImmediate(resolve));
      const part = Math.min(ZERO_BYTES, length - done);
      for (const view of this.views(offset + done, part)) view.fill(0);
    }
  }

  discard(offset: number, length: number): Promise<void> {
    return this.zero(offset, length);
  }

  flush(): void {}

  close(): void {
    this.#chunks.length = 0;
  }
}
