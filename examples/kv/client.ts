/** The client: GETs that the server's CPU has no part in, and connections that are made again. */
import { setTimeout as sleep } from 'node:timers/promises';
import { type ClientCounters, Connection, type ConnectionOptions, UnsentError } from './connection.ts';
import { KvError } from './errors.ts';
import type { Destination } from './link.ts';
import { readerCounters } from './reader.ts';
import { checkLengths, nameOf, type Stored } from './store.ts';

export type { ClientCounters } from './connection.ts';

/** Settings of a client. */
export interface ClientOptions extends Destination {
  /** Milliseconds for an answer, and for a connection to come back; 10 000 by default. */
  readonly timeoutMs?: number;
  /** False: every GET is a message, for comparison. */
  readonly oneSided?: boolean;
  /** Milliseconds; what leases are counted by. */
  readonly now?: () => number;
}

const FIRST_DELAY_MS = 20;
const MAX_DELAY_MS = 1000;

function toKey(key: string | Uint8Array): Buffer {
  return typeof key === 'string' ? Buffer.from(key) : Buffer.from(key);
}

/**
 * A client of one server. Keys are strings, taken as UTF-8, or bytes, at most 255; values have at most 1 MiB.
 *
 * When the connection ends, it is made again, with growing pauses, until {@link close}. GETs wait for it and go on. A PUT or
 * DELETE that was on its way rejects with ERR_KV_LOST: nobody can know whether it was done.
 */
export class KvClient {
  readonly counters: ClientCounters = {
    oneSided: 0,
    asked: 0,
    puts: 0,
    deletes: 0,
    leases: 0,
    reconnects: 0,
    ...readerCounters(),
  };
  readonly #destination: Destination;
  readonly #options: ConnectionOptions;
  readonly #abort = new AbortController();
  /** The last change of each key that is not answered. */
  readonly #lastOf = new Map<string, Promise<void>>();
  #connection: Connection | undefined;
  #reconnecting: Promise<void> | undefined;
  #failure: Error | undefined;

  private constructor(options: ClientOptions) {
    const {
      host,
      port,
      device,
      timeoutMs = 10_000,
      oneSided = true,
      now = () => performance.now(),
    } = options;
    this.#destination = { host, port, device };
    this.#options = { counters: this.counters, timeoutMs, oneSided, now };
  }

  /** @throws RdmaError ECONNREFUSED …; KvError ERR_KV_BUSY */
  static async connect(options: ClientOptions): Promise<KvClient> {
    const client = new KvClient(options);
    await client.#open();
    return client;
  }

  get device(): string | undefined {
    return this.#connection?.device;
  }

  /**
   * The value of a key, or undefined.
   *
   * @throws KvError ERR_KV_INVALID, ERR_KV_TIMEOUT
   */
  async get(key: string | Uint8Array): Promise<Stored | undefined> {
    const bytes = toKey(key);
    checkLengths(bytes.length);
    return this.#run((connection) => connection.get(bytes), true);
  }

  /**
   * Stores a value. Resolves with its version when every client can read it.
   *
   * @throws KvError ERR_KV_INVALID, ERR_KV_FULL, ERR_KV_LOG, ERR_KV_LOST, ERR_KV_TIMEOUT
   */
  async put(key: string | Uint8Array, value: string | Uint8Array): Promise<number> {
    const bytes = toKey(key);
    const data = typeof value === 'string' ? Buffer.from(value) : value;
    checkLengths(bytes.length, data.length);
    return this.#inOrder(bytes, () => this.#run((connection) => connection.put(bytes, data), false));
  }

  /**
   * @returns whether there was such a key
   * @throws KvError as {@link put}
   */
  async delete(key: string | Uint8Array): Promise<boolean> {
    const bytes = toKey(key);
    checkLengths(bytes.length);
    return this.#inOrder(bytes, () => this.#run((connection) => connection.delete(bytes), false));
  }

  /** All keys, in the order of their bytes. @throws KvError */
  list(): Promise<Buffer[]> {
    return this.#run((connection) => connection.list(), true);
  }

  /** Ends the connection; what is in flight rejects. Idempotent. */
  async close(): Promise<void> {
    this.#abort.abort(new KvError('ERR_KV_LOST', 'the client was closed'));
    await this.#connection?.close();
    await this.#reconnecting;
  }

  /** PUTs and DELETEs of one key, one after the other. */
  #inOrder<T>(key: Buffer, operation: () => Promise<T>): Promise<T> {
    const name = nameOf(key);
    const before = this.#lastOf.get(name);
    const done = before === undefined ? operation() : before.then(operation);
    const settled = done
      .catch(() => {})
      .then(() => {
        if (this.#lastOf.get(name) === settled) this.#lastOf.delete(name);
      });
    this.#lastOf.set(name, settled);
    return done;
  }

  /** Runs on a connection; again on the next when it ends and [repeatable], or when nothing had been sent. */
  async #run<T>(operation: (connection: Connection) => Promise<T>, repeatable: boolean): Promise<T> {
    const deadline = performance.now() + this.#options.timeoutMs;
    for (;;) {
      const connection = await this.#connected(deadline);
      try {
        return await operation(connection);
      } catch (error) {
        if (!connection.closed || this.#abort.signal.aborted) throw error;
        if (!repeatable && !(error instanceof UnsentError)) throw error;
      }
    }
  }

  async #connected(deadline: number): Promise<Connection> {
    const { signal } = this.#abort;
    for (;;) {
      signal.throwIfAborted();
      if (this.#connection?.closed === false) return this.#connection;
      // Its end is what makes the next one begin.
      await this.#connection?.lost;
      const left = deadline - performance.now();
      if (left <= 0) {
        const { host, port } = this.#destination;
        const why = this.#failure === undefined ? '' : `: ${this.#failure.message}`;
        throw new KvError('ERR_KV_TIMEOUT', `no connection to ${host} port ${port}${why}`, {
          cause: this.#failure,
        });
      }
      const timer = new AbortController();
      await Promise.race([
        this.#reconnecting,
        sleep(left, undefined, { signal: timer.signal }).catch(() => {}),
      ]);
      timer.abort();
    }
  }

  async #open(): Promise<void> {
    const connection = await Connection.open(this.#destination, this.#options);
    if (this.#abort.signal.aborted) return connection.close();
    this.#connection = connection;
    void connection.lost.then((reason) => {
      this.#failure = reason;
      if (this.#abort.signal.aborted) return;
      this.#reconnecting = this.#reconnect();
    });
  }

  async #reconnect(): Promise<void> {
    const { signal } = this.#abort;
    for (let delay = FIRST_DELAY_MS; !signal.aborted; delay = Math.min(delay * 2, MAX_DELAY_MS)) {
      try {
        // Not all clients of a server that has come back at the same moment.
        await sleep(delay * (0.5 + Math.random() / 2), undefined, { signal });
        await this.#open();
        this.counters.reconnects++;
        return;
      } catch (error) {
        this.#failure = error as Error;
      }
    }
  }
}
