/** The server's side of one connection: checks each request, carries it out, answers. */
import type { Exposure } from '../../lib/index.ts';
import { KvError, Status, statusOf } from './errors.ts';
import { Lease, type LeaseCounters } from './lease.ts';
import type { Link } from './link.ts';
import {
  DEPTH,
  decodeRequest,
  encodeDescription,
  encodeKeys,
  encodeResponse,
  MAX_INLINE_GET,
  Op,
  type Request,
  type Response,
} from './protocol.ts';
import type { Service } from './service.ts';
import { nameOf } from './store.ts';

/** What a session needs of a connection. {@link Link} is the real one. */
export type SessionLink = Pick<Link, 'peer' | 'lost' | 'onMessage' | 'send' | 'read' | 'write' | 'close'> & {
  expose(memory: ArrayBuffer, access: number): Promise<Pick<Exposure, 'descriptor' | 'revoke'>>;
};

/** What a session shares with the others. */
export interface SessionContext {
  readonly service: Service;
  readonly leaseMs: number;
  readonly counters: LeaseCounters;
  readonly log: (text: string) => void;
}

/** The response, and what is written into the client's memory before it. */
type Outcome = Partial<Response> & { readonly value?: Buffer };

const now = (): number => performance.now();

/** Serves one connection until it ends. */
export class Session {
  readonly #link: SessionLink;
  readonly #context: SessionContext;
  readonly #lease: Lease;
  /** The last request of each key that is not answered: requests for one key are carried out in order. */
  readonly #lastOf = new Map<string, Promise<void>>();
  #outstanding = 0;
  #refused = false;
  #listing: readonly Buffer[] = [];

  private constructor(link: SessionLink, context: SessionContext) {
    this.#link = link;
    this.#context = context;
    const expose = (memory: ArrayBuffer, access: number) => link.expose(memory, access);
    this.#lease = new Lease(expose, context.leaseMs, context.counters);
  }

  static start(link: SessionLink, context: SessionContext): Session {
    const session = new Session(link, context);
    link.onMessage((message) => session.#receive(message));
    return session;
  }

  /** Resolves when the connection has ended, and nothing of it is left. Never rejects. */
  async ended(): Promise<Error> {
    const reason = await this.#link.lost;
    await this.#lease.end();
    await Promise.all(this.#lastOf.values());
    await this.#link.close();
    return reason;
  }

  /** Whether the client may read. */
  get leased(): boolean {
    return this.#lease.running;
  }

  /** Ends what is over. */
  sweep(now: number): void {
    this.#lease.sweep(now);
  }

  #receive(message: Buffer): void {
    if (this.#refused) return;
    try {
      const request = decodeRequest(message);
      if (this.#outstanding > DEPTH) {
        throw new KvError('ERR_KV_PROTOCOL', `more than ${DEPTH} requests without an answer`);
      }
      this.#outstanding++;
      this.#inOrder(request);
    } catch (error) {
      void this.#refuse(error as KvError);
    }
  }

  /** Answers a broken message and ends the connection: whatever follows could not be trusted. */
  async #refuse(error: KvError): Promise<void> {
    this.#refused = true;
    this.#context.log(`${this.#link.peer}: refused: ${error.message}`);
    await this.#answer({ tag: 0, status: Status.PROTOCOL, body: Buffer.from(error.message) });
    await this.#link.close(error);
  }

  #inOrder(request: Request): void {
    const name = nameOf(request.key);
    const before = this.#lastOf.get(name);
    const done = before === undefined ? this.#serve(request) : before.then(() => this.#serve(request));
    this.#lastOf.set(name, done);
    void done.then(() => {
      if (this.#lastOf.get(name) === done) this.#lastOf.delete(name);
    });
  }

  /** Never rejects. */
  async #serve(request: Request): Promise<void> {
    const { tag } = request;
    try {
      const { value, ...response } = await this.#carryOut(request).finally(() => {
        this.#outstanding--;
      });
      if (value === undefined) return await this.#answer({ tag, ...response });
      await this.#link.write(value, request.memory!, encodeResponse({ tag, ...response }));
    } catch (error) {
      // Anything else is a failure of the connection, of which nobody is there to be told.
      if (!(error instanceof KvError)) return this.#link.close(error as Error);
      await this.#answer({ tag, status: statusOf(error), body: Buffer.from(error.message) });
    }
  }

  /** A failed SEND ends the connection, and the end of the connection is handled in one place. */
  #answer(response: Partial<Response> & { tag: number }): Promise<void> {
    return this.#link.send(encodeResponse(response)).catch(() => {});
  }

  async #carryOut(request: Request): Promise<Outcome> {
    const { service } = this.#context;
    const { op, key, value, memory } = request;
    switch (op) {
      case Op.GET:
        return this.#get(request);
      case Op.PUT:
        return { version: await service.put(key, value) };
      case Op.PUT_FROM: {
        // The key is a view of the message, and the value one of memory for the READ: both are whole by now.
        const bytes = await this.#link.read(memory!, memory!.length, (read) => Buffer.from(read));
        return { version: await service.put(key, bytes) };
      }
      case Op.DELETE:
        return { status: (await service.delete(key)) ? Status.OK : Status.NOT_FOUND };
      case Op.LIST:
        return this.#list(request.from);
      default: {
        const description = await this.#lease.grant(() => service.store.published, now);
        return { body: encodeDescription(description) };
      }
    }
  }

  #get({ key, memory }: Request): Outcome {
    const stored = this.#context.service.get(key);
    if (stored === undefined) return { status: Status.NOT_FOUND };
    const { value, version } = stored;
    if (value.length <= MAX_INLINE_GET) return { body: value, version };
    // The client has given no memory, or too little: it asks again.
    if (memory === undefined || memory.length < value.length) {
      return { status: Status.SINK, length: value.length };
    }
    return { value, length: value.length, version };
  }

  #list(from: number): Partial<Response> {
    if (from === 0) this.#listing = this.#context.service.store.keys();
    const body = encodeKeys(this.#listing, from);
    const { length } = this.#listing;
    return { body, length };
  }
}
