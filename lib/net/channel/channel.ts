/**
 * The protocol over a connected queue pair: what is written goes to the peer's receive buffers as its credits allow, what
 * the peer writes is offered to be read, and control messages go both ways whether or not anybody reads or writes. Every
 * native call carries a batch; no message costs an allocation.
 */
import { endianness } from 'node:os';
import { type RdmaError, WcStatus, wcError } from '../../errors.ts';
import type { QueuePair } from '../../verbs/index.ts';
import {
  type ConnData,
  Control,
  checkMessage,
  contentOf,
  IOMAP_BYTES,
  kindOf,
  MessageType,
  protocolError,
  SGE_BYTES,
} from '../wire/index.ts';
import type { ChannelMemory } from './memory.ts';
import { Outbox } from './outbox.ts';
import { ReceiveQueue } from './receive-queue.ts';
import { ReceiveWindow } from './receive-window.ts';
import { Sending } from './sending.ts';

/** Who uses a channel. Everything is called from the event loop, nothing after {@link ChannelEvents.failed}. @internal */
export interface ChannelEvents {
  /** There are bytes to be read, or the peer will send no more. */
  readable(): void;
  /** There is room to write, or what was written has been sent. */
  writable(): void;
  /** The connection is of no use any more. */
  failed(error: RdmaError): void;
  /** The peer has written the entry [index] of [iomap]. */
  mapped(index: number, iomap: DataView): void;
}

const littleEndianHost = endianness() === 'LE';

/** @internal */
export class Channel {
  readonly memory: ChannelMemory;
  readonly #qp: QueuePair;
  readonly #events: ChannelEvents;
  /** The device has no immediate data: messages are SENDs. */
  readonly #bySend: boolean;
  readonly #received: ReceiveWindow;
  readonly #outbox: Outbox;
  readonly #receives: ReceiveQueue;
  /** There is one as soon as the peer's connection data are known. */
  #sending: Sending | undefined;
  #peer: ConnData | undefined;
  /** Messages that came before the peer's connection data, each with the bytes that it brought. */
  readonly #early: number[] = [];
  #mute: boolean;
  #open = false;
  #failed = false;
  #scheduled = false;
  #inTurn = false;
  #news = false;
  #room = false;
  #readEnded = false;
  #writeEnded = false;
  #peerGone = false;

  /**
   * Posts the receives; nothing is sent before {@link start}.
   *
   * @param bySend the device has no immediate data (iWARP)
   * @param passive the side that accepted
   */
  constructor(
    qp: QueuePair,
    memory: ChannelMemory,
    bySend: boolean,
    passive: boolean,
    events: ChannelEvents,
  ) {
    this.memory = memory;
    this.#qp = qp;
    this.#events = events;
    this.#bySend = bySend;
    // On iWARP the side that connected must send first (RFC 5044, 7.1.3).
    this.#mute = bySend && passive;
    this.#received = new ReceiveWindow(memory.receive.length, memory.credits);
    this.#outbox = new Outbox(memory.send, memory.sendAddr, memory.localKey);
    this.#receives = new ReceiveQueue(qp, memory, bySend, this.#onMessage, (error) => this.fail(error));
  }

