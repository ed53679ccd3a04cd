/** What one client may read, and until when: one rkey for each piece of memory, given and taken away by the server. */
import { Access } from '../../lib/index.ts';
import { KvError } from './errors.ts';
import type { Description, Memory } from './protocol.ts';
import type { Published } from './store.ts';

/** Memory that the peer may reach. */
export interface Exposed {
  readonly descriptor: Memory;
  /** Resolves when the key is of no use any more. */
  revoke(): Promise<void>;
}

/** Gives a peer access to memory. */
export type Expose = (memory: ArrayBuffer, access: number) => Promise<Exposed>;

/** What happened to leases. */
export interface LeaseCounters {
  granted: number;
  /** Over because the client did not renew in time: its keys are of no use any more. */
  expired: number;
}

/**
 * The lease of one client. The client counts from the moment at which it asked, so it stops reading before this end takes the
 * keys away, half a lease after the end of the lease. Memory that is no longer published stays readable for one more
 * lease: READs of it may still be on their way.
 */
export class Lease {
  readonly #expose: Expose;
  readonly #leaseMs: number;
  readonly #counters: LeaseCounters;
  readonly #exposed = new Map<ArrayBuffer, { readonly exposed: Exposed; until: number }>();
  #expires = 0;
  #ended = false;
  #granting: Promise<unknown> = Promise.resolve();

  constructor(expose: Expose, leaseMs: number, counters: LeaseCounters) {
    this.#expose = expose;
    this.#leaseMs = leaseMs;
    this.#counters = counters;
  }

  /** True while there are keys that the client may use. */
  get running(): boolean {
    return this.#exposed.size > 0;
  }

  /** Grants or renews the lease. [publish] is called when its turn has come. */
  grant(publish: () => Published, now: () => number): Promise<Description> {
    const granted = this.#granting.then(() => this.#grant(publish(), now));
    this.#granting = granted.catch(() => {});
    return granted;
  }

  async #grant({ table, segments, seed }: Published, now: () => number): Promise<Description> {
    this.#expires = Number.POSITIVE_INFINITY;
    const wanted = [table.memory, ...segments];
    try {
      await Promise.all(wanted.map((memory) => this.#add(memory)));
    } finally {
      this.#expires = now() + this.#leaseMs * 1.5;
    }
    for (const [memory, entry] of this.#exposed) {
      const published = wanted.includes(memory);
      if (published) entry.until = Number.POSITIVE_INFINITY;
      else if (entry.until === Number.POSITIVE_INFINITY) entry.until = now() + this.#leaseMs;
    }
    this.#counters.granted++;
    const [first, ...rest] = wanted.map((memory) => this.#exposed.get(memory)!.exposed.descriptor);
    return {
      leaseMs: this.#leaseMs,
      generation: table.generation,
      seed,
      table: first!,
      segments: rest,
    };
  }

  async #add(memory: ArrayBuffer): Promise<void> {
    if (this.#exposed.has(memory)) return;
    const exposed = await this.#expose(memory, Access.REMOTE_READ).catch((error: Error) => {
      const why = `the memory can not be registered for this client: ${error.message}`;
      throw new KvError('ERR_KV_BUSY', why, { cause: error });
    });
    if (this.#ended) await exposed.revoke();
    else this.#exposed.set(memory, { exposed, until: Number.POSITIVE_INFINITY });
  }

  /** Takes away what is over by [now], in milliseconds. */
  sweep(now: number): void {
    const over = now >= this.#expires;
    const revoked: Promise<void>[] = [];
    for (const [memory, { exposed, until }] of this.#exposed) {
      if (!over && now < until) continue;
      this.#exposed.delete(memory);
      // A key that is gone with its connection is of no use either.
      revoked.push(exposed.revoke().catch(() => {}));
    }
    if (!over || revoked.length === 0) return;
    void Promise.all(revoked).then(() => {
      this.#counters.expired++;
    });
  }

  /** Takes everything away. */
  async end(): Promise<void> {
    this.#ended = true;
    const exposed = [...this.#exposed.values()].map((entry) => entry.exposed);
    this.#exposed.clear();
    await Promise.all(exposed.map((one) => one.revoke().catch(() => {})));
  }
}
