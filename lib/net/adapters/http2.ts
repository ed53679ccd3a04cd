/** HTTP/2 over RDMA: node:http2's own client and server, in the clear and with TLS. */
import http2 from 'node:http2';
import { isIP } from 'node:net';
import type { RdmaServerOptions } from '../server.ts';
import { connectTo, type RdmaClientOptions } from './client.ts';
import { overRdma } from './over-rdma.ts';
import { connect as connectTls } from './tls.ts';

/** Options of http2.connect, and of the RDMA socket under it. */
export type SessionOptions = (http2.ClientSessionOptions | http2.SecureClientSessionOptions) & {
  readonly rdma?: RdmaClientOptions;
};

/** http2.connect over RDMA: `connect('http://10.0.1.1:8080')`, or 'https:' for TLS. */
export function connect(
  authority: string | URL,
  { rdma = {}, ...options }: SessionOptions = {},
  listener?: (session: http2.ClientHttp2Session) => void,
): http2.ClientHttp2Session {
  const createConnection = ({ protocol, hostname, port }: URL) => {
    const host = hostname.replace(/^\[(.*)\]$/, '$1');
    if (protocol !== 'https:') return connectTo({ host, port }, rdma, 80);
    const servername = isIP(host) === 0 ? { servername: host } : {};
    const to = { host, port: port === '' ? 443 : Number(port), rdma };
    return connectTls({ ALPNProtocols: ['h2'], ...servername, ...options, ...to });
  };
  const session = http2.connect(authority, { ...options, createConnection });
  return listener === undefined ? session : session.once('connect', listener);
}

type OnRequest = (request: http2.Http2ServerRequest, response: http2.Http2ServerResponse) => void;

/** Options of http2.createServer, and of the RDMA sockets under it. */
export interface ServerOptions extends http2.ServerOptions {
  readonly rdma?: RdmaServerOptions;
}

/** http2.createServer over RDMA. */
export function createServer(
  { rdma, ...options }: ServerOptions = {},
  listener?: OnRequest,
): http2.Http2Server {
  return overRdma(http2.createServer(options, listener), rdma);
}

/** Options of http2.createSecureServer, and of the RDMA sockets under it. */
export interface SecureServerOptions extends http2.SecureServerOptions {
  readonly rdma?: RdmaServerOptions;
}

/** http2.createSecureServer over RDMA; `allowHTTP1` works as usual. */
export function createSecureServer(
  { rdma, ...options }: SecureServerOptions,
  listener?: OnRequest,
): http2.Http2SecureServer {
  return overRdma(http2.createSecureServer(options, listener), rdma);
}
