/** WebSockets over RDMA: ws' own client and server. */
import type { ClientRequestArgs } from 'node:http';
import { WebSocket as Client, type ClientOptions, WebSocketServer as Server, type ServerOptions } from 'ws';
import type { RdmaServerOptions } from '../server.ts';
import { connectTo, type RdmaClientOptions, type Target } from './client.ts';
import { createServer } from './http.ts';
import { connect as connectTls } from './tls.ts';

/** Options of ws' client, and of the RDMA socket under it. */
export type WebSocketOptions = (ClientOptions | ClientRequestArgs) & { readonly rdma?: RdmaClientOptions };

/** A WebSocket of ws whose connection goes over RDMA: 'ws://10.0.1.1:8080/path', or 'wss:' for TLS. */
export class WebSocket extends Client {
  constructor(
    address: string | URL,
    protocols?: string | string[],
    { rdma = {}, ...options }: WebSocketOptions = {},
  ) {
    const secure = new URL(address).protocol === 'wss:';
    const createConnection = (to: ClientRequestArgs) =>
      secure
        ? connectTls({ ...to, port: Number(to.port), rdma } as Parameters<typeof connectTls>[0])
        : connectTo(to as Target, rdma);
    super(address, protocols, { ...options, createConnection } as ClientOptions);
  }
}

/** Options of ws' server, and of the RDMA sockets under it. */
export interface WebSocketServerOptions extends ServerOptions {
  readonly rdma?: RdmaServerOptions;
}

/**
 * A WebSocketServer of ws that listens on RDMA when it is given a `port`; with `server` (one of `node-rdma/http`) or
 * `noServer` it is ws' own.
 */
export class WebSocketServer extends Server {
  readonly #own: ReturnType<typeof createServer> | undefined;

  constructor({ rdma, port, host, backlog, ...options }: WebSocketServerOptions, listening?: () => void) {
    if (port === undefined || port === null) {
      super(options, listening);
      return;
    }
    const server = createServer({ ...(rdma === undefined ? {} : { rdma }) }, (_request, response) => {
      response.writeHead(426, { Connection: 'close', 'Content-Type': 'text/plain' }).end('Upgrade Required');
    });
    super({ ...options, server });
    if (listening !== undefined) this.once('listening', listening);
    this.#own = server;
    server.listen({
      port,
      ...(host === undefined ? {} : { host }),
      ...(backlog === undefined ? {} : { backlog }),
    });
  }

  /** Stops taking connections, as ws' own; 'close' comes when all have ended. */
  override close(callback?: (error?: Error) => void): void {
    super.close(callback);
    this.#own?.close();
  }
}
