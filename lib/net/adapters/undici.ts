/** undici over RDMA: a connector for its Client, Pool and Agent, HTTP/1.1 and HTTP/2. */
import { isIP, type Socket } from 'node:net';
import type { ConnectionOptions } from 'node:tls';
import type { buildConnector } from 'undici';
import { connectTo, type RdmaClientOptions } from './client.ts';
import { connect as connectTls } from './tls.ts';

/** How undici connects over RDMA. */
export interface ConnectorOptions {
  /** Offers HTTP/2 in the TLS handshake; say the same to undici's client. */
  readonly allowH2?: boolean;
  /** For 'https:' origins: ca, cert, key … as tls.connect takes them. */
  readonly tls?: ConnectionOptions;
  readonly rdma?: RdmaClientOptions;
}

/**
 * undici's `connect` option: `new Agent({ connect: connector() })`, and `fetch(url, { dispatcher })` with undici's own
 * fetch.
 */
export function connector({
  allowH2 = false,
  tls = {},
  rdma = {},
}: ConnectorOptions = {}): buildConnector.connector {
  return ({ hostname, port, protocol, servername, localAddress }, callback) => {
    const host = hostname.replace(/^\[(.*)\]$/, '$1');
    const secure = protocol === 'https:';
    const to = { host, port: port === '' ? (secure ? 443 : 80) : Number(port), localAddress };
    const name = servername || (isIP(host) === 0 ? host : undefined);
    const socket = secure
      ? connectTls({
          ALPNProtocols: allowH2 ? ['h2', 'http/1.1'] : ['http/1.1'],
          ...(name === undefined ? {} : { servername: name }),
          ...tls,
          ...{ host, port: to.port, rdma },
        })
      : connectTo(to, rdma);
    const failed = (error: Error) => callback(error, null);
    socket.once('error', failed);
    socket.once(secure ? 'secureConnect' : 'connect', () => {
      socket.removeListener('error', failed);
      callback(null, socket as unknown as Socket);
    });
  };
}
