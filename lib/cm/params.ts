/** What connections and queue pairs are made with, checked. */
import type { NativeConnParam } from '../addon.ts';
import { invalidArgument } from '../errors.ts';
import { bytesOf, checkInteger } from '../verbs/check.ts';
import type { DeviceAttr } from '../verbs/device-attr.ts';
import type { ProtectionDomain } from '../verbs/protection-domain.ts';
import type { QpOptions } from '../verbs/qp-create.ts';
import type { ConnEventParam } from './events.ts';

/** Port spaces, by name (enum rdma_port_space, rdma_create_id(3)). @internal */
export const portSpaces = { TCP: 0x0106, UDP: 0x0111, IPOIB: 0x0002 } as const;

/** Port space of an id: 'TCP' makes connections, 'UDP' finds datagram services, 'IPOIB' is for IPoIB's multicast groups. */
export type PortSpace = keyof typeof portSpaces;

/**
 * Parameters of a connection (struct rdma_conn_param, rdma_connect(3)). In the port space UDP only `privateData` and
 * `qpNum` have a meaning; the others are refused there.
 */
export interface ConnParam {
  /**
   * In the port space TCP at most 56 bytes with connect, 196 with accept; in UDP 180 and 136. The peer may see zeros after
   * it: carry a length of your own.
   */
  readonly privateData?: Uint8Array;
  /** RDMA READs that the peer may have in flight. 0 … device.attr.maxQpRdAtom; by default 16 or what the peer asks. */
  readonly responderResources?: number;
  /** RDMA READs that this side may have in flight. 0 … device.attr.maxQpInitRdAtom; by default 16 or what the peer grants. */
  readonly initiatorDepth?: number;
  /** Retransmissions before ERR_RDMA_WC_RETRY_EXC_ERR, 0 … 7; 6 by default. rxe takes 7 to mean for ever. */
  readonly retryCount?: number;
  /** Retries when the peer has no receive posted, 0 … 7; 7 is for ever, 6 the default. */
  readonly rnrRetryCount?: number;
  readonly flowControl?: boolean;
  /**
   * How long the peer waits when this side had no receive posted, 0 … 31: 0 = 655 ms, 1 = 0.01 ms … 12 = 0.64 ms (the
   * default) … 31 = 491 ms (IBV_QP_MIN_RNR_TIMER, ibv_modify_qp(3)). InfiniBand and RoCE only.
   */
  readonly minRnrTimer?: number;
  /** Number of a queue pair that was not made by {@link CmId.createQp}; its user moves it through its states. */
  readonly qpNum?: number;
  /** Whether that queue pair has a shared receive queue. */
  readonly srq?: boolean;
}

/** What the queue pair of an id is made with (rdma_create_qp(3)). Its type is RC in the port space TCP, otherwise UD. */
export interface QpInit extends QpOptions {
  readonly pd: ProtectionDomain;
}

/** What came with a connection request. In the port space UDP only the private data. */
export interface ConnectRequest extends ConnEventParam {
  readonly privateData: Buffer;
}

/** RDMA READs in flight when nobody says otherwise. */
const DEFAULT_READS = 16;
/** librdmacm takes 255 to mean the device's limit. */
const MAX_READS = 254;
const RETRIES = 6;
/** 0.64 ms; librdmacm leaves 0, which means 655 ms (ibv_modify_qp(3)). */
const MIN_RNR_TIMER = 12;

/** Bytes of private data that each message of the CM carries, less what rdma_cm needs itself (rdma_connect(3)). */
const connectionData = { connect: 56, accept: 196, reject: 148 };
const datagramData = { connect: 180, accept: 136, reject: 136 };

/** The bytes of private data, or none. @throws RdmaError ERR_OUT_OF_RANGE above the limit of the call @internal */
export function privateBytes(
  data: Uint8Array | undefined,
  call: keyof typeof connectionData,
  portSpace: PortSpace,
): Uint8Array {
  if (data === undefined) return new Uint8Array(0);
  const bytes = bytesOf('privateData', data);
  const limit = (portSpace === 'TCP' ? connectionData : datagramData)[call];
  if (bytes.length > limit) {
    throw invalidArgument(
      'ERR_OUT_OF_RANGE',
      `privateData has ${bytes.length} bytes; at most ${limit} can be carried by ${call} in the port space ${portSpace}`,
    );
  }
  return bytes;
}

const connectionOnly = [
  'responderResources',
  'initiatorDepth',
  'retryCount',
  'rnrRetryCount',
  'flowControl',
  'minRnrTimer',
  'srq',
] as const;

/** The RNR timer that [param] asks for. @internal */
export function minRnrTimerOf(param: { readonly minRnrTimer?: number }): number {
  const { minRnrTimer = MIN_RNR_TIMER } = param;
  checkInteger('minRnrTimer', minRnrTimer, 0, 31);
  return minRnrTimer;
}

/** Checks [param] and fills in what it leaves open. @internal */
export function connParam(
  param: ConnParam,
  call: 'connect' | 'accept',
  portSpace: PortSpace,
  attr: DeviceAttr,
  request?: ConnectRequest,
): NativeConnParam {
  const { qpNum = 0 } = param;
  const data = privateBytes(param.privateData, call, portSpace);
  checkInteger('qpNum', qpNum, 0, 0xff_ffff);
  if (portSpace !== 'TCP') {
    const surplus = connectionOnly.find((name) => param[name] !== undefined);
    if (surplus !== undefined) {
      throw invalidArgument(
        'ERR_INVALID_ARG_VALUE',
        `${surplus} has no meaning in the port space ${portSpace}`,
      );
    }
    return [data, 0, 0, 0, 0, 0, qpNum, 0];
  }
  const { retryCount = RETRIES, rnrRetryCount = RETRIES, responderResources, initiatorDepth } = param;
  const maxResources = Math.min(MAX_READS, attr.maxQpRdAtom);
  const maxDepth = Math.min(MAX_READS, attr.maxQpInitRdAtom);
  checkInteger('retryCount', retryCount, 0, 7);
  checkInteger('rnrRetryCount', rnrRetryCount, 0, 7);
  if (responderResources !== undefined) {
    checkInteger('responderResources', responderResources, 0, maxResources);
  }
  if (initiatorDepth !== undefined) checkInteger('initiatorDepth', initiatorDepth, 0, maxDepth);
  return [
    data,
    responderResources ?? Math.min(request?.responderResources ?? DEFAULT_READS, maxResources),
    initiatorDepth ?? Math.min(request?.initiatorDepth ?? DEFAULT_READS, maxDepth),
    param.flowControl === true ? 1 : 0,
    retryCount,
    rnrRetryCount,
    qpNum,
    param.srq === true ? 1 : 0,
  ];
}
