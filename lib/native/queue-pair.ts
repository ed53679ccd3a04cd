/** What the addon exports for queue pairs. Handles are 31-bit numbers that name native objects of this thread. */

/** @internal */
export interface QueuePairAddon {
  createQp(
    id: number,
    pd: number,
    sendCq: number,
    recvCq: number,
    maxSendWr: number,
    maxRecvWr: number,
    maxSendSge: number,
    maxRecvSge: number,
    maxInline: number,
  ): { handle: number; qpNum: number; send: NativeQueueLimits; recv: NativeQueueLimits };
  attachRings(qp: number, send: Uint8Array, recv: Uint8Array): void;
  postSend(qp: number, first: number, count: number): number;
  postRecv(qp: number, first: number, count: number): number;
  queryQpState(qp: number): number;
  qpToError(qp: number): void;
  setMinRnrTimer(qp: number, timer: number): void;
}

/** @internal */
export interface NativeQueueLimits {
  maxWr: number;
  capacity: number;
  maxSge: number;
  maxSgeRead: number;
  maxInline: number;
  maxMessage: number;
  ringBytes: number;
}
