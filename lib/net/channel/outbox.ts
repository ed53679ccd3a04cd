/** What waits to be sent, in order: parts of the send buffer, memory outside it, and writes to memory that the peer has mapped. */
import { MessageType, message } from '../wire/index.ts';
import type { SendBatch } from './send-batch.ts';
import { SendBuffer } from './send-buffer.ts';
import type { SendWindow } from './send-window.ts';

/** Tags of work requests: positive is bytes of the send buffer. */
export const TAG_NOTHING = 0;
export const TAG_CONTROL = -1;
export const TAG_OUTSIDE = -2;

interface Segment {
  bytes: number;
  /** Memory outside the send buffer, which is told when it has been sent. */
  readonly outside?: { addr: number; readonly lkey: number; inFlight: number; readonly sent: () => void };
  /** Memory of the peer; by default its receive buffers. */
  readonly target?: { addr: number; readonly key: number };
}

/** @internal */
export class Outbox {
  readonly #buffer: SendBuffer;
  readonly #lkey: number;
  readonly #segments: Segment[] = [];
  /** Memory outside that is being sent. */
  readonly #outside: Segment[] = [];

  constructor(memory: Uint8Array, addr: number, lkey: number) {
    this.#buffer = new SendBuffer(memory, addr);
    this.#lkey = lkey;
  }

  /** Nothing waits; something may be in flight. */
  get empty(): boolean {
    return this.#segments.length === 0;
  }

  /** Puts bytes into the send buffer. @returns how many there was room for */
  put(bytes: Uint8Array, from: number): number {
    const count = this.#buffer.put(bytes, from);
    if (count === 0) return 0;
    const last = this.#segments[this.#segments.length - 1];
    if (last !== undefined && last.outside === undefined && last.target === undefined) last.bytes += count;
    else this.#segments.push({ bytes: count });
    return count;
  }

  /** As {@link put}, for memory that the peer has mapped. */
  putTo(bytes: Uint8Array, from: number, addr: number, key: number): number {
    const count = this.#buffer.put(bytes, from);
    if (count > 0) this.#segments.push({ bytes: count, target: { addr, key } });
    return count;
  }

  /** Calls [sent] when the send buffer has got rid of all that was put in until now. */
  whenSent(sent: () => void): void {
    this.#buffer.whenSent(sent);
  }

  /** Registered memory that is to be sent from where it is. @param sent called when the device does not need it any more */
  lend(addr: number, bytes: number, lkey: number, sent: () => void): void {
    this.#segments.push({ bytes, outside: { addr, lkey, inFlight: 0, sent } });
  }

  /** Forgets what waits. Memory outside that is in flight is told of when it has been sent. */
  drop(): void {
    for (const segment of this.#segments.splice(0)) {
      segment.bytes = 0;
      if (segment.outside !== undefined && !this.#outside.includes(segment)) segment.outside.sent();
    }
  }

  /** Nothing is in flight any more, because the queue pair is gone. */
  abandon(): void {
    this.drop();
    for (const { outside } of this.#outside.splice(0)) outside!.sent();
  }

  /**
   * Adds to [batch] what the peer has room for.
   *
   * @param longest bytes of one transfer
   * @param spare work requests that are to stay free
   */
  fill(batch: SendBatch, window: SendWindow, longest: number, spare: number): void {
    for (let segment = this.#segments[0]; segment !== undefined; segment = this.#segments[0]) {
      if (batch.free < batch.perMessage + spare) return;
      const limit = Math.min(segment.bytes, longest);
      const sent =
        segment.target === undefined
          ? this.#sendData(batch, window, segment, Math.min(limit, window.room))
          : this.#sendDirect(batch, segment.target, limit);
      if (sent === 0) return;
      segment.bytes -= sent;
      if (segment.bytes === 0) this.#segments.shift();
    }
  }

  /** The work request with [tag] has completed. */
  sent(tag: number): void {
    if (tag > 0) this.#buffer.release(tag);
    else if (tag === TAG_OUTSIDE) this.#outsideSent();
  }

  #sendData(batch: SendBatch, window: SendWindow, { outside }: Segment, limit: number): number {
    if (limit === 0) return 0;
    const { addr, key } = window;
    if (outside === undefined) {
      const count = this.#buffer.inRow(limit);
      batch.write(
        message(MessageType.DATA, count),
        this.#buffer.sendAddr,
        count,
        this.#lkey,
        addr,
        key,
        count,
      );
      this.#buffer.sent(count);
      window.sent(count);
      return count;
    }
    const [segment] = this.#segments as [Segment];
    if (this.#outside[this.#outside.length - 1] !== segment) this.#outside.push(segment);
    outside.inFlight += 1;
    batch.write(message(MessageType.DATA, limit), outside.addr, limit, outside.lkey, addr, key, TAG_OUTSIDE);
    outside.addr += limit;
    window.sent(limit);
    return limit;
  }

  #sendDirect(batch: SendBatch, target: NonNullable<Segment['target']>, limit: number): number {
    const count = this.#buffer.inRow(limit);
    batch.writeSilently(this.#buffer.sendAddr, count, this.#lkey, target.addr, target.key, count);
    this.#buffer.sent(count);
    target.addr += count;
    return count;
  }

  #outsideSent(): void {
    const [segment] = this.#outside as [Segment];
    const outside = segment.outside!;
    outside.inFlight -= 1;
    if (outside.inFlight > 0 || segment.bytes > 0) return;
    this.#outside.shift();
    outside.sent();
  }
}
