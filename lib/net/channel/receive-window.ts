/**
 * The receiving side's books: which half of the buffer the peer may write to, what has come, what has been read, and when
 * the peer must be told (librdmacm docs/rsocket, "Data Streaming Overview"). The buffer has two halves, which are granted in
 * turn: the first in the connection data, the second as soon as the connection is there.
 */
import { protocolError } from '../wire/errors.ts';

/** No grant is due: a {@link ReceiveWindow.grant} that gives credits only. */
export const NO_GRANT = -1;

/** @internal */
export class ReceiveWindow {
  /** Bytes of the buffer. */
  readonly size: number;
  /** Messages that the peer may have unread here. */
  readonly credits: number;
  readonly #half: number;
  /** Lengths of the messages that have not been read: a ring. */
  readonly #lengths: Uint32Array;
  #firstLength = 0;
  #unread = 0;
  #available = 0;
  #readAt = 0;
  #writeAt = 0;
  #granted: number;
  #freed: number;
  #freedAt: number;
  #consumed = 0;
  /** Sequence number of the message after which credits are due. */
  #due: number;

  /** @param size even */
  constructor(size: number, credits: number) {
    this.size = size;
    this.credits = credits;
    this.#half = size / 2;
    this.#lengths = new Uint32Array(credits);
    this.#granted = this.#half;
    this.#freed = this.#half;
    this.#freedAt = this.#half;
    this.#due = credits >>> 1;
  }

  /** Bytes of a half, which is what is granted at a time. */
  get half(): number {
    return this.#half;
  }

  /** Bytes to be read. */
  get available(): number {
    return this.#available;
  }

  /** Where they begin. */
  get readAt(): number {
    return this.#readAt;
  }

  /** How many of them lie in a row. */
  get contiguous(): number {
    return Math.min(this.#available, this.size - this.#readAt);
  }

  /**
   * The peer says that it has written [length] bytes.
   *
   * @throws RdmaError EPROTO when it had no right to
   */
  arrived(length: number): void {
    if (this.#unread === this.credits) {
      throw protocolError(`one message more than the ${this.credits} that it had credits for`);
    }
    const room = Math.min(this.#granted, this.#half - (this.#writeAt % this.#half));
    if (length > room)
      throw protocolError(`a transfer of ${length} bytes into a buffer with room for ${room}`);
    let last = this.#firstLength + this.#unread;
    if (last >= this.credits) last -= this.credits;
    this.#lengths[last] = length;
    this.#unread += 1;
    this.#available += length;
    this.#granted -= length;
    this.#writeAt += length;
    if (this.#writeAt === this.size) this.#writeAt = 0;
  }

  /** [bytes] of those in a row have been read. */
  consume(bytes: number): void {
    this.#available -= bytes;
    this.#freed += bytes;
    this.#readAt += bytes;
    if (this.#readAt === this.size) this.#readAt = 0;
    let left = bytes;
    while (left > 0) {
      const length = this.#lengths[this.#firstLength] as number;
      if (length > left) {
        this.#lengths[this.#firstLength] = length - left;
        return;
      }
      left -= length;
      this.#unread -= 1;
      this.#consumed = (this.#consumed + 1) & 0xffff;
      this.#firstLength += 1;
      if (this.#firstLength === this.credits) this.#firstLength = 0;
    }
  }

  /** A message has come that took a credit and no room. */
  skipped(): void {
    this.#consumed = (this.#consumed + 1) & 0xffff;
  }

  /** The peer must be told: half of the buffer is free, or half of the credits are used up. */
  get grantDue(): boolean {
    return this.#freed >= this.#half || ((this.#consumed - this.#due) & 0xffff) < 0x8000;
  }

  /**
   * Takes note that the peer is told now.
   *
   * @returns where the half begins that is granted, or {@link NO_GRANT}; {@link limit} goes with it
   */
  grant(): number {
    this.#due = (this.#consumed + (this.credits >>> 1)) & 0xffff;
    if (this.#freed < this.#half) return NO_GRANT;
    const at = this.#freedAt;
    this.#freed -= this.#half;
    this.#granted += this.#half;
    this.#freedAt = at === 0 ? this.#half : 0;
    return at;
  }

  /** Sequence number of the first message that the peer may not send, 16 bits. */
  get limit(): number {
    return (this.#consumed + this.credits) & 0xffff;
  }
}
