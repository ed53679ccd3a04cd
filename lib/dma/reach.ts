// Memory made reachable for the device, and everything undone again.

import { invalidArgument } from '../errors.ts';
import type { Arena, ArenaBuffer } from './arena.ts';
import { type Piece, unmappable } from './fragments.ts';
import type { IndirectMkeys } from './indirect.ts';
import type { Lease, MrCache } from './mr-cache.ts';
import type { DmaOps } from './ops.ts';
import { type Stretch, Treat } from './transfer.ts';
import type { DmaMr, DmaPd } from './types.ts';
import type { WindowPool } from './window.ts';

/** Where keys come from. @internal */
export interface KeySource {
  readonly pd: DmaPd;
  readonly arena: Arena;
  readonly ops: DmaOps;
  readonly cache: MrCache;
  readonly windows: WindowPool | undefined;
  /** The window of these pieces has a key already, or will have it for ever. */
  standing(pieces: readonly Piece[]): boolean;
  readonly indirect: IndirectMkeys | undefined;
  /** Called with what was copied, bytes. */
  copied(bytes: number): void;
  /** Watches something that is being undone in the background. */
  undoing(work: Promise<void>): void;
}

/** What keeps a stretch reachable. */
type Hold =
  | { readonly kind: 'block'; readonly block: ArenaBuffer }
  | { readonly kind: 'region'; readonly mr: DmaMr }
  | { readonly kind: 'cached'; readonly lease: Lease }
  | { readonly kind: 'async'; release(): Promise<void> };

/** What the transfer may do to the memory. */
export interface Direction {
  /** The device reads the memory: bytes are copied into bounce blocks before. */
  readonly toDevice: boolean;
  /** Access of regions registered for the transfer. */
  readonly access: number;
}

/**
 * Stretches and what makes them reachable. Never half done: when one cannot be reached, everything is undone.
 * @internal
 */
export class Reach {
  readonly pieces: readonly Piece[];
  readonly stretches: readonly Stretch[];
  /** For inline stretches: their bytes, a copy. */
  inlineBytes: Uint8Array | undefined;
  /** Regions registered for this transfer alone. */
  registrations = 0;
  readonly #source: KeySource;
  readonly #direction: Direction;
  readonly #holds: Hold[] = [];
  #heldPieces = 0;

  /**
   * Holds the arena memory among the pieces.
   *
   * @throws RdmaError ERR_INVALID_STATE for arena memory that was freed
   */
  constructor(
    pieces: readonly Piece[],
    stretches: readonly Stretch[],
    source: KeySource,
    direction: Direction,
  ) {
    this.pieces = pieces;
    this.stretches = stretches;
    this.#source = source;
    this.#direction = direction;
    for (const piece of pieces) {
      if (piece.slab?.blocks.hold(piece.offset, piece.length) === false) {
        this.release();
        throw invalidArgument(
          'ERR_INVALID_STATE',
          `fragment ${piece.index} is a view of arena memory that was freed (slab offset ${piece.offset}, ${piece.length} bytes)`,
          { fragment: piece.index },
        );
      }
      this.#heldPieces++;
    }
  }

