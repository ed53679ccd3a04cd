/** The client's side of one connection: requests and answers, the lease, one-sided GETs. */
import { Access } from '../../lib/index.ts';
import { errorOf, KvError, Status } from './errors.ts';
import type { Slot } from './layout.ts';
import { type Destination, Link } from './link.ts';
import {
  DEPTH,
  decodeDescription,
  decodeKeys,
  decodeResponse,
  encodeRequest,
  MESSAGE_BYTES,
  Op,
  type Request,
  type Response,
} from './protocol.ts';
import { Reader, type ReaderCounters } from './reader.ts';
import type { Stored } from './store.ts';

/** What a client has done. */
export interface ClientCounters extends ReaderCounters {
  /** GETs that READs have answered. */
  oneSided: number;
  /** GETs that the server has answered. */
  asked: number;
  puts: number;
  deletes: number;
  /** Leases granted and renewed. */
  leases: number;
  /** Connections made again. */
  reconnects: number;
}

/** What a connection is made with. */
export interface ConnectionOptions {
  readonly counters: ClientCounters;
  /** Milliseconds that the server may take for an answer. */
  readonly timeoutMs: number;
  /** Milliseconds; what leases are counted by. */
  readonly now: () => number;
  /** False: every GET is a message, for comparison. */
  readonly oneSided: boolean;
}

/** A request that the connection's end has kept from being sent. */
export class UnsentError extends Error {}

/** Descriptions asked for in one GET before the server is asked for the key. */
const MAX_RENEWALS = 3;
const INLINE_PUT_BYTES = MESSAGE_BYTES - 24;

interface Pending {
  readonly since: number;
  readonly resolve: (response: Response) => void;
  readonly reject: (error: Error) => void;
}

/** One connection to a server. After its end every call rejects. */
export class Connection {
  readonly #link: Link;
  readonly #options: ConnectionOptions;
  readonly #pending = new Map<number, Pending>();
  readonly #queue: (() => void)[] = [];
  readonly #places = new Map<string, Slot>();
  readonly #watchdog: NodeJS.Timeout;
  #credits = DEPTH;
  #tag = 0;
  #reader: Reader | undefined;
  #leasedUntil = Number.NEGATIVE_INFINITY;
  #renewing: Promise<Reader> | undefined;

