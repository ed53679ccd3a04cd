/** What sockets are made with, checked. */
import { invalidArgument } from '../errors.ts';
import { checkInteger } from '../verbs/check.ts';
import { type Device, ProtectionDomain } from '../verbs/index.ts';
import type { MemorySizes } from './channel/memory.ts';
import { iomapSize } from './wire/index.ts';

/**
 * Sizes of a connection, which are fixed when it is made: memory is registered once, and nothing later. Queues are as
 * long as those of rsocket(7) by default, buffers four times as large.
 */
export interface RdmaSocketSizes {
  /** Bytes that {@link RdmaSocket.write} takes before the peer has them; 524288 by default (SO_SNDBUF). */
  readonly sendBufferSize?: number;
  /** Bytes that the peer may send before they are read, granted in halves; 524288 by default (SO_RCVBUF). */
  readonly receiveBufferSize?: number;
  /** Work requests in flight, 32 … 65534; 384 by default (RDMA_SQSIZE). */
  readonly sendQueueSize?: number;
  /** Messages that the peer may send before they are read, 16 … 65534; 384 by default (RDMA_RQSIZE). */
  readonly receiveQueueSize?: number;
  /** Buffers that the peer may map for direct writes, 0 … 32512, above 128 in steps of 256; none by default (RDMA_IOMAPSIZE). */
  readonly iomapSize?: number;
  /**
   * Protection domain of the device. Memory of its arena is sent from where it is. By default every connection has a
   * domain of its own: no peer can reach what belongs to another.
   */
  readonly pd?: ProtectionDomain;
}

/** A half is granted at a time: with those of rsockets, 64 KiB, every transfer waits for a wake-up of either side. */
const DEFAULT_BUFFER = 512 * 1024;
const DEFAULT_QUEUE = 384;
const MIN_BUFFER = 2048;
const MAX_BUFFER = 2 ** 30;
const MAX_QUEUE = 65534;

/** Receives for control messages, which need no credits. */
const CONTROL_RECEIVES = 16;

/** Throws unless [sizes] are possible on some device. @internal */
export function checkSizes(sizes: RdmaSocketSizes): void {
  const { sendBufferSize, receiveBufferSize, sendQueueSize, receiveQueueSize, iomapSize: iomap, pd } = sizes;
  if (sendBufferSize !== undefined) checkInteger('sendBufferSize', sendBufferSize, MIN_BUFFER, MAX_BUFFER);
  if (receiveBufferSize !== undefined)
    checkInteger('receiveBufferSize', receiveBufferSize, MIN_BUFFER, MAX_BUFFER);
  if (sendQueueSize !== undefined) checkInteger('sendQueueSize', sendQueueSize, 32, MAX_QUEUE);
  if (receiveQueueSize !== undefined) checkInteger('receiveQueueSize', receiveQueueSize, 16, MAX_QUEUE);
  if (iomap !== undefined) checkInteger('iomapSize', iomap, 0, 32512);
  if (pd !== undefined && !(pd instanceof ProtectionDomain)) {
    throw invalidArgument('ERR_INVALID_ARG_TYPE', 'pd must be a ProtectionDomain, made by device.allocPd()');
  }
}

/** The sizes of a connection on [device]. @internal */
export interface ConnectionSizes extends MemorySizes {
  readonly sendRequests: number;
}

/** What [sizes] come to on [device], whose queues may be shorter. @internal */
export function sizesOn(device: Device, sizes: RdmaSocketSizes): ConnectionSizes {
  const { sendBufferSize = DEFAULT_BUFFER, receiveBufferSize = DEFAULT_BUFFER } = sizes;
  const { sendQueueSize = DEFAULT_QUEUE, receiveQueueSize = DEFAULT_QUEUE } = sizes;
  const { maxQpWr, maxCqe } = device.attr;
  const most = Math.min(maxQpWr, Math.floor(maxCqe / 2));
  const credits = Math.min(receiveQueueSize, most - CONTROL_RECEIVES);
  return {
    sendBytes: sendBufferSize,
    receiveBytes: receiveBufferSize & ~1,
    credits,
    receives: credits + CONTROL_RECEIVES,
    sendRequests: Math.min(sendQueueSize, most),
    iomapEntries: iomapSize(sizes.iomapSize ?? 0),
  };
}
