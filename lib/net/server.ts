/** A listener that makes sockets, with the face of net.Server. */

import { lookup } from 'node:dns/promises';
import { EventEmitter } from 'node:events';
import { isIP } from 'node:net';
import { CmId } from '../cm/index.ts';
import { invalidArgument, RdmaError } from '../errors.ts';
import { checkInteger } from '../verbs/check.ts';
import { Connection } from './connection.ts';
import { RdmaSocket } from './socket.ts';
import { checkSocketOptions, type RdmaSocketOptions } from './socket-options.ts';
import { parseConnData } from './wire/index.ts';

/** What a server is made with; the options of sockets are for those that it makes. */
export interface RdmaServerOptions extends RdmaSocketOptions {
  /** Sockets are handed over paused. */
  readonly pauseOnConnect?: boolean;
  readonly noDelay?: boolean;
  readonly keepAlive?: boolean;
  /** Milliseconds. */
  readonly keepAliveInitialDelay?: number;
}

/** Where to listen. */
export interface RdmaListenOptions {
  /** 0 by default: the system chooses one. */
  readonly port?: number;
  /** Name or address; all addresses by default. */
  readonly host?: string;
  /** Requests that may wait; 128 by default. */
  readonly backlog?: number;
  /** Aborting it closes the server. */
  readonly signal?: AbortSignal;
}

/** Whose connection was not taken, and why. */
export interface RdmaDropEvent {
  readonly localAddress?: string | undefined;
  readonly localPort?: number | undefined;
  readonly remoteAddress?: string | undefined;
  readonly remotePort?: number | undefined;
  /** What was wrong; undefined when there were too many connections. */
  readonly reason?: Error;
}

interface RdmaServerEvents {
  listening: [];
  connection: [socket: RdmaSocket];
  /** A connection was refused, or broke before it was made. */
  drop: [event: RdmaDropEvent];
  error: [error: Error];
  close: [];
}

type ListenArguments =
  | readonly [options?: RdmaListenOptions | undefined, listener?: (() => void) | undefined]
  | readonly [port?: number | undefined, ...rest: (string | number | (() => void) | undefined)[]];

function listenArguments(args: ListenArguments): [RdmaListenOptions, (() => void) | undefined] {
  const listener = args.find((arg) => typeof arg === 'function') as (() => void) | undefined;
  const [first, ...rest] = args;
  if (typeof first === 'object' && first !== null) return [first, listener];
  const host = rest.find((arg) => typeof arg === 'string') as string | undefined;
  const backlog = rest.find((arg) => typeof arg === 'number') as number | undefined;
  return [
    {
      ...(typeof first === 'number' ? { port: first } : {}),
      ...(host === undefined ? {} : { host }),
      ...(backlog === undefined ? {} : { backlog }),
    },
    listener,
  ];
}

/** Takes connections of rsockets; made by {@link createServer}. */
export class RdmaServer extends EventEmitter<RdmaServerEvents> {
  /** Connections beyond this many are refused; undefined for no limit. */
  maxConnections: number | undefined;
  readonly #options: RdmaServerOptions;
  readonly #sockets = new Set<RdmaSocket>();
  #id: CmId | undefined;
  #ref = true;
  #starting = false;
  #closing = false;
  #pending = 0;

  constructor(options: RdmaServerOptions = {}, onSocket?: (socket: RdmaSocket) => void) {
    super();
    checkSocketOptions(options);
    this.#options = options;
    if (onSocket !== undefined) this.on('connection', onSocket);
  }

  get listening(): boolean {
    return this.#id !== undefined;
  }

  /**
   * Listens; 'listening' follows, or 'error' with EADDRINUSE, EADDRNOTAVAIL, ENODEV …
   *
   * @throws RdmaError ERR_SERVER_ALREADY_LISTEN
   */
  listen(...args: ListenArguments): this {
    const [options, listener] = listenArguments(args);
    if (options.port !== undefined) checkInteger('port', options.port, 0, 65535);
    if (options.backlog !== undefined) checkInteger('backlog', options.backlog, 0, 0x7fff_ffff);
    if (this.#id !== undefined || this.#starting) {
      throw invalidArgument('ERR_SERVER_ALREADY_LISTEN', 'listen: the server is listening already');
    }
    if (listener !== undefined) this.once('listening', listener);
    this.#starting = true;
    this.#closing = false;
    options.signal?.addEventListener('abort', () => this.close(), { once: true });
    void this.#listen(options);
    return this;
  }