  /**
   * Reaches what can be reached at once; true when that is all. What fails for want of memory is left to {@link all}, which
   * makes room. Throws, with everything undone, when memory was detached meanwhile.
   */
  tryAll(): boolean {
    let all = true;
    for (const stretch of this.stretches) {
      try {
        if (!this.#try(stretch)) all = false;
      } catch (error) {
        if (!this.#source.ops.mappingError(error)) {
          this.release();
          throw unmappable(stretch.pieces, error);
        }
        all = false;
      }
    }
    return all;
  }

  /** Reaches the rest. Rejects, with everything undone, with the first error, which has the fragment in it. */
  async all(): Promise<void> {
    const rest = this.stretches.filter((stretch) => !stretch.reached);
    const results = await Promise.allSettled(
      rest.map((stretch) =>
        this.#reach(stretch).catch((error) => Promise.reject(unmappable(stretch.pieces, error))),
      ),
    );
    const failure = results.find((result) => result.status === 'rejected');
    if (failure === undefined) return;
    await this.release();
    throw failure.reason;
  }

  /** Copies in again what the CPU has changed since. */
  syncForDevice(): void {
    for (const stretch of this.stretches) {
      if (stretch.block === undefined) continue;
      this.#source.ops.syncForDevice(stretch.block, stretch.pieces);
      this.#source.copied(stretch.length);
    }
  }

  /** Copies out what the device has written: the first [byteLen] bytes of the transfer. */
  syncForCpu(byteLen: number): void {
    for (const { block, pieces } of this.stretches) {
      if (block === undefined) {
        // Memory that the device wrote itself, and that was detached meanwhile, is gone with what came for it.
        for (const piece of pieces) if (piece.kind !== 'dmabuf' && piece.position < byteLen) piece.view();
      } else {
        this.#source.copied(this.#source.ops.syncForCpu(block, pieces, byteLen));
      }
    }
  }

  /** Lets go of everything; idempotent. Resolves when registrations made for the transfer have gone. */
  release(): Promise<void> {
    const { ops } = this.#source;
    const closing: Promise<void>[] = [];
    for (const hold of this.#holds.splice(0).reverse()) {
      if (hold.kind === 'block') hold.block.free();
      else if (hold.kind === 'cached') hold.lease.release();
      else closing.push(hold.kind === 'region' ? ops.unmapSingle(hold.mr) : hold.release());
    }
    for (const stretch of this.stretches) stretch.block = undefined;
    for (; this.#heldPieces > 0; this.#heldPieces--) {
      const piece = this.pieces[this.#heldPieces - 1]!;
      piece.slab?.blocks.release(piece.offset, piece.length);
    }
    if (closing.length === 0) return Promise.resolve();
    const gone = Promise.all(closing).then(() => undefined);
    this.#source.undoing(gone);
    return gone;
  }

  #try(stretch: Stretch): boolean {
    const { treat } = stretch;
    if (treat === Treat.KEY) {
      const keyed = this.#source.ops.localKey(stretch.pieces[0]!);
      stretch.addr = keyed!.addr;
      stretch.lkey = keyed!.lkey;
    } else if (treat === Treat.INLINE) {
      this.#copyInline(stretch);
    } else if (treat === Treat.CACHE) {
      const lease = this.#source.cache.tryLease(stretch.pieces[0]!.buffer);
      if (lease === undefined) return false;
      this.#cached(stretch, lease);
    } else if (treat === Treat.COPY) {
      const block = this.#source.arena.tryAlloc(stretch.length);
      if (block === undefined) return false;
      this.#bounce(stretch, block);
    } else if (treat === Treat.LINK) {
      const { windows } = this.#source;
      const lease = this.#source.standing(stretch.pieces) ? windows!.tryLink(stretch.pieces) : undefined;
      if (lease === undefined) return false;
      this.#keyed(stretch, lease);
    } else {
      return false;
    }
    stretch.reached = true;
    return true;
  }

  async #reach(stretch: Stretch): Promise<void> {
    const { arena, cache, windows, indirect, ops, pd } = this.#source;
    const { treat, pieces } = stretch;
    const { access } = this.#direction;
    if (treat === Treat.CACHE) {
      this.#cached(stretch, await cache.lease(pieces[0]!.buffer));
    } else if (treat === Treat.LINK) {
      const link = () => windows!.link(pieces, { standing: this.#source.standing(pieces) });
      this.#keyed(stretch, await this.#withRoom(link));
    } else if (treat === Treat.MKEY) {
      this.#keyed(
        stretch,
        await indirect!.build(
          pieces.map((piece) => keyedExtent(ops, piece)),
          access,
        ),
      );
    } else if (treat === Treat.DMABUF) {
      const { fd, offset, length } = pieces[0]!.dmabuf!;
      this.#registered(stretch, await this.#withRoom(() => pd.regDmabufMr!({ fd, offset, length, access })));
    } else {
      if ((treat & Treat.COPY) !== 0) {
        this.#bounce(stretch, await this.#withRoom(() => arena.alloc(stretch.length)));
      }
      if ((treat & Treat.REGISTER) !== 0) {
        const view = stretch.block?.bytes ?? pieces[0]!.view();
        this.#registered(stretch, await this.#withRoom(() => ops.mapSingle(view, access)));
      }
    }
    stretch.reached = true;
  }

  #withRoom<T>(obtain: () => Promise<T>): Promise<T> {
    const { ops, cache } = this.#source;
    return cache.withRoom(obtain, (error) => ops.mappingError(error));
  }

  #registered(stretch: Stretch, mr: DmaMr): void {
    this.#holds.push({ kind: 'region', mr });
    this.registrations++;
    stretch.addr = mr.addr;
    stretch.lkey = mr.lkey;
  }

  #cached(stretch: Stretch, lease: Lease): void {
    this.#holds.push({ kind: 'cached', lease });
    stretch.addr = lease.mr.addr + stretch.pieces[0]!.offset;
    stretch.lkey = lease.mr.lkey;
  }

  #keyed(stretch: Stretch, lease: { addr: number; lkey: number; release(): Promise<void> }): void {
    this.#holds.push({ kind: 'async', release: () => lease.release() });
    stretch.addr = lease.addr;
    stretch.lkey = lease.lkey;
  }

  #bounce(stretch: Stretch, block: ArenaBuffer): void {
    this.#holds.push({ kind: 'block', block });
    stretch.block = block;
    stretch.addr = block.addr;
    stretch.lkey = block.lkey;
    if (!this.#direction.toDevice) return;
    this.#source.ops.syncForDevice(block, stretch.pieces);
    this.#source.copied(stretch.length);
  }

  #copyInline(stretch: Stretch): void {
    const bytes = Buffer.allocUnsafe(stretch.length);
    let at = 0;
    for (const piece of stretch.pieces) {
      bytes.set(piece.view(), at);
      at += piece.length;
    }
    this.inlineBytes = bytes;
    this.#source.copied(stretch.length);
  }
}

function keyedExtent(ops: DmaOps, piece: Piece): { addr: number; length: number; lkey: number } {
  const keyed = ops.localKey(piece)!;
  return { addr: keyed.addr, length: piece.length, lkey: keyed.lkey };
}
