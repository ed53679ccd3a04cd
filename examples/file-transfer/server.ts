/** The server: listens, refuses what it must, and runs a session for every connection. */
import { realpath, stat } from 'node:fs/promises';
import { CmId } from '../../lib/index.ts';
import { checkLimits, decodeHello, encodeRefusal, type Limits } from './hello.ts';
import { describeCounters } from './progress.ts';
import { Status, TransferError } from './protocol.ts';
import { RdmaLink } from './rdma-link.ts';
import { Session, type SessionOptions } from './session.ts';

/** Port of the example when none is given. */
export const DEFAULT_PORT = 7471;
/** Large chunks keep messages, wake-ups and thread changes few; four in flight keep file IO and wire busy together. */
export const DEFAULT_LIMITS: Limits = { chunkBytes: 2 * 1024 * 1024, depth: 4 };

/** Settings of a server. */
export interface ServerOptions {
  /** The directory to serve. */
  directory: string;
  /** Address to listen on; `0.0.0.0` for all. */
  host?: string;
  /** Default {@link DEFAULT_PORT}. */
  port?: number;
  /** Accept connections through this device only. */
  device?: string | undefined;
  /** Most that a client gets; its own limits may be lower. */
  limits?: Limits;
  /** Most connections at once; each has depth x chunk bytes of registered memory. Default 32. */
  maxClients?: number;
  /** A client silent for so long is given up, milliseconds. Default 5000; clients say something every second. */
  timeoutMs?: number;
  /** Whether a stored file is on the disk before the client is told so. Default false. */
  sync?: boolean;
  /** Receives one line for each event. */
  log?: (text: string) => void;
}

type Settings = SessionOptions & { limits: Limits; maxClients: number; device: string | undefined };

/** A running server. */
export class FileServer {
  readonly #listener: CmId;
  readonly #options: Settings;
  readonly #sessions = new Map<Promise<void>, RdmaLink | undefined>();
  #closed = false;

  private constructor(listener: CmId, options: Settings) {
    this.#listener = listener;
    this.#options = options;
    listener.on('connectRequest', (id, { privateData }) => this.#onRequest(id, privateData));
  }

  /** Starts to listen. Rejects when the directory cannot be served or the address is not free. */
  static async listen(options: ServerOptions): Promise<FileServer> {
    const { directory, host = '0.0.0.0', port = DEFAULT_PORT, limits = DEFAULT_LIMITS } = options;
    checkLimits(limits);
    const root = await realpath(directory);
    if (!(await stat(root)).isDirectory())
      throw new Error(`${directory} is not a directory; give the directory to serve`);
    const listener = new CmId();
    try {
      const server = new FileServer(listener, {
        root,
        limits,
        device: options.device,
        maxClients: options.maxClients ?? 32,
        timeoutMs: options.timeoutMs ?? 5000,
        sync: options.sync ?? false,
        log: options.log ?? (() => {}),
      });
      listener.bind({ host, port });
      listener.listen();
      return server;
    } catch (error) {
      listener.close();
      throw error;
    }
  }

  /** Connections being served. */
  get clients(): number {
    return this.#sessions.size;
  }

  #onRequest(id: CmId, privateData: Buffer): void {
    let proposed: Limits;
    try {
      proposed = this.#check(id, privateData);
    } catch (error) {
      const refusal = error as TransferError;
      this.#options.log(`refused a connection: ${refusal.message}`);
      id.reject(encodeRefusal(refusal));
      return;
    }
    const session: Promise<void> = this.#serve(id, proposed, (link) => this.#sessions.set(session, link))
      .catch((error: Error) => this.#options.log(`connection failed: ${error.message}`))
      .finally(() => this.#sessions.delete(session));
    this.#sessions.set(session, undefined);
  }

  #check(id: CmId, privateData: Buffer): Limits {
    const { device, maxClients } = this.#options;
    const busy = (why: string): TransferError => new TransferError(Status.BUSY, why);
    if (this.#closed) throw busy('the server is shutting down');
    if (device !== undefined && id.device?.name !== device) throw busy(`the server serves ${device} only`);
    if (this.#sessions.size >= maxClients)
      throw busy(`${maxClients} clients are connected, the limit; try again later`);
    return decodeHello(privateData);
  }

  async #serve(id: CmId, proposed: Limits, onLink: (link: RdmaLink) => void): Promise<void> {
    const link = await RdmaLink.accept(id, proposed, this.#options.limits);
    if (this.#closed) return link.close();
    onLink(link);
    await Session.run(link, this.#options);
    this.#options.log(`${link.peer}: closed; ${describeCounters(link.counters)}`);
  }

  /** Stops listening, ends every connection, removes unfinished files. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#listener.close();
    const reason = new TransferError(Status.BUSY, 'the server is shutting down');
    for (const link of this.#sessions.values()) void link?.close(reason);
    await Promise.all(this.#sessions.keys());
  }
}
