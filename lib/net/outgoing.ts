/** The sending side of a socket: what the stream has handed over, until the channel has taken it, and the end after it. */
import { slabOf } from '../dma/arena.ts';
import type { Connection } from './connection.ts';

/** What a stream is called back with. @internal */
export type Done = (error?: Error | null) => void;

/** From here on memory of the domain's arena is sent from where it is. */
const ZERO_COPY_BYTES = 4096;

/** Chunks that are on their way into the channel. */
interface Writing {
  readonly chunks: readonly Uint8Array[];
  index: number;
  offset: number;
  /** Chunks that are being sent from where they are. */
  borrowed: number;
  readonly bytes: number;
  readonly done: Done;
}

/** @internal */
export class Outgoing {
  #connection: Connection | undefined;
  #writing: Writing | undefined;
  #finishing: Done | undefined;

  attach(connection: Connection): void {
    this.#connection = connection;
  }

  /** Bytes of the write that is under way. */
  get bytes(): number {
    return this.#writing?.bytes ?? 0;
  }

  /** Sends [chunks] of [bytes] together; the stream gives the next when it has been called back. */
  write(chunks: readonly Uint8Array[], bytes: number, done: Done): void {
    this.#writing = { chunks, index: 0, offset: 0, borrowed: 0, bytes, done };
    this.progress();
  }

  /** Ends this side after all that was written; [done] when the peer has it. */
  finish(done: Done): void {
    this.#finishing = done;
    this.#connection?.channel.shutdown();
  }

  /** The connection is there: sends what has waited for it. */
  begin(): void {
    this.progress();
    if (this.#finishing !== undefined) this.#connection?.channel.shutdown();
  }

  /** Gives the channel as much as it takes. */
  progress(): void {
    const channel = this.#connection?.channel;
    if (channel === undefined || channel.failed) return;
    if (this.#writing !== undefined) this.#feed(this.#writing, this.#connection!);
    if (this.#finishing !== undefined && channel.writeEnded && channel.idle) {
      const done = this.#finishing;
      this.#finishing = undefined;
      done();
    }
  }

  /** Nothing can be sent any more: what is under way fails with [error]; an end without bytes is a good one. */
  fail(error: Error): void {
    const writing = this.#writing;
    this.#writing = undefined;
    writing?.done(error);
    const finishing = this.#finishing;
    this.#finishing = undefined;
    finishing?.(writing === undefined ? null : error);
  }

  /** The stream is destroyed, and is not called back any more. */
  drop(): void {
    this.#writing = undefined;
    this.#finishing = undefined;
  }

  #feed(writing: Writing, connection: Connection): void {
    const { channel } = connection;
    let added = false;
    for (; writing.index < writing.chunks.length; writing.index += 1) {
      const chunk = writing.chunks[writing.index] as Uint8Array;
      if (writing.offset === 0 && this.#sendInPlace(chunk, writing, connection)) {
        added = true;
        continue;
      }
      const count = channel.write(chunk, writing.offset);
      added ||= count > 0;
      writing.offset += count;
      if (writing.offset < chunk.length) break;
      writing.offset = 0;
    }
    if (added) channel.kick();
    if (writing.index < writing.chunks.length || writing.borrowed > 0 || this.#writing !== writing) return;
    this.#writing = undefined;
    writing.done();
  }

  /** Sends memory of the domain's arena from where it is. */
  #sendInPlace(chunk: Uint8Array, writing: Writing, { pd, channel }: Connection): boolean {
    if (chunk.length < ZERO_COPY_BYTES) return false;
    const slab = slabOf(chunk.buffer);
    if (slab === undefined || slab.arena.pd !== pd || !slab.usable) return false;
    const { byteOffset, length } = chunk;
    if (!slab.blocks.hold(byteOffset, length)) return false;
    writing.borrowed += 1;
    channel.writeFrom(slab.addr + byteOffset, length, slab.lkey, () => {
      slab.blocks.release(byteOffset, length);
      writing.borrowed -= 1;
    });
    return true;
  }
}
