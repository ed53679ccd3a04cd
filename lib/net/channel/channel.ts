/**
 * The protocol over a connected queue pair: what is written goes to the peer's receive buffers as its credits allow, what
 * the peer writes is offered to be read, and control messages go both ways whether or not anybody reads or writes. Every
 * native call carries a batch; no message costs an allocation.
 */
import { endianness } from 'node:os';
import { type RdmaError, WcStatus, wcError } from '../../errors.ts';
import { type QueuePair, type RecvWr, WcOpcode } from '../../verbs/index.ts';
import {
  type ConnData,
  Control,
  checkMessage,
  contentOf,
  kindOf,
  MAX_TRANSFER,
  MESSAGE_BYTES,
  MessageType,
  message,
  protocolError,
  putSge,
  SGE_BYTES,
} from '../wire/index.ts';
import type { ChannelMemory } from './memory.ts';
import { NO_GRANT, ReceiveWindow } from './receive-window.ts';
import { SendBatch } from './send-batch.ts';
import { SendBuffer } from './send-buffer.ts';
import { SendWindow } from './send-window.ts';

/** Who uses a channel. Everything is called from the event loop, nothing after {@link ChannelEvents.failed}. @internal */
export interface ChannelEvents {
  /** There are bytes to be read, or the peer will send no more. */
  readable(): void;
  /** There is room to write, or what was written has been sent. */
  writable(): void;
  /** The connection is of no use any more. */
  failed(error: RdmaError): void;
}

/** Longest transfer: as long as those of librdmacm, so that copying overlaps with sending. */
const TRANSFER_BYTES = 65536;

/** Work requests that data leave for control messages, and control messages in flight. */
const CONTROL_MESSAGES = 4;
const CONTROL_REQUESTS = 2 * CONTROL_MESSAGES;

/** Credits that data leave for control messages where a missing receive ends the connection (iWARP). */
const SPARE_CREDITS = 4;

const IBV_WC_WITH_IMM = 2;

/** What is known of a work request in flight: positive is bytes of the send buffer. */
const TAG_NOTHING = 0;
const TAG_CONTROL = -1;
const TAG_OUTSIDE = -2;

const littleEndianHost = endianness() === 'LE';

/** Memory outside the send buffer, or a part of the buffer, that waits to be sent. */
interface Segment {
  /** Address of memory outside; undefined for the send buffer. */
  readonly outside:
    | { addr: number; readonly lkey: number; inFlight: number; readonly sent: () => void }
    | undefined;
  bytes: number;
}

