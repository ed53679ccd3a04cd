/** What the addon exports for queue pairs. Handles are 31-bit numbers that name native objects of this thread. */
import type { NativeAhAttr } from './address-handle.ts';

/** @internal */
export interface QueuePairAddon {
  createQp(spec: NativeQpSpec): {
    handle: number;
    qpNum: number;
    /** The port whose limits it has. */
    port: number;
    send: NativeQueueLimits;
    recv: NativeQueueLimits;
  };
  attachRings(qp: number, send: Uint8Array, recv: Uint8Array): void;
  postSend(qp: number, first: number, count: number): number;
  postRecv(qp: number, first: number, count: number): number;
  skipPosts(qp: number, receive: boolean, count: number): void;
  retireSkipped(qp: number, receive: boolean, seq: number): number | undefined;
  queryQpState(qp: number): number;
  qpToError(qp: number): void;
  modifyQp(qp: number, attr: NativeQpAttr, mask: number): void;
  queryQp(qp: number): Required<NativeQpAttr> & NativeQpQuery;
  retireQp(qp: number): void;
  queryEce(qp: number): { vendorId: number; options: number; compMask: number };
  setEce(qp: number, vendorId: number, options: number, compMask: number): void;
  queryDataInOrder(qp: number, opcode: number, flags: number): boolean;
  modifyRateLimit(qp: number, rateLimit: number, maxBurstSz: number, typicalPktSz: number): void;
  attachMcast(qp: number, gid: string, lid: number): void;
  detachMcast(qp: number, gid: string, lid: number): void;
  setMinRnrTimer(qp: number, timer: number): void;
}

/** Objects by their handles, 0 for none. @internal */
export interface NativeQpSpec {
  /** enum ibv_qp_type */
  type: number;
  pd: number;
  sendCq: number;
  recvCq: number;
  srq: number;
  /** The connection id that it belongs to. */
  id: number;
  xrcd: number;
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

/** struct ibv_qp_attr, with the numbers of its enums. @internal */
export interface NativeQpAttr {
  state?: number;
  curState?: number;
  pathMtu?: number;
  pathMigState?: number;
  qkey?: number;
  rqPsn?: number;
  sqPsn?: number;
  destQpNum?: number;
  accessFlags?: number;
  ahAttr?: NativeAhAttr;
  altAhAttr?: NativeAhAttr;
  pkeyIndex?: number;
  altPkeyIndex?: number;
  enSqdAsyncNotify?: number;
  maxRdAtomic?: number;
  maxDestRdAtomic?: number;
  minRnrTimer?: number;
  port?: number;
  timeout?: number;
  retryCnt?: number;
  rnrRetry?: number;
  altPort?: number;
  altTimeout?: number;
  rateLimit?: number;
}

/** What only a query tells. @internal */
export interface NativeQpQuery {
  sqDraining: number;
  maxSendWr: number;
  maxRecvWr: number;
  maxSendSge: number;
  maxRecvSge: number;
  maxInlineData: number;
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
