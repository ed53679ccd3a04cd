/**
 * RdmaError and its tables: codes that Node users know (ECONNREFUSED), codes of the field (ERR_RDMA_WC_REM_ACCESS_ERR).
 */
import { getSystemErrorMap } from 'node:util';

/** What is known of an error beyond its code and message. */
export interface RdmaErrorDetails {
  /** Negative, as libuv gives it. */
  readonly errno?: number | undefined;
  /** The C function that failed. */
  readonly syscall?: string | undefined;
  readonly device?: string | undefined;
  readonly qpNum?: number | undefined;
  /** IBV_WC_* of the completion, one of {@link WcStatus}. */
  readonly wcStatus?: number | undefined;
  readonly vendorErr?: number | undefined;
  /** Which work request of a batch. */
  readonly wrIndex?: number | undefined;
  /** How many work requests of the batch are on their way. */
  readonly posted?: number | undefined;
  /** Index of the fragment at fault. */
  readonly fragment?: number | undefined;
  /** What is wrong with the fragment, in one word. */
  readonly flaw?: string | undefined;
  /** What the peer sent with a rejection. */
  readonly privateData?: Uint8Array | undefined;
  /** RDMA_CM_EVENT_* that brought the error. */
  readonly event?: string | undefined;
  /** The transport's number for why the peer refused (InfiniBand volume 1, 12.6.7.2). */
  readonly reason?: number | undefined;
  readonly cause?: unknown;
}

/** Every error of this library. `code` tells the kind; the message names the argument, its value and its limit. */
export class RdmaError extends Error {
  override readonly name = 'RdmaError';
  readonly code: string;
  declare readonly errno?: number;
  declare readonly syscall?: string;
  declare readonly device?: string;
  declare readonly qpNum?: number;
  declare readonly wcStatus?: number;
  declare readonly vendorErr?: number;
  declare readonly wrIndex?: number;
  declare readonly posted?: number;
  declare readonly fragment?: number;
  declare readonly flaw?: string;
  declare readonly privateData?: Uint8Array;
  declare readonly event?: string;
  declare readonly reason?: number;

  constructor(code: string, message: string, details: RdmaErrorDetails = {}) {
    const { cause, ...known } = details;
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
    for (const [key, value] of Object.entries(known)) {
      if (value !== undefined) Object.defineProperty(this, key, { value, enumerable: true });
    }
  }
}

/** On Linux one number; libuv calls it ENOTSUP, the manual pages of verbs EOPNOTSUPP. */
const EOPNOTSUPP = 95;

/** Name of a negative errno: 'ENODEV'. */
export function errnoName(errno: number): string {
  if (errno === -EOPNOTSUPP) return 'EOPNOTSUPP';
  return getSystemErrorMap().get(errno)?.[0] ?? `E${-errno}`;
}

/** The error of a C function that returned [errno] (negative). */
export function systemError(syscall: string, errno: number, detail: string): RdmaError {
  const code = errnoName(errno);
  const text = detail === '' ? '' : `: ${detail}`;
  return new RdmaError(code, `${syscall} ${code}${text}`, { errno, syscall });
}

/** A programmer's mistake; [code] is ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE or ERR_OUT_OF_RANGE. */
export function invalidArgument(code: string, message: string, details?: RdmaErrorDetails): RdmaError {
  return new RdmaError(code, message, details);
}

/** The error of using an object that has been closed. */
export function closedError(what: string): RdmaError {
  return new RdmaError('ERR_RDMA_CLOSED', `the ${what} is closed`);
}

/** Completion statuses (ibv_poll_cq(3), enum ibv_wc_status). */
export const WcStatus = {
  SUCCESS: 0,
  LOC_LEN_ERR: 1,
  LOC_QP_OP_ERR: 2,
  LOC_EEC_OP_ERR: 3,
  LOC_PROT_ERR: 4,
  WR_FLUSH_ERR: 5,
  MW_BIND_ERR: 6,
  BAD_RESP_ERR: 7,
  LOC_ACCESS_ERR: 8,
  REM_INV_REQ_ERR: 9,
  REM_ACCESS_ERR: 10,
  REM_OP_ERR: 11,
  RETRY_EXC_ERR: 12,
  RNR_RETRY_EXC_ERR: 13,
  LOC_RDD_VIOL_ERR: 14,
  REM_INV_RD_REQ_ERR: 15,
  REM_ABORT_ERR: 16,
  INV_EECN_ERR: 17,
  INV_EEC_STATE_ERR: 18,
  FATAL_ERR: 19,
  RESP_TIMEOUT_ERR: 20,
  GENERAL_ERR: 21,
} as const;

const wcNames: readonly string[] = Object.keys(WcStatus);

const wcTexts: Readonly<Record<string, string>> = {
  LOC_LEN_ERR: 'a message was longer than the posted receive buffer, or longer than the port allows',
  LOC_QP_OP_ERR:
    'the local device could not carry out the work request; for a receive: was the message longer than its buffer?',
  LOC_PROT_ERR: 'a local SGE is not covered by a memory region with the needed access',
  WR_FLUSH_ERR:
    'the queue pair is in the error state: it was closed, the peer disconnected, or an earlier work request failed ' +
    '(on iWARP a peer that refuses a request, for a wrong rkey or a missing receive, ends the connection)',
  REM_INV_REQ_ERR: 'the peer refused the request as invalid: is its receive buffer too small?',
  REM_ACCESS_ERR:
    'the peer refused access: wrong rkey, range outside its memory region, or an access it does not grant',
  REM_OP_ERR: 'the peer could not carry out the operation',
  RETRY_EXC_ERR: 'the peer did not answer: it is gone, or the link is down',
  RNR_RETRY_EXC_ERR: 'the peer had no receive posted (receiver not ready) for all retries',
};

/** Name of a completion status without its prefix: 'REM_ACCESS_ERR'. */
export function wcStatusName(status: number): string {
  return wcNames[status] ?? `STATUS_${status}`;
}

/** The error of a completion with [status]; its code is ERR_RDMA_WC_ and the status's name. */
export function wcError(
  status: number,
  details: { operation?: string; qpNum?: number; vendorErr?: number; device?: string } = {},
): RdmaError {
  const name = wcStatusName(status);
  const { operation, ...known } = details;
  const what = operation === undefined ? 'work request' : operation;
  return new RdmaError(
    `ERR_RDMA_WC_${name}`,
    `${what} failed with ${name}: ${wcTexts[name] ?? 'see ibv_poll_cq(3)'}`,
    {
      wcStatus: status,
      ...known,
    },
  );
}
