// Regions of foreign memory that is used again and again, kept registered.

import { invalidArgument, type RdmaError } from '../errors.ts';
import { Access } from '../verbs/constants.ts';
import type { DmaMr, DmaPd } from './types.ts';

/** Options of {@link MrCache}. */
export interface MrCacheOptions {
  /** Most bytes that stay registered; default 256 MiB. 0 caches nothing. What is in flight may exceed it for a while. */
  readonly pinBudget?: number;
}

/** What a cache holds and did; sizes in bytes. */
export interface MrCacheStats {
  /** Regions kept. */
  readonly entries: number;
  /** Bytes they pin. */
  readonly pinned: number;
  /** Regions that an operation uses now. */
  readonly inFlight: number;
  /** Uses of a region that was there. */
  readonly hits: number;
  /** Registrations. */
  readonly misses: number;
  /** Regions given up for the budget, for memory that could not be locked, or because their buffer was detached. */
  readonly evictions: number;
}

/** A region lent out. Give it back once, when no work request uses it any more. @internal */
export interface Lease {
  readonly mr: DmaMr;
  release(): void;
}

/** Default {@link MrCacheOptions.pinBudget}. */
export const DEFAULT_PIN_BUDGET = 256 * 1024 * 1024;

class Entry {
  readonly buffer: ArrayBufferLike;
  readonly length: number;
  readonly region: Promise<DmaMr>;
  mr: DmaMr | undefined;
  users = 0;
  dropped = false;

  constructor(buffer: ArrayBufferLike, region: Promise<DmaMr>) {
    this.buffer = buffer;
    this.length = buffer.byteLength;
    this.region = region;
  }

  /** Detaching a buffer takes its memory away and leaves the object: the region is of no use any more. */
  get stale(): boolean {
    return this.buffer.byteLength !== this.length || this.mr?.closed === true;
  }
}

const caches = new WeakMap<DmaPd, MrCache>();

/**
 * Regions of whole ArrayBuffers, found by the identity of the ArrayBuffer object. Never by address: V8 gives an address
 * out again as soon as its buffer is collected, and a key for the old pages would then send the wrong bytes.
 *
 * A cached buffer is kept alive, its pages pinned, until it is evicted: least recently used first when `pinBudget` is
 * exceeded. Regions in use are never evicted.
 */
export class MrCache {
  readonly pd: DmaPd;
  readonly pinBudget: number;
  /** In order of use: the first is the oldest. */
  readonly #entries = new Map<ArrayBufferLike, Entry>();
  readonly #seen = new WeakSet<ArrayBufferLike>();
  readonly #closing = new Set<Promise<void>>();
  #pinned = 0;
  #hits = 0;
  #misses = 0;
  #evictions = 0;

  /** The cache of [pd], made with the defaults at the first call. */
  static for(pd: DmaPd): MrCache {
    const known = caches.get(pd);
    if (known !== undefined) return known;
    const cache = new MrCache(pd);
    caches.set(pd, cache);
    return cache;
  }

  /** Registers nothing. @throws RdmaError ERR_OUT_OF_RANGE for a budget below 0 */
  constructor(pd: DmaPd, options: MrCacheOptions = {}) {
    const { pinBudget = DEFAULT_PIN_BUDGET } = options;
    if (!(pinBudget >= 0)) {
      throw invalidArgument(
        'ERR_OUT_OF_RANGE',
        `options.pinBudget must be at least 0 bytes, got ${pinBudget}`,
      );
    }
    this.pd = pd;
    this.pinBudget = pinBudget;
  }

