/** What clients of Node's and of others say about where to connect, as options of an {@link RdmaSocket}. */
import { connect } from '../index.ts';
import type { RdmaSocket } from '../socket.ts';
import type { RdmaConnectOptions } from '../socket-options.ts';

/** Options of the sockets of a client: sizes, time limits; `host`, `port` and `localAddress` override where it connects. */
export type RdmaClientOptions = Partial<Omit<RdmaConnectOptions, 'onread' | 'allowHalfOpen' | 'signal'>>;

/** What the callers have in common. @internal */
export interface Target {
  readonly host?: string | null | undefined;
  readonly port?: number | string | null | undefined;
  readonly localAddress?: string | null | undefined;
  readonly timeout?: number | undefined;
  readonly keepAlive?: boolean | undefined;
  readonly keepAliveInitialDelay?: number | undefined;
}

/** Connects to [target], or to where [options] say. @internal */
export function connectTo(target: Target, options: RdmaClientOptions, defaultPort?: number): RdmaSocket {
  const { host, localAddress, timeout, keepAlive, keepAliveInitialDelay } = target;
  const given = target.port === undefined || target.port === null || target.port === '';
  return connect({
    port: given ? (defaultPort ?? Number.NaN) : Number(target.port),
    // Hosts of URLs have their IPv6 addresses in brackets.
    ...(host ? { host: host.replace(/^\[(.*)\]$/, '$1') } : {}),
    ...(localAddress ? { localAddress } : {}),
    ...(timeout === undefined ? {} : { timeout }),
    ...(keepAlive === undefined ? {} : { keepAlive }),
    ...(keepAliveInitialDelay === undefined ? {} : { keepAliveInitialDelay }),
    ...options,
  });
}
