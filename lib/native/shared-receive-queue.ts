/** What the addon exports for shared receive queues. Handles are 31-bit numbers that name native objects of this thread. */

/** @internal */
export interface SharedReceiveQueueAddon {
  /** Returns its handle, and the number of an XRC queue or 0. */
  createSrq(
    pd: number,
    maxWr: number,
    maxSge: number,
    limit: number,
    xrcd: number,
    cq: number,
  ): [handle: number, srqNum: number];
  attachSrqRing(srq: number, ring: Uint8Array, batch: Uint32Array): void;
  resizeSrq(srq: number, maxWr: number, capacity: number, ring: Uint8Array, batch: Uint32Array): void;
  setSrqLimit(srq: number, limit: number): void;
  /** maxWr, maxSge, limit */
  querySrq(srq: number): [number, number, number];
  postSrqRecv(srq: number, count: number): number;
}
