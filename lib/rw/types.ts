// What the read/write context needs of a queue pair. The real class satisfies it; so does the fake of the unit tests.

import type { Fragments } from '../dma/fragments.ts';
import type { ForceStrategy, Strategy } from '../dma/transfer.ts';
import type { DmaQp } from '../dma/types.ts';
import type { QueuePair } from '../verbs/queue-pair.ts';

/** What is asked of the completion at index [wc] of a batch. */
interface Completions {
  readonly ring: {
    opcode(wc: number): number;
    flags(wc: number): number;
    immData(wc: number): number;
    vendorErr(wc: number): number;
  };
}

/** A queue pair, as far as this layer looks. */
export interface RwQp
  extends DmaQp,
    Pick<QueuePair, 'qpNum' | 'sendFree' | 'recvFree' | 'postSend' | 'postRecv' | 'toError'> {
  /** Set when receives are posted to it instead. */
  readonly srq?: object | undefined;
  readonly sendCq: Completions;
  readonly recvCq: Completions;
}

/** What an operation resolves with. */
export interface RwResult {
  /** Bytes transferred; for a receive, the length of the message that is in its fragments. */
  readonly bytes: number;
  /** How the device reached the memory. */
  readonly strategy: Strategy;
  /** Of a receive: the number that came with the message, or with the peer's write. */
  readonly immData?: number;
  /** Of a receive that the peer's write with immediate data took: bytes written, elsewhere; the fragments are untouched. */
  readonly writtenBytes?: number;
  /** Of a receive: the key of this side that the message has made invalid. */
  readonly invalidatedRkey?: number;
}

/** Options of one operation. */
export interface RwOptions {
  /** Take this strategy; throws where it is impossible. */
  readonly force?: ForceStrategy;
  /** The memory will be used again: register foreign buffers of a page and more to stay, already the first time. */
  readonly reuse?: boolean;
  /**
   * Of a write: a message that is sent behind it, in the same list of work requests. The peer has all of the bytes when
   * it receives the message; the write resolves when the message has gone.
   */
  readonly message?: Fragments;
  /**
   * Of a send, or a write with a message: 32 bits that come with the message (SEND_WITH_IMM). Of a write without one: the
   * write takes a receive of the peer, which gets them (RDMA_WRITE_WITH_IMM). Not on iWARP.
   */
  readonly immData?: number;
  /** Of a send, or a write with a message: the message makes this rkey of the peer invalid (SEND_WITH_INV). */
  readonly invalidateRkey?: number;
  /**
   * Gives up an operation that still waits for its turn; noticed when the turn comes. What has been posted cannot be
   * taken back from the device.
   */
  readonly signal?: AbortSignal;
}

/** Memory of the peer: what it sent to let this side read or write it. */
export interface RemoteMemory {
  /** Address in the peer's region, as the peer gave it; a bigint above 2^53 - 1, as a kernel's may be. */
  readonly addr: number | bigint;
  /** u32. */
  readonly rkey: number;
}
