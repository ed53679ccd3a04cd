/** Events of rdma_cm and the errors that they bring (rdma_get_cm_event(3)). */
import { errnoName, RdmaError } from '../errors.ts';
import type { AhAttrInfo } from '../verbs/ah-attr.ts';
import { type Address, addressText } from './address.ts';

/** enum rdma_cm_event_type, by number. @internal */
export const cmEventNames = [
  'ADDR_RESOLVED',
  'ADDR_ERROR',
  'ROUTE_RESOLVED',
  'ROUTE_ERROR',
  'CONNECT_REQUEST',
  'CONNECT_RESPONSE',
  'CONNECT_ERROR',
  'UNREACHABLE',
  'REJECTED',
  'ESTABLISHED',
  'DISCONNECTED',
  'DEVICE_REMOVAL',
  'MULTICAST_JOIN',
  'MULTICAST_ERROR',
  'ADDR_CHANGE',
  'TIMEWAIT_EXIT',
] as const;

/** Name of an rdma_cm event, without its prefix RDMA_CM_EVENT_. */
export type CmEventName = (typeof cmEventNames)[number];

/** Parameters of a connection that came from the peer (struct rdma_conn_param, rdma_get_cm_event(3)). */
export interface ConnEventParam {
  /** RDMA READs of the peer that this side is to serve at a time. */
  readonly responderResources: number;
  /** RDMA READs that this side may have in flight. */
  readonly initiatorDepth: number;
  readonly flowControl: boolean;
  readonly retryCount: number;
  readonly rnrRetryCount: number;
  /** Whether the peer's queue pair has a shared receive queue. */
  readonly srq: boolean;
  /** Number of the peer's queue pair. */
  readonly qpNum: number;
}

/** What datagrams to a peer or a multicast group need (struct rdma_ud_param, rdma_get_cm_event(3)). */
export interface UdParam {
  /** For {@link ProtectionDomain.createAh}. */
  readonly ahAttr: AhAttrInfo;
  readonly qpNum: number;
  readonly qkey: number;
}

/** An event that brings private data and parameters. */
export interface ConnectionEvent {
  readonly name: 'CONNECT_REQUEST' | 'CONNECT_RESPONSE' | 'ESTABLISHED' | 'REJECTED' | 'DISCONNECTED';
  /** 0, a negative errno, or the transport's reason of a rejection. */
  readonly status: number;
  /** From the peer, perhaps with zeros after it. */
  readonly privateData: Buffer;
  /** In the port space TCP. */
  readonly conn?: ConnEventParam;
  /** In the port space UDP: of the peer, for ESTABLISHED. */
  readonly ud?: UdParam;
}

/** An event of a multicast group. */
export interface MulticastEvent {
  readonly name: 'MULTICAST_JOIN' | 'MULTICAST_ERROR';
  readonly status: number;
  /** The address that was joined. */
  readonly address: string;
  /** With MULTICAST_JOIN. */
  readonly ud?: UdParam;
}

/** An event that brings nothing but a status; UNREACHABLE in the port space UDP also what the peer said. */
export interface PlainEvent {
  readonly name: Exclude<CmEventName, ConnectionEvent['name'] | MulticastEvent['name']>;
  readonly status: number;
  readonly privateData?: Buffer;
}

/** An event of a connection id. */
export type CmEvent = ConnectionEvent | MulticastEvent | PlainEvent;

/** An event as the channel brings it: [id] and, for a request, [newId] by their handles. @internal */
export interface RawCmEvent {
  readonly name: CmEventName;
  readonly status: number;
  /** Handle of the new id, for CONNECT_REQUEST. */
  readonly newId: number;
  readonly privateData: Buffer;
  readonly conn?: ConnEventParam;
  readonly ud?: UdParam;
  /** Token of the multicast group. */
  readonly group: number;
}

/** [raw] for users. @param address of the group, for its events @internal */
export function publicEvent(raw: RawCmEvent, address = ''): CmEvent {
  const { name, status, privateData } = raw;
  const conn = raw.conn === undefined ? {} : { conn: raw.conn };
  const ud = raw.ud === undefined ? {} : { ud: raw.ud };
  switch (name) {
    case 'CONNECT_REQUEST':
    case 'CONNECT_RESPONSE':
    case 'ESTABLISHED':
    case 'REJECTED':
    case 'DISCONNECTED':
      return { name, status, privateData, ...conn, ...ud };
    case 'MULTICAST_JOIN':
    case 'MULTICAST_ERROR':
      return { name, status, address, ...ud };
    default:
      return privateData.length === 0 ? { name, status } : { name, status, privateData };
  }
}