  get stats(): MrCacheStats {
    let inFlight = 0;
    for (const { users } of this.#entries.values()) if (users > 0) inFlight++;
    return {
      entries: this.#entries.size,
      pinned: this.#pinned,
      inFlight,
      hits: this.#hits,
      misses: this.#misses,
      evictions: this.#evictions,
    };
  }

  /** True when a region of [buffer] is at hand. */
  has(buffer: ArrayBufferLike): boolean {
    const entry = this.#entries.get(buffer);
    return entry?.mr !== undefined && !entry.stale;
  }

  /** Whether [buffer] is worth a region that stays: it fits the budget, and was noted before. */
  wants(buffer: ArrayBufferLike): boolean {
    return buffer.byteLength <= this.pinBudget && (this.#seen.has(buffer) || this.#entries.has(buffer));
  }

  /** Notes a use of [buffer]: the next one is worth a region that stays. */
  note(buffer: ArrayBufferLike): void {
    this.#seen.add(buffer);
  }

  /** The region of [buffer], when it is at hand. @internal */
  tryLease(buffer: ArrayBufferLike): Lease | undefined {
    const entry = this.#entries.get(buffer);
    if (entry === undefined) return undefined;
    if (entry.stale) {
      this.#drop(entry);
      return undefined;
    }
    if (entry.mr === undefined) return undefined;
    this.#hits++;
    this.#touch(entry);
    return this.#lend(entry, entry.mr);
  }

  /**
   * The region of [buffer], registered now unless it is there; all of the buffer, LOCAL_WRITE. Idle regions are given up
   * for it when memory cannot be locked. Rejects as pd.regMr() does. @internal
   */
  async lease(buffer: ArrayBufferLike): Promise<Lease> {
    const ready = this.tryLease(buffer);
    if (ready !== undefined) return ready;
    let entry = this.#entries.get(buffer);
    if (entry === undefined) {
      this.#misses++;
      entry = new Entry(buffer, this.#register(buffer));
      this.#entries.set(buffer, entry);
      this.#pinned += entry.length;
    } else {
      this.#hits++;
    }
    // Counted before the wait: what somebody waits for is not evicted.
    entry.users++;
    try {
      entry.mr = await entry.region;
    } catch (error) {
      entry.users--;
      this.#forget(entry);
      throw error;
    }
    entry.users--;
    const lease = this.#lend(entry, entry.mr);
    this.#shrink(this.pinBudget);
    return lease;
  }

  /** Gives up the region of [buffer]; at once when idle, otherwise when its last operation has ended. */
  evict(buffer: ArrayBufferLike): void {
    const entry = this.#entries.get(buffer);
    if (entry !== undefined) this.#drop(entry);
  }

  /** Gives up every region; those in use when their last operation has ended. Resolves when all idle ones have gone. */
  async clear(): Promise<void> {
    for (const entry of [...this.#entries.values()]) this.#drop(entry);
    await this.idle();
  }

  /** Gives up every idle region, for a registration that found no memory to lock; false when there was none. */
  async makeRoom(): Promise<boolean> {
    if (!this.#shrink(0)) return false;
    await this.idle();
    return true;
  }

  /** What [obtain] resolves with; when it finds [short] of memory, idle regions are given up and once more is tried. @internal */
  async withRoom<T>(obtain: () => Promise<T>, short: (error: unknown) => boolean): Promise<T> {
    try {
      return await obtain();
    } catch (error) {
      if (!short(error) || !(await this.makeRoom())) throw error;
      return obtain();
    }
  }

  /** Resolves when every region given up so far, and not in use, is deregistered. */
  async idle(): Promise<void> {
    while (this.#closing.size > 0) await Promise.all(this.#closing);
  }

  #register(buffer: ArrayBufferLike): Promise<DmaMr> {
    const register = () => this.pd.regMr(buffer, Access.LOCAL_WRITE);
    return this.withRoom(register, (error) => (error as RdmaError).code === 'ENOMEM');
  }

  #lend(entry: Entry, mr: DmaMr): Lease {
    entry.users++;
    let lent = true;
    return {
      mr,
      release: () => {
        if (!lent) return;
        lent = false;
        entry.users--;
        if (entry.users === 0 && entry.dropped) this.#close(mr);
        else this.#shrink(this.pinBudget);
      },
    };
  }

  #touch(entry: Entry): void {
    this.#entries.delete(entry.buffer);
    this.#entries.set(entry.buffer, entry);
  }

  /** Gives up idle regions, oldest first, until at most [target] bytes are pinned; true when any was. */
  #shrink(target: number): boolean {
    if (this.#pinned <= target) return false;
    let any = false;
    for (const entry of this.#entries.values()) {
      if (this.#pinned <= target) break;
      if (entry.users > 0 || entry.mr === undefined) continue;
      this.#drop(entry);
      any = true;
    }
    return any;
  }

  #drop(entry: Entry): void {
    this.#forget(entry);
    this.#evictions++;
    if (entry.users === 0 && entry.mr !== undefined) this.#close(entry.mr);
  }

  #forget(entry: Entry): void {
    if (entry.dropped) return;
    entry.dropped = true;
    this.#entries.delete(entry.buffer);
    this.#pinned -= entry.length;
  }

  #close(mr: DmaMr): void {
    const closing = mr
      .close()
      .catch((error: Error) =>
        process.emitWarning(`a cached memory region could not be closed: ${error.message}`),
      )
      .finally(() => this.#closing.delete(closing));
    this.#closing.add(closing);
  }
}