  private constructor(link: Link, options: ConnectionOptions) {
    this.#link = link;
    this.#options = options;
    this.#watchdog = setInterval(() => this.#checkSilence(), options.timeoutMs / 4);
    this.#watchdog.unref();
    link.onMessage((message) => this.#receive(message));
    void link.lost.then((reason) => this.#end(reason));
  }

  /** @throws RdmaError, KvError */
  static async open(destination: Destination, options: ConnectionOptions): Promise<Connection> {
    const connection = new Connection(await Link.connect(destination), options);
    try {
      if (options.oneSided) await connection.#renew();
    } catch (error) {
      await connection.close();
      throw error;
    }
    return connection;
  }

  get closed(): boolean {
    return this.#link.closed;
  }

  /** Resolves, never rejects, with the reason when the connection has ended. */
  get lost(): Promise<Error> {
    return this.#link.lost;
  }

  get device(): string {
    return this.#link.device;
  }

  close(): Promise<void> {
    return this.#link.close();
  }

  async get(key: Buffer): Promise<Stored | undefined> {
    const { counters, oneSided } = this.#options;
    for (let renewals = 0; oneSided && renewals < MAX_RENEWALS; renewals++) {
      const reader = await this.#leased();
      const found = await reader.get(key);
      if (found.outcome === 'retired') {
        await this.#renew();
        continue;
      }
      if (found.outcome === 'ask') break;
      counters.oneSided++;
      return found.outcome === 'absent' ? undefined : found;
    }
    counters.asked++;
    return this.#ask(key);
  }

  async put(key: Buffer, value: Uint8Array): Promise<number> {
    this.#options.counters.puts++;
    if (key.length + value.length <= INLINE_PUT_BYTES) {
      return (await this.#request({ op: Op.PUT, key, value: bufferOf(value) })).version;
    }
    // A copy: the caller's memory may be part of a larger buffer, or change before the server has read it.
    const memory = new ArrayBuffer(value.length);
    Buffer.from(memory).set(value);
    await using exposure = await this.#expose(memory, Access.REMOTE_READ);
    return (await this.#request({ op: Op.PUT_FROM, key, memory: exposure.descriptor })).version;
  }

  async delete(key: Buffer): Promise<boolean> {
    this.#options.counters.deletes++;
    return (await this.#request({ op: Op.DELETE, key })).status === Status.OK;
  }

  async list(): Promise<Buffer[]> {
    const keys: Buffer[] = [];
    for (;;) {
      const { body, length } = await this.#request({ op: Op.LIST, from: keys.length });
      const more = decodeKeys(body);
      keys.push(...more);
      if (keys.length >= length || more.length === 0) return keys;
    }
  }

  /** Asks the server for a value; one that does not fit into a message is written into memory for it. */
  async #ask(key: Buffer): Promise<Stored | undefined> {
    let response = await this.#request({ op: Op.GET, key });
    while (response.status === Status.SINK) {
      const memory = new ArrayBuffer(response.length);
      await using exposure = await this.#expose(memory, Access.LOCAL_WRITE | Access.REMOTE_WRITE);
      response = await this.#request({ op: Op.GET, key, memory: exposure.descriptor });
      const { status, length, body, version } = response;
      if (status === Status.OK && body.length < length) {
        return { value: Buffer.from(memory, 0, length), version };
      }
    }
    if (response.status === Status.NOT_FOUND) return undefined;
    return { value: Buffer.from(response.body), version: response.version };
  }

  async #expose(memory: ArrayBuffer, access: number) {
    try {
      return await this.#link.expose(memory, access);
    } catch (error) {
      throw this.closed ? new UnsentError('the connection ended', { cause: error }) : error;
    }
  }

  /** The reader of a lease that runs; renewed in the background from the half of it on. */
  async #leased(): Promise<Reader> {
    const left = this.#leasedUntil - this.#options.now();
    if (this.#reader === undefined || left <= 0) return this.#renew();
    if (left < this.#reader.description.leaseMs / 2) this.#renew().catch(() => {});
    return this.#reader;
  }

  #renew(): Promise<Reader> {
    this.#renewing ??= this.#renewNow().finally(() => {
      this.#renewing = undefined;
    });
    return this.#renewing;
  }

  async #renewNow(): Promise<Reader> {
    const { now, counters } = this.#options;
    const asked = now();
    const { body } = await this.#exchange({ op: Op.RENEW });
    const description = decodeDescription(body);
    const read = <T>(
      memory: { addr: number; rkey: number },
      offset: number,
      length: number,
      use: (bytes: Buffer) => T,
    ) => this.#link.read({ addr: memory.addr + offset, rkey: memory.rkey }, length, use);
    this.#reader = new Reader(description, read, counters, this.#places);
    this.#leasedUntil = asked + description.leaseMs;
    counters.leases++;
    return this.#reader;
  }

  /** Sends a request when the server has room for it. */
  async #request(request: Partial<Request> & Pick<Request, 'op'>): Promise<Response> {
    if (this.#credits > 0) this.#credits--;
    else await new Promise<void>((resolve) => this.#queue.push(resolve));
    try {
      return await this.#exchange(request);
    } finally {
      const next = this.#queue.shift();
      if (next !== undefined) next();
      else this.#credits++;
    }
  }

  /** @throws KvError what the server answers, or ERR_KV_LOST; UnsentError */
  async #exchange(request: Partial<Request> & Pick<Request, 'op'>): Promise<Response> {
    if (this.closed) throw new UnsentError('the connection has ended');
    this.#tag = (this.#tag + 1) >>> 0;
    const tag = this.#tag;
    const answered = new Promise<Response>((resolve, reject) => {
      this.#pending.set(tag, { since: performance.now(), resolve, reject });
    });
    // A failed SEND ends the connection, and that settles what is pending.
    this.#link.send(encodeRequest({ ...request, tag })).catch(() => {});
    const response = await answered;
    if (response.status > Status.SINK) throw errorOf(response.status, response.body.toString());
    return response;
  }

  #receive(message: Buffer): void {
    let response: Response;
    try {
      response = decodeResponse(message);
    } catch (error) {
      void this.#link.close(error as Error);
      return;
    }
    const pending = this.#pending.get(response.tag);
    if (pending === undefined) {
      void this.#link.close(errorOf(response.status, response.body.toString()));
      return;
    }
    this.#pending.delete(response.tag);
    pending.resolve(response);
  }

  #checkSilence(): void {
    const [oldest] = this.#pending.values();
    if (oldest === undefined || performance.now() - oldest.since < this.#options.timeoutMs) return;
    void this.#link.close(
      new KvError('ERR_KV_TIMEOUT', `no answer from the server for ${this.#options.timeoutMs} ms`),
    );
  }

  #end(reason: Error): void {
    clearInterval(this.#watchdog);
    for (const { reject } of this.#pending.values()) {
      reject(new KvError('ERR_KV_LOST', `no answer: ${reason.message}`, { cause: reason }));
    }
    this.#pending.clear();
  }
}

function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
