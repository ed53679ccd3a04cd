/** The server: accepts connections and keeps their leases. */
import { CmId } from '../../lib/index.ts';
import { KvError } from './errors.ts';
import type { LeaseCounters } from './lease.ts';
import { Link } from './link.ts';
import { checkHello, encodeHello } from './protocol.ts';
import { Service, type ServiceOptions } from './service.ts';
import { Session } from './session.ts';

export const DEFAULT_PORT = 7475;

/** What a server is made with. */
export interface ServerOptions extends ServiceOptions {
  /** Address of an RDMA device's network interface; '0.0.0.0', the default, for all. */
  readonly host?: string;
  readonly port?: number;
  /** Connections at once; 32 by default. */
  readonly maxClients?: number;
  /** Milliseconds of a lease; 10 000 by default. */
  readonly leaseMs?: number;
}

/** What a server has done, for its display. */
export interface ServerStats extends LeaseCounters {
  readonly clients: number;
  /** Clients that may read now. */
  readonly leases: number;
  readonly gets: number;
  readonly puts: number;
  readonly deletes: number;
}

/** Serves a store to clients that read it by themselves. */
export class KvServer {
  readonly service: Service;
  readonly #listener: CmId;
  readonly #options: Required<Pick<ServerOptions, 'maxClients' | 'leaseMs' | 'log'>>;
  /** A connection that is being made has no session yet. */
  readonly #sessions = new Map<Promise<void>, { link?: Link; session?: Session }>();
  readonly #leases: LeaseCounters = { granted: 0, expired: 0 };
  readonly #sweep: NodeJS.Timeout;
  #closing: Promise<void> | undefined;

  private constructor(service: Service, listener: CmId, options: ServerOptions) {
    const { maxClients = 32, leaseMs = 10_000, log = () => {} } = options;
    this.service = service;
    this.#listener = listener;
    this.#options = { maxClients, leaseMs, log };
    this.#sweep = setInterval(() => {
      for (const { session } of this.#sessions.values()) session?.sweep(performance.now());
    }, leaseMs / 8);
    this.#sweep.unref();
    listener.on('connectRequest', (id, { privateData }) => this.#onRequest(id, privateData));
  }

  /** Reads the file, if there is one, and listens. @throws KvError, RdmaError */
  static async listen(options: ServerOptions = {}): Promise<KvServer> {
    const { host = '0.0.0.0', port = DEFAULT_PORT, leaseMs = 10_000 } = options;
    if (!Number.isInteger(leaseMs) || leaseMs < 40 || leaseMs > 3_600_000) {
      throw new KvError('ERR_KV_INVALID', `a lease of ${leaseMs} ms; give 40 to 3600000`);
    }
    const listener = new CmId();
    try {
      // Before the file is opened: a second server with the same address ends here.
      listener.bind({ host, port });
      const service = await Service.open(options);
      const server = new KvServer(service, listener, options);
      listener.listen();
      return server;
    } catch (error) {
      listener.close();
      throw error;
    }
  }

  get port(): number {
    return this.#listener.localAddress!.port;
  }

  get stats(): ServerStats {
    const sessions = [...this.#sessions.values()].flatMap(({ session }) => session ?? []);
    return {
      clients: sessions.length,
      leases: sessions.filter(({ leased }) => leased).length,
      ...this.#leases,
      ...this.service.counters,
    };
  }

  #onRequest(id: CmId, privateData: Buffer): void {
    const refusal = this.#refusal(privateData);
    if (refusal !== undefined) {
      this.#options.log(`refused a connection: ${refusal}`);
      id.reject(Buffer.concat([encodeHello(), Buffer.from(refusal)]));
      return;
    }
    const entry: { link?: Link; session?: Session } = {};
    const served: Promise<void> = this.#serve(id, entry)
      .catch((error: Error) => this.#options.log(`connection failed: ${error.message}`))
      .finally(() => this.#sessions.delete(served));
    this.#sessions.set(served, entry);
  }

  /** Why a connection is not accepted: at most 140 bytes, so that every transport carries it. */
  #refusal(privateData: Buffer): string | undefined {
    const { maxClients } = this.#options;
    if (this.#closing !== undefined) return 'the server is shutting down';
    if (this.#sessions.size >= maxClients) return `${maxClients} clients are connected, the limit`;
    try {
      checkHello(privateData);
      return undefined;
    } catch (error) {
      return (error as Error).message;
    }
  }

  async #serve(id: CmId, entry: { link?: Link; session?: Session }): Promise<void> {
    const { log, leaseMs } = this.#options;
    const link = await Link.accept(id);
    const { peer } = link;
    const session = Session.start(link, { service: this.service, leaseMs, counters: this.#leases, log });
    Object.assign(entry, { link, session });
    if (this.#closing !== undefined) void link.close();
    log(`${peer}: connected through ${link.device}`);
    const reason = await session.ended();
    log(`${peer}: ${reason.message}`);
  }

  /** Ends every connection and lease; what was answered is in the file. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    clearInterval(this.#sweep);
    this.#listener.close();
    const reason = new KvError('ERR_KV_LOST', 'the server is shutting down');
    for (const { link } of this.#sessions.values()) void link?.close(reason);
    await Promise.all(this.#sessions.keys());
    await this.service.close();
  }
}