  async #listen({ port = 0, host, backlog }: RdmaListenOptions): Promise<void> {
    let id: CmId | undefined;
    try {
      // Always later, as with net.Server: whoever called listen() can still add listeners.
      await null;
      // Without a host: all addresses of both families, or of IPv4 where there is no IPv6.
      const hosts =
        host === undefined ? ['::', '0.0.0.0'] : [isIP(host) ? host : (await lookup(host)).address];
      for (const [i, address] of hosts.entries()) {
        id = new CmId();
        try {
          id.bind({ host: address, port });
          break;
        } catch (error) {
          id.close();
          const code = (error as RdmaError).code;
          if (i + 1 === hosts.length || code === 'EADDRINUSE') throw error;
        }
      }
      if (this.#closing) {
        id!.close();
        return;
      }
      id!.on('connectRequest', (request) => void this.#onRequest(request));
      if (!this.#ref) id!.unref();
      id!.listen(backlog);
      this.#id = id;
      this.#starting = false;
      process.nextTick(() => this.emit('listening'));
    } catch (error) {
      id?.close();
      this.#starting = false;
      process.nextTick(() => this.emit('error', error as Error));
    }
  }

  async #onRequest(id: CmId): Promise<void> {
    const { remoteAddress, remotePort, localAddress, localPort } = {
      remoteAddress: id.peerAddress?.host,
      remotePort: id.peerAddress?.port,
      localAddress: id.localAddress?.host,
      localPort: id.localAddress?.port,
    };
    const from = { localAddress, localPort, remoteAddress, remotePort };
    if (this.maxConnections !== undefined && this.#sockets.size + this.#pending >= this.maxConnections) {
      rejectQuietly(id);
      this.emit('drop', from);
      return;
    }
    this.#pending += 1;
    const socket = new RdmaSocket(this.#options);
    try {
      const peer = parseConnData(id.request?.privateData ?? new Uint8Array(0));
      const connection = await Connection.accept(id, peer, this.#options, socket._channelEvents);
      this.#pending -= 1;
      if (this.#closing) {
        connection.abort();
        this.#emitCloseIfDone();
        return;
      }
      this.#sockets.add(socket);
      process.nextTick(() => this.#hand(socket, connection));
    } catch (error) {
      this.#pending -= 1;
      rejectQuietly(id);
      process.nextTick(() => this.emit('drop', { ...from, reason: error as Error }));
      this.#emitCloseIfDone();
    }
  }

  #hand(socket: RdmaSocket, connection: Connection): void {
    socket.once('close', () => {
      this.#sockets.delete(socket);
      this.#emitCloseIfDone();
    });
    const { pauseOnConnect, keepAlive, keepAliveInitialDelay } = this.#options;
    if (pauseOnConnect === true) socket.pause();
    if (keepAlive === true) socket.setKeepAlive(true, keepAliveInitialDelay);
    socket._adopt(connection);
    this.emit('connection', socket);
    socket._begin();
  }

  /** Where the server listens: {address, family, port}; null when it does not. */
  address(): { address: string; family: string; port: number } | null {
    const local = this.#id?.localAddress;
    return local === undefined
      ? null
      : { address: local.host, family: local.family ?? 'IPv4', port: local.port };
  }

  /** How many connections there are. */
  getConnections(callback: (error: Error | null, count: number) => void): this {
    process.nextTick(callback, null, this.#sockets.size);
    return this;
  }

  /** Stops listening; 'close' comes when all connections have ended. */
  close(callback?: (error?: Error) => void): this {
    const id = this.#id;
    if (id === undefined && !this.#starting) {
      if (callback !== undefined) {
        const error = new RdmaError('ERR_SERVER_NOT_RUNNING', 'close: the server is not listening');
        process.nextTick(callback, error);
      }
      return this;
    }
    if (callback !== undefined) this.once('close', callback);
    this.#id = undefined;
    this.#starting = false;
    this.#closing = true;
    id?.close();
    this.#emitCloseIfDone();
    return this;
  }

  /** Ends the connections of this server. */
  closeAllConnections(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return new Promise((resolve) => {
      this.close(() => resolve());
    });
  }

  /** The server keeps the process alive while it listens (the default). */
  ref(): this {
    this.#ref = true;
    this.#id?.ref();
    return this;
  }

  /** The server does not keep the process alive. */
  unref(): this {
    this.#ref = false;
    this.#id?.unref();
    return this;
  }

  #emitCloseIfDone(): void {
    if (!this.#closing || this.#sockets.size > 0 || this.#pending > 0) return;
    process.nextTick(() => {
      if (this.#closing && this.#sockets.size === 0 && this.#pending === 0) {
        this.#closing = false;
        this.emit('close');
      }
    });
  }
}

/** Refuses a request that may have gone meanwhile. */
function rejectQuietly(id: CmId): void {
  if (id.closed) return;
  try {
    id.reject();
  } catch {
    id.close();
  }
}
