/** The store with its log: what both servers, that of RDMA and that of node:net, put requests to. */
import { type Change, Log } from './log.ts';
import { Store, type Stored, type StoreOptions } from './store.ts';

/** What a service is made with. */
export interface ServiceOptions extends StoreOptions {
  /** File that keeps the store; without one it is gone with the process. */
  readonly data?: string | undefined;
  /** With `data`: have a PUT on the disk before it is answered. */
  readonly sync?: boolean | undefined;
  /** Told of what happened to the file. */
  readonly log?: (text: string) => void;
}

/** Requests that were carried out. */
export interface ServiceCounters {
  gets: number;
  puts: number;
  deletes: number;
}

/** Carries out requests in the order of their arrival. */
export class Service {
  readonly store: Store;
  readonly counters: ServiceCounters = { gets: 0, puts: 0, deletes: 0 };
  #log: Log | undefined;

  private constructor(options: StoreOptions) {
    this.store = new Store(options);
  }

  /** @throws KvError ERR_KV_LOG for a damaged file, ERR_KV_FULL when what is in it does not fit */
  static async open(options: ServiceOptions = {}): Promise<Service> {
    const { data, sync = false, log = () => {} } = options;
    const service = new Service(options);
    if (data === undefined) return service;
    const { store } = service;
    const logOptions = {
      path: data,
      sync,
      snapshot: () => service.#snapshot(),
      liveBytes: () => store.stats.memoryBytes - store.stats.freeBytes,
    };
    service.#log = await Log.open(
      logOptions,
      ({ key, version, value }) => {
        if (value === undefined) store.delete(key);
        else store.publish(store.prepare(key, value, version));
      },
      (bytes) => log(`${data}: cut off ${bytes} bytes of an unfinished record`),
    );
    log(`${data}: ${store.stats.keys} keys`);
    return service;
  }

  get(key: Buffer): Stored | undefined {
    this.counters.gets++;
    return this.store.get(key);
  }

  /**
   * Resolves with the version when the value can be read, and is in the log. [value] is used until then.
   *
   * @throws KvError ERR_KV_FULL, ERR_KV_INVALID, ERR_KV_LOG
   */
  async put(key: Buffer, value: Uint8Array): Promise<number> {
    const { store } = this;
    const prepared = store.prepare(key, value);
    const { version } = prepared;
    try {
      await this.#commit({ key, version, value }, () => store.publish(prepared));
    } catch (error) {
      store.discard(prepared);
      throw error;
    }
    this.counters.puts++;
    return version;
  }

  /** @returns whether there was such a key */
  async delete(key: Buffer): Promise<boolean> {
    const { store } = this;
    const found = await this.#commit({ key, version: 0 }, () => store.delete(key));
    this.counters.deletes++;
    return found;
  }

  close(): Promise<void> {
    return this.#log?.close() ?? Promise.resolve();
  }

  #commit<T>(change: Change, apply: () => T): Promise<T> {
    return this.#log?.append(change, apply) ?? Promise.resolve(apply());
  }

  *#snapshot(): Generator<Change> {
    for (const key of this.store.keys()) {
      const stored = this.store.get(key);
      if (stored !== undefined) yield { key, ...stored };
    }
  }
}
