// What the read/write context needs of a queue pair. The real class satisfies it; so does the fake of the unit tests.

import type { Strategy } from '../dma/transfer.ts';
import type { DmaQp } from '../dma/types.ts';
import type { QueuePair } from '../verbs/queue-pair.ts';

interface VendorErrors {
  readonly ring: { vendorErr(wc: number): number };
}

/** A queue pair, as far as this layer looks. */
export interface RwQp
  extends DmaQp,
    Pick<QueuePair, 'qpNum' | 'sendFree' | 'recvFree' | 'postSend' | 'postRecv' | 'toError'> {
  readonly sendCq: VendorErrors;
  readonly recvCq: VendorErrors;
}

/** What an operation resolves with. */
export interface RwResult {
  /** Bytes transferred; for a receive, the length of the message. */
  readonly bytes: number;
  /** How the device reached the memory. */
  readonly strategy: Strategy;
}

/** Memory of the peer: what it sent to let this side read or write it. */
export interface RemoteMemory {
  /** Address in the peer's region, as the peer gave it; at most 2^53 - 1. */
  readonly addr: number | bigint;
  /** u32. */
  readonly rkey: number;
}
