/** Events of rdma_cm and the errors that they bring (rdma_get_cm_event(3)). */
import { errnoName, RdmaError } from '../errors.ts';

/** enum rdma_cm_event_type, by number. */
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

/** An address of the port space TCP. */
export interface Address {
  /** A numeric IPv4 or IPv6 address; for what is resolved also a host name. */
  readonly host: string;
  readonly port: number;
  readonly family?: 'IPv4' | 'IPv6';
}

/** 'host:port' as it stands in messages. */
export function addressText(address: Address | undefined): string {
  if (address === undefined) return '(no address)';
  return address.host.includes(':') ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`;
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
};

/** The error that an event means for the operation [what]; undefined for events that are no errors. */
export function cmError(
  event: CmEventName,
  status: number,
  what: string,
  peer: Address | undefined,
  privateData?: Uint8Array,
): RdmaError | undefined {
  const known = fallback[event];
  if (known === undefined) return undefined;
  // A rejection's status is the transport's reason; elsewhere a negative errno says more than the event.
  const code = status < 0 && event !== 'REJECTED' ? errnoName(status) : known[0];
  return new RdmaError(
    code,
    `${what} ${code} ${addressText(peer)}: ${known[1]} (RDMA_CM_EVENT_${event}, status ${status})`,
    {
      syscall: `rdma_${what.replaceAll(' ', '_')}`,
      event,
      errno: status < 0 ? status : undefined,
      privateData: privateData !== undefined && privateData.length > 0 ? privateData : undefined,
    },
  );
}

/** The same for a call that failed with [error], before it could bring an event. */
export function cmCallError(error: RdmaError, what: string, peer: Address | undefined): RdmaError {
  const refused = error.code === 'ECONNREFUSED' ? `: ${fallback.REJECTED?.[1]}` : '';
  return new RdmaError(error.code, `${what} ${error.code} ${addressText(peer)}${refused}`, {
    syscall: error.syscall,
    errno: error.errno,
    cause: error,
  });
}