const fallback: Partial<Record<CmEventName, [code: string, text: string]>> = {
  ADDR_ERROR: ['EHOSTUNREACH', 'the address cannot be resolved: is there a route to it over an RDMA device?'],
  ROUTE_ERROR: ['EHOSTUNREACH', 'no route over RDMA'],
  CONNECT_ERROR: ['ECONNABORTED', 'the connection could not be made'],
  UNREACHABLE: ['ETIMEDOUT', 'the peer did not answer'],
  REJECTED: [
    'ECONNREFUSED',
    'the peer rejected the connection: nothing listens there, or the application refused it',
  ],
  DISCONNECTED: ['ECONNRESET', 'the peer disconnected'],
  DEVICE_REMOVAL: ['ENODEV', 'the RDMA device has been removed'],
  MULTICAST_ERROR: ['EHOSTUNREACH', 'the multicast group cannot be joined'],
};

/** Reasons of a rejection on InfiniBand and RoCE (InfiniBand Architecture Specification, volume 1, 12.6.7.2). */
const rejectReasons: Readonly<Record<number, string>> = {
  1: 'no queue pair available',
  3: 'no resources available',
  4: 'timeout',
  5: 'unsupported request',
  8: 'invalid service id: nothing listens there',
  10: 'stale connection',
  12: 'invalid GID',
  24: 'duplicate local CM response',
  28: 'the application refused it',
  31: 'redirected',
  35: 'vendor option not supported',
};

/** Status of an answer in the port space UDP (the same, 12.11.2.2). */
const sidrReasons: Readonly<Record<number, string>> = {
  1: 'nothing listens there',
  2: 'the application refused it',
  3: 'the peer has no queue pair for it',
  4: 'redirected',
  5: 'unsupported version',
};

/** The transport's words for a rejection. @internal */
export function reasonText(event: CmEventName, status: number): string | undefined {
  if (event === 'REJECTED') return rejectReasons[status];
  if (event === 'UNREACHABLE' && status > 0) return sidrReasons[status];
  return undefined;
}

/** The error that an event means for the operation [what]; undefined for events that are no errors. @internal */
export function cmError(
  event: Pick<RawCmEvent, 'name' | 'status'> & { readonly privateData?: Buffer },
  what: string,
  peer: Address | undefined,
  syscall = `rdma_${what.replaceAll(' ', '_')}`,
): RdmaError | undefined {
  const { name, status, privateData } = event;
  const known = fallback[name];
  if (known === undefined) return undefined;
  const reason = reasonText(name, status);
  const refused = name === 'UNREACHABLE' && reason !== undefined;
  // A rejection's status is the transport's reason; elsewhere a negative errno says more than the event.
  // librdmacm's own calls leave -1, which says nothing (librdmacm/cma.c ucma_process_addr_resolved).
  const named = status < -1 && name !== 'REJECTED' ? errnoName(status) : known[0];
  const code = refused ? 'ECONNREFUSED' : named;
  const text = refused ? 'the peer refused it' : known[1];
  const detail = reason === undefined ? `status ${status}` : `status ${status}: ${reason}`;
  return new RdmaError(
    code,
    `${what} ${code} ${addressText(peer)}: ${text} (RDMA_CM_EVENT_${name}, ${detail})`,
    {
      syscall,
      event: name,
      errno: status < 0 ? status : undefined,
      reason: status > 0 ? status : undefined,
      privateData: privateData !== undefined && privateData.length > 0 ? privateData : undefined,
    },
  );
}

/** The same for a call that failed with [error], before it could bring an event. @internal */
export function cmCallError(error: RdmaError, what: string, peer: Address | undefined): RdmaError {
  const refused = error.code === 'ECONNREFUSED' ? `: ${fallback.REJECTED?.[1]}` : '';
  return new RdmaError(error.code, `${what} ${error.code} ${addressText(peer)}${refused}`, {
    syscall: error.syscall,
    errno: error.errno,
    cause: error,
  });
}
