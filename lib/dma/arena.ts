// Registered memory of a protection domain: slabs registered once, cut into blocks. Its key is the local key.

import { closedError, invalidArgument, RdmaError } from '../errors.ts';
import { Access } from '../verbs/constants.ts';
import { BuddyAllocator, blockSize } from './buddy.ts';
import type { DmaPd, DmaSlab } from './types.ts';

/** Options of {@link Arena}. */
export interface ArenaOptions {
  /** Access of every slab, {@link Access} flags; default LOCAL_WRITE: no peer can reach the memory. */
  readonly access?: number;
  /**
   * Bytes of one slab, a power of two from 4096 to 64 MiB; default 16 MiB. Slabs are smaller where RLIMIT_MEMLOCK does
   * not allow so much (8 MiB by default on many systems).
   */
  readonly slabBytes?: number;
  /** Most bytes of slabs the arena may hold; default unlimited. Past it, {@link Arena.alloc} rejects with ENOMEM. */
  readonly maxBytes?: number;
  /** Ask for huge pages. */
  readonly hugePages?: boolean;
}

/** A snapshot of an arena; every size in bytes. */
export interface ArenaStats {
  /** Slabs registered now. */
  readonly slabs: number;
  /** Bytes registered now. */
  readonly reserved: number;
  /** Bytes in allocated blocks; a block is the length asked for, rounded up to a power of two. */
  readonly inUse: number;
  /** Highest {@link inUse} so far. */
  readonly peak: number;
  /** Blocks allocated now. */
  readonly blocks: number;
  /** Allocations since the arena was made. */
  readonly allocations: number;
}

/**
 * Largest slab, and so the largest single allocation: 64 MiB. rxe keeps 16 bytes of *contiguous* kernel memory per page
 * of a pinned MR, so larger registrations fail first under fragmentation.
 */
export const MAX_SLAB_BYTES = 64 * 1024 * 1024;

/** Default slab: 16 MiB. */
export const DEFAULT_SLAB_BYTES = 16 * 1024 * 1024;

const PAGE = 4096;
const slabs = new WeakMap<ArrayBufferLike, ArenaSlab>();
const arenas = new WeakMap<DmaPd, Map<number, Arena>>();

/** One registered slab of an arena. */
export class ArenaSlab {
  readonly arena: Arena;
  readonly addr: number;
  readonly lkey: number;
  readonly rkey: number;
  readonly buffer: ArrayBuffer;
  /** The whole slab; for copies only. */
  readonly bytes: Buffer;
  readonly blocks: BuddyAllocator;
  /** @internal */
  readonly memory: DmaSlab;

  constructor(arena: Arena, memory: DmaSlab) {
    this.arena = arena;
    this.memory = memory;
    this.addr = memory.addr;
    this.lkey = memory.mr.lkey;
    this.rkey = memory.mr.rkey;
    this.buffer = memory.buffer;
    this.bytes = Buffer.from(memory.buffer);
    this.blocks = new BuddyAllocator(memory.length);
    slabs.set(memory.buffer, this);
  }

  /** False once the buffer was detached (`transfer()`) or the registration closed: its key must not be used. */
  get usable(): boolean {
    return this.bytes.length !== 0 && !this.memory.mr.closed;
  }

  /** Why {@link usable} is false, as the end of a sentence. */
  get trouble(): string {
    return this.memory.mr.closed
      ? 'whose registration is closed'
      : 'that was detached (transfer() or postMessage); copy out of arena memory instead of transferring it';
  }

  close(): Promise<void> {
    return this.memory.close();
  }
}

/** The arena slab behind [buffer], by identity of the ArrayBuffer, never by address; undefined for other memory. */
export function slabOf(buffer: ArrayBufferLike): ArenaSlab | undefined {
  return slabs.get(buffer);
}

/** A block of an {@link Arena}: exactly the bytes asked for, registered. Free it with {@link free} or `using`. */
export class ArenaBuffer {
  readonly slab: ArenaSlab;
  /** Bytes from the start of the slab. */
  readonly offset: number;
  /** Bytes, as asked for. */
  readonly length: number;
  #bytes: Buffer | undefined;
  #freed = false;

  /** @internal Made by {@link Arena.alloc}. */
  constructor(slab: ArenaSlab, offset: number, length: number) {
    this.slab = slab;
    this.offset = offset;
    this.length = length;
  }

