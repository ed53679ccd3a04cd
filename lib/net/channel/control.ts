/** Control messages that wait to be sent: grants, entries of the peer's iomap, and the end. */
import {
  type ConnData,
  Control,
  IOMAP_BYTES,
  MessageType,
  message,
  putIomap,
  putSge,
  SGE_BYTES,
} from '../wire/index.ts';
import type { ChannelMemory } from './memory.ts';
import { TAG_CONTROL } from './outbox.ts';
import { NO_GRANT, type ReceiveWindow } from './receive-window.ts';
import type { SendBatch } from './send-batch.ts';
import type { SendWindow } from './send-window.ts';

/** Control messages in flight: few, because the peer's receive queue sets little aside for them. */
const IN_FLIGHT = 4;

/** Work requests that are left for them. */
export const CONTROL_REQUESTS = 2 * IN_FLIGHT;

/** A buffer that the peer may write to, for an entry of its iomap. @internal */
export interface MappedBuffer {
  readonly index: number;
  readonly offset: number;
  readonly addr: number;
  readonly key: number;
  readonly length: number;
}

/** @internal */
export class ControlBox {
  readonly #memory: ChannelMemory;
  readonly #peer: ConnData;
  readonly #mapped: MappedBuffer[] = [];
  #inFlight = 0;
  #slot = 0;
  /** Entry of the peer's target SGL that is written next; the connection data were the first. */
  #peerSge = 1;
  #end: number | undefined;
  #said: number | undefined;

  constructor(memory: ChannelMemory, peer: ConnData) {
    this.#memory = memory;
    this.#peer = peer;
  }

  /** Nothing but grants waits. */
  get empty(): boolean {
    return this.#end === undefined && this.#mapped.length === 0;
  }

  /** The last word that was sent: DISCONNECT or SHUTDOWN. */
  get said(): number | undefined {
    return this.#said;
  }

  /** Ends this side with [control] when everything else has been sent; undefined takes it back. */
  end(control: number | undefined): void {
    this.#end = control;
  }

  /** Tells the peer of a buffer that it may write to. */
  map(buffer: MappedBuffer): void {
    this.#mapped.push(buffer);
  }

  /** A control message has been sent. */
  sent(): void {
    this.#inFlight -= 1;
  }

  /** Adds to [batch] the grants that are due. */
  fillGrants(batch: SendBatch, received: ReceiveWindow): void {
    while (received.grantDue && this.#fits(batch)) {
      const at = received.grant();
      const msg = message(MessageType.SGL, received.limit);
      if (at === NO_GRANT) this.#message(batch, msg);
      else this.#grant(batch, msg, this.#memory.receiveAddr + at, received.half);
    }
  }

  /** Adds to [batch] what maps buffers. */
  fillMapped(batch: SendBatch, window: SendWindow): void {
    const { targetSgl, bigEndian } = this.#peer;
    while (this.#mapped.length > 0 && window.hasCredit && this.#fits(batch)) {
      const { index, offset, addr, key, length } = this.#mapped.shift() as MappedBuffer;
      const slot = this.#takeSlot();
      putIomap(this.#memory.control, slot, !bigEndian, offset, addr, key, length);
      const remote = targetSgl.addr + targetSgl.length * SGE_BYTES + index * IOMAP_BYTES;
      this.#write(batch, message(MessageType.IOMAP, index), slot, IOMAP_BYTES, remote);
      window.takeCredit();
    }
  }

  /** Adds the end to [batch]. */
  fillEnd(batch: SendBatch): void {
    if (this.#end === undefined || !this.#fits(batch)) return;
    this.#message(batch, message(MessageType.CTRL, this.#end));
    this.#said = this.#end;
    this.#end = undefined;
  }

  /** True when the peer has been told that this side neither sends nor receives any more. */
  get saidDisconnect(): boolean {
    return this.#said === Control.DISCONNECT;
  }

  #fits(batch: SendBatch): boolean {
    return this.#inFlight < IN_FLIGHT && batch.free >= batch.perMessage;
  }

  #message(batch: SendBatch, msg: number): void {
    this.#inFlight += 1;
    batch.message(msg, TAG_CONTROL);
  }

  #grant(batch: SendBatch, msg: number, addr: number, length: number): void {
    const { targetSgl, bigEndian } = this.#peer;
    const slot = this.#takeSlot();
    putSge(this.#memory.control, slot, !bigEndian, addr, this.#memory.remoteKey, length);
    this.#write(batch, msg, slot, SGE_BYTES, targetSgl.addr + this.#peerSge * SGE_BYTES);
    this.#peerSge = (this.#peerSge + 1) % targetSgl.length;
  }

  /** Where the payload of the next message goes; as many as can be in flight. */
  #takeSlot(): number {
    const slot = this.#slot;
    this.#slot = (slot + 1) % IN_FLIGHT;
    return slot * this.#memory.controlBytes;
  }

  #write(batch: SendBatch, msg: number, slot: number, length: number, remote: number): void {
    const { controlAddr, localKey } = this.#memory;
    this.#inFlight += 1;
    batch.write(msg, controlAddr + slot, length, localKey, remote, this.#peer.targetSgl.key, TAG_CONTROL);
  }
}
