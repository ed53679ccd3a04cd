/** HTTPS over RDMA: node:https' own client and server. */
import type { IncomingMessage, RequestListener, RequestOptions, ServerResponse } from 'node:http';
import https from 'node:https';
import type { Duplex } from 'node:stream';
import type { RdmaServerOptions } from '../server.ts';
import { connectTo, type RdmaClientOptions, type Target } from './client.ts';
import { overRdma } from './over-rdma.ts';

/** Options of https.Agent, and of the RDMA sockets under it. */
export interface AgentOptions extends https.AgentOptions {
  readonly rdma?: RdmaClientOptions;
}

/** An https.Agent whose connections go over RDMA; TLS sessions are kept as usual. */
export class Agent extends https.Agent {
  readonly #rdma: RdmaClientOptions;

  constructor({ rdma = {}, ...options }: AgentOptions = {}) {
    super(options);
    this.#rdma = rdma;
  }

  override createConnection(
    options: RequestOptions,
    callback?: (error: Error | null, stream: Duplex) => void,
  ): Duplex | null | undefined {
    const socket = connectTo(options as Target, this.#rdma, 443);
    return super.createConnection({ ...options, socket } as RequestOptions, callback);
  }
}

/** Options of https.createServer, and of the RDMA sockets under it. */
export interface ServerOptions extends https.ServerOptions {
  readonly rdma?: RdmaServerOptions;
}

/** https.createServer over RDMA. */
export function createServer(
  { rdma, ...options }: ServerOptions,
  listener?: RequestListener<typeof IncomingMessage, typeof ServerResponse>,
): https.Server {
  return overRdma(https.createServer(options, listener), rdma);
}
