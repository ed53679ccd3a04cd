/** What connections and queue pairs are made with, checked. */
import type { NativeConnParam } from '../addon.ts';
import { invalidArgument } from '../errors.ts';
import { bytesOf, checkInteger } from '../verbs/check.ts';
import type { DeviceAttr } from '../verbs/device-attr.ts';
import type { ProtectionDomain } from '../verbs/protection-domain.ts';
import type { QpOptions } from '../verbs/qp-create.ts';

/** How long a step may take, in milliseconds, and what else ends it. */
export interface AwaitOptions {
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

/** Parameters of a connection (struct rdma_conn_param, rdma_connect(3)). */
export interface ConnParam {
  /** At most 56 bytes with connect, 196 with accept. The peer may see zeros after it: carry a length of your own. */
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
}

/** What the queue pair of an id is made with (rdma_create_qp(3)). */
export interface QpInit extends QpOptions {
  readonly pd: ProtectionDomain;
}

/** What came with a connection request. */
export interface ConnectRequest {
  readonly privateData: Buffer;
  /** RDMA READs that the peer wants to have in flight. */
  readonly responderResources: number;
  /** RDMA READs that the peer allows. */
  readonly initiatorDepth: number;
}

/** RDMA READs in flight when nobody says otherwise. */
const DEFAULT_READS = 16;

/** The bytes of private data, or none. @throws RdmaError ERR_OUT_OF_RANGE above [limit] bytes @internal */
export function privateBytes(data: Uint8Array | undefined, limit: number): Uint8Array {
  if (data === undefined) return new Uint8Array(0);
  const bytes = bytesOf('privateData', data);
  if (bytes.length > limit) {
    throw invalidArgument(
      'ERR_OUT_OF_RANGE',
      `privateData has ${bytes.length} bytes; at most ${limit} can be carried here`,
    );
  }
  return bytes;
}

/** Checks [param], with at most [dataLimit] bytes of private data, and fills in what it leaves open. @internal */
export function connParam(
  param: ConnParam,
  dataLimit: number,
  attr: DeviceAttr,
  request?: ConnectRequest,
): NativeConnParam {
  const { retryCount = 6, rnrRetryCount = 6, responderResources, initiatorDepth } = param;
  checkInteger('retryCount', retryCount, 0, 7);
  checkInteger('rnrRetryCount', rnrRetryCount, 0, 7);
  if (responderResources !== undefined) {
    checkInteger('responderResources', responderResources, 0, Math.min(255, attr.maxQpRdAtom));
  }
  if (initiatorDepth !== undefined) {
    checkInteger('initiatorDepth', initiatorDepth, 0, Math.min(255, attr.maxQpInitRdAtom));
  }
  return [
    privateBytes(param.privateData, dataLimit),
    responderResources ?? Math.min(request?.responderResources ?? DEFAULT_READS, attr.maxQpRdAtom),
    initiatorDepth ?? Math.min(request?.initiatorDepth ?? DEFAULT_READS, attr.maxQpInitRdAtom),
    param.flowControl === true ? 1 : 0,
    retryCount,
    rnrRetryCount,
  ];
}
