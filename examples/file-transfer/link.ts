/** What a transfer needs of a connection. {@link RdmaLink} is the real one; tests have one without a device. */
import type { DmaCounters } from '../../lib/index.ts';
import type { Limits } from './hello.ts';
import { TransferError } from './protocol.ts';

/** Memory of the client, as it told the server. */
export interface RemoteMemory {
  addr: number;
  rkey: number;
}

/** Registered memory for one chunk. */
export interface Slot {
  readonly bytes: Buffer;
  /** Where the peer finds it, when it is exposed. */
  readonly addr: number;
  readonly rkey: number;
}

/** What the peer may do with the slots of a window. */
export type Exposure = 'none' | 'peerReads' | 'peerWrites';

/** Registered memory for the chunks in flight. */
export interface SlotMemory {
  readonly slots: readonly Slot[];
  close(): Promise<void>;
}

/** One connection. After a failure every promise rejects and {@link Link.lost} resolves with the reason. */
export interface Link {
  /** What the two ends agreed on. */
  readonly limits: Limits;
  /** The other end, for messages: address and port. */
  readonly peer: string;
  /** Resolves, never rejects, when the connection has ended, with the reason. */
  readonly lost: Promise<Error>;
  /** Strategy counters of the library for this connection. */
  readonly counters: Readonly<DmaCounters>;
  /** Calls `handler` for every message, in order, once the connection is up. The bytes belong to the handler. */
  onMessage(handler: (bytes: Buffer) => void): void;
  /** Sends a message. Resolves when the transport is done with it. */
  send(message: Buffer): Promise<void>;
  /** RDMA READ: fills `local` from the peer's memory. */
  read(local: Buffer, remote: RemoteMemory): Promise<void>;
  /** RDMA WRITE: places `local` in the peer's memory. A message sent afterwards arrives after it. */
  write(local: Buffer, remote: RemoteMemory): Promise<void>;
  /** Allocates and registers `count` slots. */
  allocSlots(count: number, slotBytes: number, exposure: Exposure): Promise<SlotMemory>;
  /** Ends the connection; with a reason, the promises that are still open reject with it. */
  close(reason?: Error): Promise<void>;
}

/** `status` of a connection that ended too early. Never on the wire. */
export const LOST = 100;

/** The connection ended although something was still to be done. `code` is `ERR_TRANSFER_LOST`. */
export class LostError extends TransferError {
  override readonly code = 'ERR_TRANSFER_LOST';

  constructor(message: string, options?: ErrorOptions) {
    super(LOST, message, options);
    this.name = 'LostError';
  }
}

/**
 * Calls `onSilence` when {@link Watchdog.heard} was not called for `limitMs`. A peer whose machine died sends
 * nothing, not even a disconnect, so silence is the only sign.
 */
export class Watchdog {
  #last = performance.now();
  readonly #timer: NodeJS.Timeout;

  constructor(limitMs: number, onSilence: (silentMs: number) => void) {
    this.#timer = setInterval(() => {
      const silentMs = performance.now() - this.#last;
      if (silentMs < limitMs) return;
      this.stop();
      onSilence(Math.round(silentMs));
    }, limitMs / 5);
    this.#timer.unref();
  }

  heard(): void {
    this.#last = performance.now();
  }

  stop(): void {
    clearInterval(this.#timer);
  }
}
