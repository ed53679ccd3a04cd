/** The sending side, once the peer's connection data are known: what waits in the outbox, and what controls the peer. */
import { endianness } from 'node:os';
import type { QueuePair } from '../../verbs/index.ts';
import { type ConnData, MAX_TRANSFER } from '../wire/index.ts';
import { CONTROL_REQUESTS, ControlBox, type MappedBuffer } from './control.ts';
import type { ChannelMemory } from './memory.ts';
import { type Outbox, TAG_CONTROL, TAG_NOTHING } from './outbox.ts';
import type { ReceiveWindow } from './receive-window.ts';
import { SendBatch } from './send-batch.ts';
import { SendWindow } from './send-window.ts';

/** Longest transfer: as long as those of librdmacm, so that copying overlaps with sending. */
const TRANSFER_BYTES = 65536;

/** Credits that data leave for control messages where a missing receive ends the connection (iWARP). */
const SPARE_CREDITS = 4;

/** Told of every work request that has completed. @returns whether the connection goes on @internal */
export type OnCompleted = (status: number) => boolean;

/** @internal */
export class Sending {
  readonly #outbox: Outbox;
  readonly #batch: SendBatch;
  readonly #window: SendWindow;
  readonly #control: ControlBox;
  readonly #maxTransfer: number;
  readonly #onCompleted: OnCompleted;

  /** @param bySend the device has no immediate data (iWARP) */
  constructor(
    qp: QueuePair,
    memory: ChannelMemory,
    outbox: Outbox,
    bySend: boolean,
    peer: ConnData,
    onCompleted: OnCompleted,
  ) {
    this.#outbox = outbox;
    this.#batch = new SendBatch(qp, bySend, peer.bigEndian, this.#onRetired);
    const spare = bySend ? SPARE_CREDITS : 0;
    this.#window = new SendWindow(memory.sgl, endianness() === 'LE', peer.credits, peer.dataBuffer, spare);
    this.#control = new ControlBox(memory, peer);
    this.#maxTransfer = Math.min(TRANSFER_BYTES, qp.caps.maxMessage, MAX_TRANSFER);
    this.#onCompleted = onCompleted;
  }

  /** Nothing is in flight, and nothing waits but what the outbox has. */
  get idle(): boolean {
    return this.#control.empty && this.#batch.pending === 0;
  }

  /** The last word that was sent: DISCONNECT or SHUTDOWN. */
  get said(): number | undefined {
    return this.#control.said;
  }

  /** True when the peer has been told that this side neither sends nor receives any more. */
  get saidDisconnect(): boolean {
    return this.#control.saidDisconnect;
  }

  /** The peer grants credits. @throws RdmaError EPROTO, as {@link SendWindow.granted} */
  granted(limit: number, sgl: boolean): void {
    this.#window.granted(limit, sgl);
  }

  /** Tells the peer of memory that it may write to, with the next {@link fill}. */
  map(buffer: MappedBuffer): void {
    this.#control.map(buffer);
  }

  /** After all else, says [control], the last word of this side; undefined takes it back. */
  end(control: number | undefined): void {
    this.#control.end(control);
  }

  /**
   * Sends what can be sent, as one batch: the grants that are due first.
   *
   * @param data false when the peer receives nothing any more but the end
   */
  fill(received: ReceiveWindow, data: boolean): void {
    if (data) {
      this.#control.fillGrants(this.#batch, received);
      this.#control.fillMapped(this.#batch, this.#window);
      this.#outbox.fill(this.#batch, this.#window, this.#maxTransfer, CONTROL_REQUESTS);
    }
    if (this.#outbox.empty) this.#control.fillEnd(this.#batch);
    this.#batch.post();
  }

  /** Writes no bytes, to learn whether the peer is alive. */
  probe(): void {
    this.#batch.probe(TAG_NOTHING);
    this.#batch.post();
  }

  readonly #onRetired = (tag: number, status: number): void => {
    if (!this.#onCompleted(status)) return;
    if (tag === TAG_CONTROL) this.#control.sent();
    else this.#outbox.sent(tag);
  };
}