  /** What the peer needs to know. */
  get connData(): ConnData {
    const { memory } = this;
    return {
      bigEndian: !littleEndianHost,
      credits: memory.credits,
      iomapEntries: memory.iomapEntries,
      targetSgl: { addr: memory.sglAddr, key: memory.remoteKey, length: memory.sglEntries },
      dataBuffer: { addr: memory.receiveAddr, key: memory.remoteKey, length: this.#received.half },
    };
  }

  /** What the peer has said. */
  get peer(): ConnData | undefined {
    return this.#peer;
  }

  /** Takes the peer's connection data, once. */
  setPeer(peer: ConnData): void {
    this.#peer = peer;
    this.#receives.bigEndianPeer = peer.bigEndian;
    this.#sending = new Sending(this.#qp, this.memory, this.#outbox, this.#bySend, peer, this.#onCompleted);
    for (let i = 0; i < this.#early.length; i += 2) {
      this.#try(() => this.#handle(this.#early[i] as number, this.#early[i + 1] as number));
    }
    this.#early.length = 0;
  }

  /** The connection is established: from now on this side may send. */
  start(): void {
    this.#open = true;
    this.kick();
  }

  /** The peer sends no more. */
  get readEnded(): boolean {
    return this.#readEnded;
  }

  /** This side has said, or will say, that it sends no more. */
  get writeEnded(): boolean {
    return this.#writeEnded;
  }

  /** The peer has said that it neither sends nor receives any more. */
  get peerGone(): boolean {
    return this.#peerGone;
  }

  /** The connection is of no use any more; nothing is sent or received. */
  get failed(): boolean {
    return this.#failed;
  }

  /** Everything that was written has been sent, and acknowledged as far as the transport does. */
  get idle(): boolean {
    return this.#outbox.empty && this.#sending?.idle !== false;
  }

  /** Everything that was written is with the transport. */
  get handedOver(): boolean {
    return this.#outbox.empty;
  }

  /** Bytes to be read. */
  get available(): number {
    return this.#received.available;
  }

  /** The bytes to be read that lie in a row, at most [limit]: memory that the peer can write to, to be copied. */
  peek(limit: number): Uint8Array {
    const { readAt, contiguous } = this.#received;
    return this.memory.receive.subarray(readAt, readAt + Math.min(contiguous, limit));
  }

  /** [bytes] of {@link peek} have been copied; the peer may use their room, once it has been told by {@link kick}. */
  consume(bytes: number): void {
    this.#received.consume(bytes);
  }

  /** Puts bytes into the send buffer. @returns how many there was room for */
  write(bytes: Uint8Array, from: number): number {
    return this.#outbox.put(bytes, from);
  }

  /** As {@link write}, for memory that the peer has mapped. */
  writeTo(bytes: Uint8Array, from: number, addr: number, key: number): number {
    return this.#outbox.putTo(bytes, from, addr, key);
  }

  /** Calls [sent] when the device has sent all that was copied until now. */
  whenSent(sent: () => void): void {
    this.#outbox.whenSent(sent);
  }

  /** Sends registered memory from where it is. @param sent called when the device does not need it any more */
  writeFrom(addr: number, bytes: number, lkey: number, sent: () => void): void {
    this.#outbox.lend(addr, bytes, lkey, sent);
  }

  /** Tells the peer of memory that it may write to. */
  map(index: number, offset: number, addr: number, key: number, length: number): void {
    this.#sending?.map({ index, offset, addr, key, length });
    this.kick();
  }

  /** After what has been written, tells the peer that no more comes. */
  shutdown(): void {
    if (this.#writeEnded) return;
    this.#writeEnded = true;
    this.#sending?.end(this.#readEnded ? Control.DISCONNECT : Control.SHUTDOWN);
    this.kick();
  }

  /** Drops what waits, and tells the peer that the connection is over. */
  disconnect(): void {
    this.#outbox.drop();
    this.#writeEnded = true;
    const sending = this.#sending;
    if (sending !== undefined) {
      // Both have said their last word when each has ended its own side.
      const over = sending.saidDisconnect || (sending.said !== undefined && this.#readEnded);
      sending.end(over || this.#peerGone || !this.#open ? undefined : Control.DISCONNECT);
    }
    this.kick();
  }

  /** Makes the transport find out whether the peer is alive. */
  probe(): void {
    if (!this.#canSend || !this.idle) return;
    this.#try(() => this.#sending!.probe());
  }

  /** Sends what can be sent: now, or with everything else of the turn that is under way. */
  kick(): void {
    if (this.#inTurn || this.#scheduled) return;
    this.#schedule();
    this.#try(this.#flush);
  }

  /** Handles all that the device has completed, now. */
  drain(): void {
    while (!this.#failed && this.#qp.recvCq.poll() > 0);
    this.#turn();
  }

  /** Nothing is called from now on. */
  stop(): void {
    this.#failed = true;
  }

  /** The queue pair is gone: nothing that was lent is in use any more. */
  abandon(): void {
    this.#failed = true;
    this.#outbox.abandon();
  }

  /** The connection has ended with [error]. */
  fail(error: RdmaError): void {
    if (this.#failed) return;
    this.#failed = true;
    this.#events.failed(error);
  }

  get #canSend(): boolean {
    return this.#open && !this.#mute && !this.#failed && this.#sending !== undefined;
  }

  #try(action: () => void): void {
    if (this.#failed) return;
    try {
      action();
    } catch (error) {
      this.fail(error as RdmaError);
    }
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      this.#turn();
    });
  }

  /** What a batch of completions, or calls of one turn of the event loop, have left to do. */
  #turn(): void {
    if (this.#failed || this.#inTurn) return;
    this.#inTurn = true;
    try {
      this.#try(() => this.#receives.repost());
      if (this.#news && !this.#failed) {
        this.#news = false;
        this.#events.readable();
      }
      if (this.#room && !this.#failed) {
        this.#room = false;
        this.#events.writable();
      }
      this.#try(this.#flush);
    } finally {
      this.#inTurn = false;
    }
  }

  readonly #flush = (): void => {
    if (!this.#canSend) return;
    this.#sending!.fill(this.#received, !this.#peerGone);
  };

  readonly #onCompleted = (status: number): boolean => {
    if (this.#failed) return false;
    if (status !== WcStatus.SUCCESS) {
      this.fail(wcError(status, { operation: 'send', qpNum: this.#qp.qpNum }));
      return false;
    }
    this.#room = true;
    this.#schedule();
    return true;
  };

  readonly #onMessage = (msg: number, written: number): void => {
    if (this.#failed) return;
    this.#mute = false;
    this.#schedule();
    if (this.#sending === undefined) this.#early.push(msg, written);
    else this.#handle(msg, written);
  };

  /** @param written bytes that came with the message, -1 when that is not known */
  #handle(msg: number, written: number): void {
    checkMessage(msg, this.memory.iomapEntries);
    const content = contentOf(msg);
    switch (kindOf(msg)) {
      case MessageType.DATA:
        if (this.#readEnded) throw protocolError(`a transfer of ${content} bytes after the end`);
        checkWritten(written, content);
        this.#received.arrived(content);
        this.#news = true;
        return;
      case MessageType.SGL:
        if (written !== 0) checkWritten(written, SGE_BYTES);
        this.#sending!.granted(content, written !== 0);
        return;
      case MessageType.IOMAP:
        checkWritten(written, IOMAP_BYTES);
        this.#received.skipped();
        this.#events.mapped(content, this.memory.iomap);
        return;
      default:
        if (content !== Control.KEEPALIVE) this.#ended(content === Control.DISCONNECT);
    }
  }

  #ended(gone: boolean): void {
    this.#readEnded = true;
    this.#peerGone ||= gone;
    this.#news = true;
    this.#room = true;
  }
}

function checkWritten(written: number, expected: number): void {
  if (written === -1 || written === expected) return;
  throw protocolError(`a message about ${expected} bytes that brought ${written}`);
}
