/** What the addon exports for queue pairs. Handles are 31-bit numbers that name native objects of this thread. */

/** @internal */
export interface QueuePairAddon {
  createQp(spec: NativeQpSpec): {
    handle: number;
    qpNum: number;
    send: NativeQueueLimits;
    recv: NativeQueueLimits;
  };
  attachRings(qp: number, send: Uint8Array, recv: Uint8Array): void;
  postSend(qp: number, first: number, count: number): number;
  postRecv(qp: number, first: number, count: number): number;
  queryQpState(qp: number): number;
  qpToError(qp: number): void;
  setMinRnrTimer(qp: number, timer: number): void;
}

/** Objects by their handles, 0 for none. @internal */
export interface NativeQpSpec {
  /** enum ibv_qp_type */
  type: number;
  pd: number;
  sendCq: number;
  recvCq: number;
  /** The connection id that it belongs to. */
  id: number;
  maxSendWr: number;
  maxRecvWr: number;
  maxSendSge: number;
  maxRecvSge: number;
  maxInlineData: number;
  port: number;
  signalAll: boolean;
  createFlags: number;
  sourceQpn: number;
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
  /** enum ibv_qp_type of the queue pair */
  type: number;
  /** Every work request completes, signalled or not. */
  signalAll: boolean;
}