/** @internal */
export class Channel {
  readonly memory: ChannelMemory;
  readonly #qp: QueuePair;
  readonly #events: ChannelEvents;
  readonly #bySend: boolean;
  readonly #received: ReceiveWindow;
  readonly #buffer: SendBuffer;
  readonly #receives: RecvWr[];
  #batch: SendBatch | undefined;
  #window: SendWindow | undefined;
  #peer: ConnData | undefined;
  #maxTransfer = TRANSFER_BYTES;
  /** Messages that came before the peer's connection data. */
  readonly #early: number[] = [];
  readonly #segments: Segment[] = [];
  readonly #outside: Segment[] = [];
  #nextReceive = 0;
  #toPost = 0;
  /** Control message to be sent. */
  #control: number | undefined;
  /** The last one that was sent. */
  #said: number | undefined;
  #controlsInFlight = 0;
  #controlSlot = 0;
  #mute: boolean;
  #open = false;
  #failed = false;
  #scheduled = false;
  #inTurn = false;
  #news = false;
  #room = false;
  /** The peer sends no more. */
  readEnded = false;
  /** The peer has said that it neither sends nor receives any more. */
  peerGone = false;
  /** This side has said that it sends no more. */
  writeEnded = false;

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
    this.#buffer = new SendBuffer(memory.send, memory.sendAddr);
    this.#receives = Array.from({ length: memory.receives }, (_, i) => ({
      sges: bySend
        ? [{ addr: memory.messageAddr + i * MESSAGE_BYTES, length: MESSAGE_BYTES, lkey: memory.localKey }]
        : [],
    }));
    qp.postRecv(this.#receives, this.#onReceived);
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

  /** Takes the peer's connection data, once. */
  setPeer(peer: ConnData): void {
    const { memory } = this;
    this.#peer = peer;
    const spare = this.#bySend ? SPARE_CREDITS : 0;
    this.#window = new SendWindow(memory.sgl, littleEndianHost, peer.credits, peer.dataBuffer, spare);
    this.#batch = new SendBatch(this.#qp, this.#bySend, peer.bigEndian, this.#onSent);
    this.#maxTransfer = Math.min(TRANSFER_BYTES, this.#qp.caps.maxMessage, MAX_TRANSFER);
    this.#peerSge = 1;
    try {
      for (let i = 0; i < this.#early.length; i += 2) {
        this.#handle(this.#early[i] as number, this.#early[i + 1] as number);
      }
    } catch (error) {
      this.fail(error as RdmaError);
    }
    this.#early.length = 0;
  }

  /** The connection is established: from now on this side may send. */
  start(): void {
    this.#open = true;
    this.kick();
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
    const count = this.#buffer.put(bytes, from);
    if (count === 0) return 0;
    const last = this.#segments[this.#segments.length - 1];
    if (last !== undefined && last.outside === undefined) last.bytes += count;
    else this.#segments.push({ outside: undefined, bytes: count });
    return count;
  }

  /** Sends registered memory from where it is. @param sent called when the device does not need it any more */
  writeFrom(addr: number, bytes: number, lkey: number, sent: () => void): void {
    this.#segments.push({ outside: { addr, lkey, inFlight: 0, sent }, bytes });
  }

  /** Everything that was written has been sent, and acknowledged as far as the transport does. */
  get idle(): boolean {
    return this.#segments.length === 0 && this.#control === undefined && (this.#batch?.pending ?? 0) === 0;
  }

  /** After what has been written, tells the peer that no more comes. */
  shutdown(): void {
    if (this.writeEnded) return;
    this.writeEnded = true;
    this.#control = this.readEnded ? Control.DISCONNECT : Control.SHUTDOWN;
    this.kick();
  }

  /** Drops what waits, and tells the peer that the connection is over. */
  disconnect(): void {
    this.#segments.length = 0;
    // Both have said their last word when each has ended its own side.
    const over =
      this.peerGone || this.#said === Control.DISCONNECT || (this.#said !== undefined && this.readEnded);
    this.#control = over || !this.#open ? undefined : Control.DISCONNECT;
    this.writeEnded = true;
    this.kick();
  }

  /** Makes the transport find out whether the peer is alive. */
  probe(): void {
    if (!this.#canSend || !this.idle) return;
    this.#try(() => {
      this.#batch!.probe(TAG_NOTHING);
      this.#batch!.post();
    });
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

  /** The connection is of no use any more; nothing is sent or received. */
  get failed(): boolean {
    return this.#failed;
  }

  /** The connection has ended with [error]. */
  fail(error: RdmaError): void {
    if (this.#failed) return;
    this.#failed = true;
    this.#events.failed(error);
  }

  get #canSend(): boolean {
    return this.#open && !this.#mute && !this.#failed && this.#batch !== undefined;
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
      this.#try(this.#repost);
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

  readonly #repost = (): void => {
    if (this.#toPost === 0) return;
    const first = this.#nextReceive - this.#toPost;
    const all = this.#receives;
    if (first >= 0) {
      this.#qp.postRecv(all.slice(first, this.#nextReceive), this.#onReceived);
    } else {
      const list = all.slice(first + all.length).concat(all.slice(0, this.#nextReceive));
      this.#qp.postRecv(list, this.#onReceived);
    }
    this.#toPost = 0;
  };

  readonly #onReceived = (status: number, byteLen: number, wc: number): void => {
    if (this.#failed) return;
    if (status !== WcStatus.SUCCESS) {
      this.fail(wcError(status, { operation: 'receive', qpNum: this.#qp.qpNum }));
      return;
    }
    const index = this.#nextReceive;
    this.#nextReceive = index + 1 === this.#receives.length ? 0 : index + 1;
    this.#toPost += 1;
    this.#mute = false;
    this.#schedule();
    try {
      const msg = this.#bySend ? this.#sentMessage(index, byteLen) : this.#immediate(wc);
      const bytes = this.#bySend ? -1 : byteLen;
      if (this.#window === undefined) this.#early.push(msg, bytes);
      else this.#handle(msg, bytes);
    } catch (error) {
      this.fail(error as RdmaError);
    }
  };

  #sentMessage(index: number, byteLen: number): number {
    if (byteLen !== MESSAGE_BYTES)
      throw protocolError(`a message of ${byteLen} bytes, instead of ${MESSAGE_BYTES}`);
    return this.memory.messages.getUint32(index * MESSAGE_BYTES, this.#peer?.bigEndian !== true);
  }

  #immediate(wc: number): number {
    const { ring } = this.#qp.recvCq;
    if ((ring.flags(wc) & IBV_WC_WITH_IMM) === 0) throw protocolError('a message without immediate data');
    if (ring.opcode(wc) !== WcOpcode.RECV_RDMA_WITH_IMM) {
      throw protocolError('a SEND, where messages come with an RDMA WRITE');
    }
    return ring.immData(wc);
  }

  /** @param written bytes that came with the message, -1 when that is not known */
  #handle(msg: number, written: number): void {
    checkMessage(msg, this.memory.iomapEntries);
    const value = contentOf(msg);
    switch (kindOf(msg)) {
      case MessageType.DATA:
        if (this.readEnded) throw protocolError(`a transfer of ${value} bytes after the end`);
        if (written !== -1 && written !== value) {
          throw protocolError(`a transfer of ${value} bytes that brought ${written}`);
        }
        this.#received.arrived(value);
        this.#news = true;
        return;
      case MessageType.SGL:
        if (written > 0 && written !== SGE_BYTES)
          throw protocolError(`${written} bytes with a grant of credits`);
        this.#window!.granted(value, written !== 0);
        return;
      case MessageType.CTRL:
        if (value !== Control.KEEPALIVE) this.#ended(value === Control.DISCONNECT);
        return;
      default:
    }
  }

  #ended(gone: boolean): void {
    this.readEnded = true;
    this.peerGone ||= gone;
    this.#news = true;
    this.#room = true;
  }

  readonly #onSent = (tag: number, status: number): void => {
    if (this.#failed) return;
    if (status !== WcStatus.SUCCESS) {
      this.fail(wcError(status, { operation: 'send', qpNum: this.#qp.qpNum }));
      return;
    }
    if (tag > 0) this.#buffer.release(tag);
    else if (tag === TAG_CONTROL) this.#controlsInFlight -= 1;
    else if (tag === TAG_OUTSIDE) this.#outsideSent();
    this.#room = true;
    this.#schedule();
  };

  #outsideSent(): void {
    const segment = this.#outside[0] as Segment;
    const outside = segment.outside!;
    outside.inFlight -= 1;
    if (outside.inFlight > 0 || segment.bytes > 0) return;
    this.#outside.shift();
    outside.sent();
  }

  readonly #flush = (): void => {
    if (!this.#canSend) return;
    const batch = this.#batch!;
    if (!this.peerGone) {
      this.#sendGrant(batch);
      this.#sendData(batch);
    }
    if (this.#control !== undefined && this.#segments.length === 0 && this.#controlFits(batch, 1)) {
      this.#controlsInFlight += 1;
      batch.message(message(MessageType.CTRL, this.#control), TAG_CONTROL);
      this.#said = this.#control;
      this.#control = undefined;
    }
    batch.post();
  };

  #controlFits(batch: SendBatch, requests: number): boolean {
    return this.#controlsInFlight < CONTROL_MESSAGES && batch.free >= requests;
  }

  /** Entry of the peer's target SGL that is written next; the connection data were the first. */
  #peerSge = 1;

  #sendGrant(batch: SendBatch): void {
    const received = this.#received;
    while (received.grantDue && this.#controlFits(batch, batch.perMessage)) {
      const at = received.grant();
      const msg = message(MessageType.SGL, received.limit);
      this.#controlsInFlight += 1;
      if (at === NO_GRANT) {
        batch.message(msg, TAG_CONTROL);
        continue;
      }
      const { memory } = this;
      const { targetSgl, bigEndian } = this.#peer!;
      const slot = this.#controlSlot;
      this.#controlSlot = (slot + 1) % CONTROL_MESSAGES;
      putSge(
        memory.control,
        slot * memory.controlBytes,
        !bigEndian,
        memory.receiveAddr + at,
        memory.remoteKey,
        received.half,
      );
      const remote = targetSgl.addr + this.#peerSge * SGE_BYTES;
      this.#peerSge = (this.#peerSge + 1) % targetSgl.length;
      const addr = memory.controlAddr + slot * memory.controlBytes;
      batch.write(msg, addr, SGE_BYTES, memory.localKey, remote, targetSgl.key, TAG_CONTROL);
    }
  }

  #sendData(batch: SendBatch): void {
    const window = this.#window!;
    const { perMessage } = batch;
    for (let segment = this.#segments[0]; segment !== undefined; segment = this.#segments[0]) {
      const limit = Math.min(segment.bytes, window.room, this.#maxTransfer);
      if (limit === 0 || batch.free < perMessage + CONTROL_REQUESTS) return;
      const { addr, key } = window;
      const { outside } = segment;
      if (outside === undefined) {
        const count = this.#buffer.inRow(limit);
        batch.write(
          message(MessageType.DATA, count),
          this.#buffer.sendAddr,
          count,
          this.memory.localKey,
          addr,
          key,
          count,
        );
        this.#buffer.sent(count);
        this.#took(segment, count);
      } else {
        if (outside.inFlight === 0) this.#outside.push(segment);
        outside.inFlight += 1;
        batch.write(
          message(MessageType.DATA, limit),
          outside.addr,
          limit,
          outside.lkey,
          addr,
          key,
          TAG_OUTSIDE,
        );
        outside.addr += limit;
        this.#took(segment, limit);
      }
    }
  }

  #took(segment: Segment, bytes: number): void {
    this.#window!.sent(bytes);
    segment.bytes -= bytes;
    if (segment.bytes === 0) this.#segments.shift();
  }
}