  /** The memory; every sub-view of it is known to be arena memory. Throws ERR_INVALID_STATE once freed. */
  get bytes(): Buffer {
    if (this.#freed) throw invalidArgument('ERR_INVALID_STATE', 'this ArenaBuffer was freed');
    this.#bytes ??= Buffer.from(this.slab.buffer, this.offset, this.length);
    return this.#bytes;
  }

  /** Virtual address of the first byte. */
  get addr(): number {
    return this.slab.addr + this.offset;
  }

  /** Local key, u32. */
  get lkey(): number {
    return this.slab.lkey;
  }

  /** Remote key, u32; of use to a peer only when the arena was made with remote access. */
  get rkey(): number {
    return this.slab.rkey;
  }

  /** True after {@link free}. */
  get freed(): boolean {
    return this.#freed;
  }

  /**
   * Gives the block back. While a mapped operation still uses it, the block stays reserved until that operation retires.
   * Throws ERR_INVALID_STATE the second time.
   */
  free(): void {
    if (this.#freed) throw invalidArgument('ERR_INVALID_STATE', 'this ArenaBuffer was already freed');
    this.#freed = true;
    this.#bytes = undefined;
    this.slab.blocks.free(this.offset);
  }

  /** Frees the block unless it was freed already. */
  [Symbol.dispose](): void {
    if (!this.#freed) this.free();
  }
}

/**
 * Memory registered once per protection domain, so that an operation on it needs no registration: the slab's lkey is
 * the user-space counterpart of the kernel's `local_dma_lkey`.
 *
 * Local access only unless asked otherwise. Memory that peers may reach belongs in an arena of its own
 * (`new Arena(pd, { access })`), or in an MR of exactly its range: one key opens the whole slab it belongs to.
 */
export class Arena {
  readonly pd: DmaPd;
  /** {@link Access} flags of every slab. */
  readonly access: number;
  readonly slabBytes: number;
  readonly maxBytes: number;
  readonly #hugePages: boolean;
  readonly #slabs: ArenaSlab[] = [];
  /** What to ask for next: less than {@link slabBytes} once that turned out to be too much. */
  #slabBytes: number;
  #growing: Promise<void> | undefined;
  #reserved = 0;
  #inUsePeak = 0;
  #allocations = 0;
  #closed = false;

  /**
   * The arena of [pd] with this access (default LOCAL_WRITE), made at the first call. Options other than `access` count
   * at that first call; a later call that asks for different ones throws ERR_INVALID_ARG_VALUE.
   */
  static for(pd: DmaPd, options: ArenaOptions = {}): Arena {
    const byAccess = arenas.get(pd) ?? new Map<number, Arena>();
    arenas.set(pd, byAccess);
    const access = options.access ?? Access.LOCAL_WRITE;
    const known = byAccess.get(access);
    if (known === undefined || known.#closed) {
      const arena = new Arena(pd, options);
      byAccess.set(access, arena);
      return arena;
    }
    for (const name of ['slabBytes', 'maxBytes'] as const) {
      const asked = options[name];
      if (asked !== undefined && asked !== known[name]) {
        throw invalidArgument(
          'ERR_INVALID_ARG_VALUE',
          `options.${name} is ${asked}, but this protection domain's arena already has ${known[name]}; ` +
            'pass it at the first call, or make an arena of your own with new Arena(pd, options)',
        );
      }
    }
    return known;
  }

  /** Registers nothing yet. Throws ERR_OUT_OF_RANGE for sizes outside the limits of {@link ArenaOptions}. */
  constructor(pd: DmaPd, options: ArenaOptions = {}) {
    const { slabBytes = DEFAULT_SLAB_BYTES, maxBytes = Number.POSITIVE_INFINITY } = options;
    if (
      !Number.isInteger(slabBytes) ||
      slabBytes < PAGE ||
      slabBytes > MAX_SLAB_BYTES ||
      blockSize(slabBytes) !== slabBytes
    ) {
      throw invalidArgument(
        'ERR_OUT_OF_RANGE',
        `options.slabBytes must be a power of two from ${PAGE} to ${MAX_SLAB_BYTES}, got ${slabBytes}`,
      );
    }
    if (!(maxBytes >= PAGE)) {
      throw invalidArgument('ERR_OUT_OF_RANGE', `options.maxBytes must be at least ${PAGE}, got ${maxBytes}`);
    }
    this.pd = pd;
    this.access = options.access ?? Access.LOCAL_WRITE;
    this.slabBytes = slabBytes;
    this.#slabBytes = slabBytes;
    this.maxBytes = maxBytes;
    this.#hugePages = options.hugePages ?? false;
  }

  /**
   * Allocates [bytes], growing the arena when needed; the registration runs off the event loop and concurrent growths
   * share one. Throws ERR_OUT_OF_RANGE unless 1 <= bytes <= 64 MiB. Rejects with ENOMEM past `maxBytes`, and with the
   * registration's error (ENOMEM there: RLIMIT_MEMLOCK).
   */
  alloc(bytes: number): Promise<ArenaBuffer> {
    const ready = this.tryAlloc(bytes);
    return ready === undefined ? this.#allocGrowing(bytes) : Promise.resolve(ready);
  }

  /** Allocates [bytes] from what is registered already; undefined when no free block is large enough. */
  tryAlloc(bytes: number): ArenaBuffer | undefined {
    if (!Number.isInteger(bytes) || bytes < 1 || bytes > MAX_SLAB_BYTES) {
      throw invalidArgument(
        'ERR_OUT_OF_RANGE',
        `bytes must be an integer from 1 to ${MAX_SLAB_BYTES} (the largest slab), got ${bytes}; ` +
          'use several blocks, or register memory of your own with pd.regMr()',
      );
    }
    this.#checkOpen();
    for (const slab of this.#slabs) {
      if (!slab.usable) continue;
      const offset = slab.blocks.alloc(bytes);
      if (offset < 0) continue;
      this.#allocations++;
      this.#notePeak();
      return new ArenaBuffer(slab, offset, bytes);
    }
    return undefined;
  }

  /** True when [memory] lies in this arena. */
  owns(memory: ArrayBufferView | ArrayBufferLike): boolean {
    return slabOf(ArrayBuffer.isView(memory) ? memory.buffer : memory)?.arena === this;
  }

  get stats(): ArenaStats {
    return {
      slabs: this.#slabs.length,
      reserved: this.#reserved,
      inUse: this.#inUse(),
      peak: this.#inUsePeak,
      blocks: this.#blocksInUse(),
      allocations: this.#allocations,
    };
  }

  get closed(): boolean {
    return this.#closed;
  }

  /**
   * Deregisters the slabs. Refuses while blocks are allocated or held by operations in flight (throws
   * ERR_INVALID_STATE): silently deferring would hide a leak, and closing would pull the memory from under the device.
   * Idempotent. Closing the protection domain closes the slabs regardless.
   */
  close(): Promise<void> {
    if (this.#closed) return Promise.resolve();
    const blocks = this.#blocksInUse();
    if (blocks > 0) {
      throw invalidArgument(
        'ERR_INVALID_STATE',
        `the arena has ${blocks} blocks (${this.#inUse()} bytes) in use; free them, and let operations finish, first`,
      );
    }
    this.#closed = true;
    return this.#closeSlabs();
  }

  async #closeSlabs(): Promise<void> {
    await this.#growing?.catch(() => undefined);
    this.#reserved = 0;
    await Promise.all(this.#slabs.splice(0).map((slab) => slab.close()));
  }

  async #allocGrowing(bytes: number): Promise<ArenaBuffer> {
    for (;;) {
      if (this.#growing !== undefined) {
        // Somebody else's growth: its failure is theirs, perhaps for a larger slab than this one needs.
        await this.#growing.catch(() => undefined);
      } else {
        this.#growing = this.#grow(bytes).finally(() => {
          this.#growing = undefined;
        });
        await this.#growing;
      }
      const block = this.tryAlloc(bytes);
      if (block !== undefined) return block;
    }
  }

  async #grow(bytes: number): Promise<void> {
    const least = Math.max(PAGE, blockSize(bytes));
    const room = this.maxBytes - this.#reserved;
    let size = Math.max(this.#slabBytes, least);
    while (size > room && size > least) size /= 2;
    if (size > room) {
      throw new RdmaError(
        'ENOMEM',
        `the arena cannot grow by ${least} bytes: ${this.#reserved} of maxBytes ${this.maxBytes} are registered ` +
          `and ${this.#inUse()} in use; free blocks or raise maxBytes`,
        { errno: -12 },
      );
    }
    const memory = await this.#register(size, least);
    this.#slabs.push(new ArenaSlab(this, memory));
    this.#reserved += memory.length;
  }

  /** A slab of [size], or smaller when that is more than may be locked; never below [least]. */
  async #register(size: number, least: number): Promise<DmaSlab> {
    try {
      return await this.pd.allocSlab(size, this.access, this.#hugePages ? { hugePages: true } : undefined);
    } catch (error) {
      if ((error as RdmaError).code !== 'ENOMEM' || size === least) throw error;
      // A quarter, not half: what the arena takes, no other registration can have.
      const smaller = Math.max(least, size / 4);
      this.#slabBytes = Math.min(this.#slabBytes, smaller);
      return this.#register(smaller, least);
    }
  }

  #checkOpen(): void {
    if (this.#closed) throw closedError('arena');
  }

  #notePeak(): void {
    const now = this.#inUse();
    if (now > this.#inUsePeak) this.#inUsePeak = now;
  }

  #inUse(): number {
    let bytes = 0;
    for (const slab of this.#slabs) bytes += slab.blocks.used;
    return bytes;
  }

  #blocksInUse(): number {
    let blocks = 0;
    for (const slab of this.#slabs) blocks += slab.blocks.blocks;
    return blocks;
  }
}
