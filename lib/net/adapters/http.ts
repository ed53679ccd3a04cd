/** HTTP/1.1 over RDMA: node:http's own client and server. */
import http, { type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import type { RdmaServerOptions } from '../server.ts';
import { connectTo, type RdmaClientOptions, type Target } from './client.ts';
import { overRdma } from './over-rdma.ts';

export type { RdmaClientOptions } from './client.ts';
export { overRdma } from './over-rdma.ts';

/** Options of http.Agent, and of the RDMA sockets under it. */
export interface AgentOptions extends http.AgentOptions {
  readonly rdma?: RdmaClientOptions;
}

/** An http.Agent whose connections go over RDMA: `http.get({ agent: new Agent({ keepAlive: true }), host, port })`. */
export class Agent extends http.Agent {
  readonly #rdma: RdmaClientOptions;

  constructor({ rdma = {}, ...options }: AgentOptions = {}) {
    super(options);
    this.#rdma = rdma;
  }

  override createConnection(options: http.ClientRequestArgs): Duplex {
    return connectTo(options as Target, this.#rdma, 80);
  }
}

/** Options of http.createServer, and of the RDMA sockets under it. */
export interface ServerOptions extends http.ServerOptions {
  readonly rdma?: RdmaServerOptions;
}

/** http.createServer over RDMA: `createServer(options?, listener?)`; `listen`, `close` and `address` are about RDMA. */
export function createServer(
  options?: ServerOptions | RequestListener<typeof IncomingMessage, typeof ServerResponse>,
  listener?: RequestListener<typeof IncomingMessage, typeof ServerResponse>,
): http.Server {
  if (typeof options === 'function') return overRdma(http.createServer(options));
  const { rdma, ...rest } = options ?? {};
  return overRdma(http.createServer(rest, listener), rdma);
}
