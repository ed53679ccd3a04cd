/** The receiving side of a socket: from the channel to whoever reads the stream, or to the user's own buffer. */
import type { Duplex } from 'node:stream';
import { CHUNK_BYTES, copyOf } from '../dma/copy.ts';
import type { Channel } from './channel/channel.ts';
import type { OnReadOptions } from './socket-options.ts';

/** @internal */
export class Incoming {
  /** Bytes that have been handed to the stream. */
  bytes = 0;
  readonly #stream: Duplex;
  readonly #onread: OnReadOptions | undefined;
  #channel: Channel | undefined;
  #wanted = false;
  #delivering = false;
  #ended = false;

  /** @param onread where bytes go instead of [stream], which then gets the end alone */
  constructor(stream: Duplex, onread: OnReadOptions | undefined) {
    this.#stream = stream;
    this.#onread = onread;
  }

  attach(channel: Channel): void {
    this.#channel = channel;
  }

  /** Whether {@link deliver} may hand out bytes: until the reader has enough. */
  get wanted(): boolean {
    return this.#wanted;
  }

  set wanted(wanted: boolean) {
    this.#wanted = wanted;
  }

  /** Hands over what has come, as long as more is wanted. @returns true when that has been the last, with the end */
  deliver(): boolean {
    const channel = this.#channel;
    if (channel === undefined || this.#delivering || this.#ended || this.#stream.destroyed) return false;
    this.#delivering = true;
    try {
      let took = false;
      while (this.#wanted && channel.available > 0) {
        this.#wanted = this.#onread === undefined ? this.#push(channel) : this.#lend(channel, this.#onread);
        took = true;
        if (this.#stream.destroyed) return false;
      }
      if (took) channel.kick();
      if (!channel.readEnded || channel.available > 0) return false;
      this.#ended = true;
      this.#stream.push(null);
      // 'end' comes although nobody reads, when there is nothing left to be read.
      this.#stream.read(0);
      return true;
    } finally {
      this.#delivering = false;
    }
  }

  #push(channel: Channel): boolean {
    // The peer can change its bytes at any time: users get a copy, which it can not.
    const chunk = copyOf(channel.peek(CHUNK_BYTES));
    channel.consume(chunk.length);
    this.bytes += chunk.length;
    return this.#stream.push(chunk);
  }

  #lend(channel: Channel, { buffer, callback }: OnReadOptions): boolean {
    const target = typeof buffer === 'function' ? buffer() : buffer;
    const bytes = channel.peek(target.length);
    target.set(bytes);
    const count = bytes.length;
    channel.consume(count);
    this.bytes += count;
    if (callback.call(this.#stream, count, target) !== false) return true;
    this.#stream.pause();
    return false;
  }
}
