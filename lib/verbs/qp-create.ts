/** What a queue pair is made with, checked; for queue pairs made by hand and for those of rdma_cm ids. */
import type { NativeQpSpec } from '../addon.ts';
import { invalidArgument } from '../errors.ts';
import { checkInteger } from './check.ts';
import { CompletionQueue } from './completion-queue.ts';
import type { ProtectionDomain } from './protection-domain.ts';
import { SharedReceiveQueue } from './shared-receive-queue.ts';
import { XrcDomain } from './xrc-domain.ts';

/** Types of queue pairs, by name (enum ibv_qp_type). */
export const qpTypes = { RC: 2, UC: 3, UD: 4, RAW_PACKET: 8, XRC_SEND: 9, XRC_RECV: 10 } as const;

/**
 * Type of a queue pair: reliable connected, unreliable connected, unreliable datagram, raw Ethernet packets, and the two
 * ends of an extended reliable connection.
 */
export type QpType = keyof typeof qpTypes;

/** What a queue pair is made with (ibv_create_qp_ex(3), rdma_create_qp(3)). */
export interface QpOptions {
  /** 'RC' by default. */
  readonly type?: QpType;
  /** XRC_RECV does not use it, nor the next. */
  readonly sendCq: CompletionQueue;
  /** The send queue's by default. */
  readonly recvCq?: CompletionQueue;
  /** Takes its receives from there; maxRecvWr and maxRecvSge do not count then. */
  readonly srq?: SharedReceiveQueue;
  /** 64 by default. */
  readonly maxSendWr?: number;
  /** 64 by default; 0 for a queue pair that never receives. */
  readonly maxRecvWr?: number;
  /** 4 by default, or what the device has. */
  readonly maxSendSge?: number;
  /** 4 by default, or what the device has. */
  readonly maxRecvSge?: number;
  /** Bytes; 64 by default. */
  readonly maxInlineData?: number;
  /** The domain of an XRC_RECV queue pair, which has no queues of its own: its messages go to shared receive queues. */
  readonly xrcd?: XrcDomain;
  /** Every work request of the send queue completes, with SIGNALED or without (sq_sig_all). */
  readonly sqSigAll?: boolean;
  /** The port that it will use, whose longest message and MTU limit it; 1 by default. An rdma_cm id knows its own. */
  readonly port?: number;
  /** Of {@link QpCreateFlags}. */
  readonly createFlags?: number;
  /** Source QPN of its packets, with the flag SOURCE_QPN: 24 bits. */
  readonly sourceQpn?: number;
}

/** Flags of {@link QpOptions.createFlags} (enum ibv_qp_create_flags, ibv_create_qp_ex(3)). */
export const QpCreateFlags = {
  BLOCK_SELF_MCAST_LB: 1 << 1,
  SCATTER_FCS: 1 << 8,
  CVLAN_STRIPPING: 1 << 9,
  SOURCE_QPN: 1 << 10,
  PCI_WRITE_END_PADDING: 1 << 11,
} as const;

const KNOWN_FLAGS = Object.values(QpCreateFlags).reduce<number>((all, flag) => all | flag, 0);

/** Name of a type, by its number. @internal */
export function qpTypeName(type: number): QpType {
  return (Object.keys(qpTypes) as QpType[]).find((name) => qpTypes[name] === type) as QpType;
}

function checkQueue(name: string, queue: unknown): asserts queue is CompletionQueue {
  if (!(queue instanceof CompletionQueue)) {
    throw invalidArgument(
      'ERR_INVALID_ARG_TYPE',
      `${name} must be a CompletionQueue, made by device.createCq()`,
    );
  }
}

function checkXrcd(type: QpType, xrcd: unknown): void {
  if (type !== 'XRC_RECV' && xrcd !== undefined) {
    throw invalidArgument('ERR_INVALID_ARG_VALUE', `xrcd is only for XRC_RECV queue pairs, not for ${type}`);
  }
  if (type === 'XRC_RECV' && !(xrcd instanceof XrcDomain)) {
    throw invalidArgument('ERR_INVALID_ARG_TYPE', 'xrcd must be an XrcDomain, made by device.openXrcd()');
  }
}

function checkType(type: unknown): asserts type is QpType {
  if (typeof type === 'string' && Object.hasOwn(qpTypes, type)) return;
  throw invalidArgument(
    'ERR_INVALID_ARG_VALUE',
    `type must be one of ${Object.keys(qpTypes).join(', ')}, not ${String(type)}`,
  );
}

/** [options] as the addon wants them. @param id handle of the rdma_cm id that it is for, or 0 @internal */
export function qpSpec(pd: ProtectionDomain, options: QpOptions, id = 0): NativeQpSpec {
  const { attr } = pd.device;
  const sge = Math.min(4, attr.maxSge);
  const { type = 'RC', sendCq, recvCq = sendCq, srq, port = 1, createFlags = 0, sourceQpn = 0 } = options;
  const { maxSendWr = 64, maxRecvWr = 64, maxInlineData = 64 } = options;
  const { maxSendSge = sge, maxRecvSge = sge } = options;
  checkType(type);
  checkQueue('sendCq', sendCq);
  checkQueue('recvCq', recvCq);
  if (srq !== undefined && !(srq instanceof SharedReceiveQueue)) {
    throw invalidArgument('ERR_INVALID_ARG_TYPE', 'srq must be a SharedReceiveQueue, made by pd.createSrq()');
  }
  if (srq !== undefined && (srq.srqNum !== undefined || type === 'XRC_SEND' || type === 'XRC_RECV')) {
    throw invalidArgument(
      'ERR_INVALID_ARG_VALUE',
      'srq: XRC queue pairs take none, and a shared receive queue of an XRC domain is given to none: peers name it',
    );
  }
  checkInteger('maxSendWr', maxSendWr, 1, attr.maxQpWr);
  checkInteger('maxRecvWr', maxRecvWr, 0, attr.maxQpWr);
  checkInteger('maxSendSge', maxSendSge, 1, attr.maxSge);
  checkInteger('maxRecvSge', maxRecvSge, 0, attr.maxSge);
  checkInteger('maxInlineData', maxInlineData, 0, 65536);
  checkInteger('port', port, 1, attr.physPortCnt);
  checkInteger('sourceQpn', sourceQpn, 0, 0xff_ffff);
  checkInteger('createFlags', createFlags, 0, 0xffff_ffff);
  if ((createFlags & ~KNOWN_FLAGS) !== 0) {
    throw invalidArgument(
      'ERR_INVALID_ARG_VALUE',
      `createFlags 0x${createFlags.toString(16)} has flags that are not in QpCreateFlags`,
    );
  }
  if (sourceQpn !== 0 && (createFlags & QpCreateFlags.SOURCE_QPN) === 0) {
    throw invalidArgument(
      'ERR_INVALID_ARG_VALUE',
      'sourceQpn needs QpCreateFlags.SOURCE_QPN in createFlags (ibv_create_qp_ex(3))',
    );
  }
  checkXrcd(type, options.xrcd);
  return {
    type: qpTypes[type],
    pd: pd._handle,
    sendCq: sendCq._handle,
    recvCq: recvCq._handle,
    srq: srq?._handle ?? 0,
    id,
    xrcd: options.xrcd === undefined ? 0 : options.xrcd._handle,
    maxSendWr,
    maxRecvWr,
    maxSendSge,
    maxRecvSge,
    maxInlineData,
    port,
    signalAll: options.sqSigAll === true,
    createFlags,
    sourceQpn,
  };
}
