/** TLS over RDMA: node:tls' own client and server. */
import type { Socket } from 'node:net';
import tls from 'node:tls';
import type { RdmaServerOptions } from '../server.ts';
import { connectTo, type RdmaClientOptions, type Target } from './client.ts';
import { overRdma } from './over-rdma.ts';

/** Options of tls.connect, and of the RDMA socket under it. */
export interface ConnectionOptions extends Omit<tls.ConnectionOptions, 'socket' | 'path'> {
  readonly port: number;
  readonly rdma?: RdmaClientOptions;
}

/** tls.connect over RDMA; [listener] is called at 'secureConnect'. */
export function connect({ rdma = {}, ...options }: ConnectionOptions, listener?: () => void): tls.TLSSocket {
  const socket = connectTo(options as Target, rdma) as unknown as Socket;
  // A name can be checked against a certificate's without being asked for: SNI takes no addresses.
  return tls.connect({ ...options, socket }, listener);
}

/** Options of tls.createServer, and of the RDMA sockets under it. */
export interface TlsOptions extends tls.TlsOptions {
  readonly rdma?: RdmaServerOptions;
}

/** tls.createServer over RDMA. */
export function createServer(
  { rdma, ...options }: TlsOptions,
  listener?: (socket: tls.TLSSocket) => void,
): tls.Server {
  return overRdma(tls.createServer(options, listener), rdma);
}
