// The user-space counterpart of the proposed rdma_map_sge_single() and rdma_fill_ib_sge_from_sgl(): fragments in, SGEs
// and what undoes them out.

import { invalidArgument, RdmaError } from '../errors.ts';
import { Arena, MAX_SLAB_BYTES } from './arena.ts';
import { type DmaCounters, deviceTotals, newCounters } from './counters.ts';
import { type Exposure, expose } from './expose.ts';
import { type Fragment, type Fragments, type Piece, toPiece, toPieces } from './fragments.ts';
import type { IndirectMkeys } from './indirect.ts';
import { Mapping, type MappingOwner, type Plan, planOf } from './mapping.ts';
import { MrCache } from './mr-cache.ts';
import { type DmaOps, dmaOpsOf } from './ops.ts';
import { type Quirks, quirksOf } from './quirks.ts';
import { type Decision, decide, decideWithoutLocking } from './strategy.ts';
import { defaultThresholds } from './thresholds.ts';
import type { ForceStrategy, Limits, Means, Thresholds, Transfer } from './transfer.ts';
import type { DmaOp, DmaPd, DmaQp, Sge } from './types.ts';
import { WindowPool } from './window.ts';

/** Options of {@link SgeBuilder}. */
export interface SgeBuilderOptions {
  /** Where bounce blocks come from; default {@link Arena.for} the queue pair's protection domain. */
  readonly arena?: Arena;
  /**
   * Foreign memory up to this many bytes is copied rather than registered for one transfer; at most 64 MiB. Default by the
   * kind of device ({@link defaultThresholds}), as those below: 1 MiB on soft ones, 64 KiB elsewhere.
   */
  readonly bounceMax?: number;
  /**
   * Foreign memory that is used again is registered to stay from this many bytes of a transfer on, rather than copied once
   * more; default 64 KiB. With {@link MapOptions.reuse}: from a page on.
   */
  readonly keepMin?: number;
  /** SEND and WRITE of up to this many bytes are inline, where the queue pair takes so many; default: all it takes. */
  readonly inlineMax?: number;
  /**
   * A transfer of at most `bounceMax` bytes, and 64 KiB, is copied when it needs more work requests than this; default 1 on
   * soft devices, 2 elsewhere.
   */
  readonly chainMax?: number;
  /** Where foreign buffers that are used again stay registered; default {@link MrCache.for} the protection domain. */
  readonly cache?: MrCache;
  /** Most SGEs of a READ, where the device likes fewer than it takes; default what it takes. */
  readonly readSgeSoftLimit?: number;
  /** Indirect memory keys, where the device has them. */
  readonly indirect?: IndirectMkeys;
  /**
   * On iWARP the key of a READ's sink goes on the wire. Hardware needs a region of its own for it; siw does not, and there
   * the arena's key is used unless this is true: with the key a hostile peer can end the validity of the arena's slab.
   */
  readonly untrustedPeer?: boolean;
  /** Always take this strategy; throws where it is impossible. For tests and measurements. */
  readonly force?: ForceStrategy;
}

/** Options of one mapping. */
export interface MapOptions {
  /** Remote address of the first byte, for READ and WRITE: some devices need work requests cut by it. */
  readonly remoteAddr?: number;
  /** As in {@link SgeBuilderOptions}, for this transfer. */
  readonly force?: ForceStrategy | undefined;
  /**
   * The memory will be used again: register its buffers to stay, already the first time, also where they are small. Less
   * than a page, and slices of Node's Buffer pool, are copied even so.
   */
  readonly reuse?: boolean | undefined;
  /** The work request cannot carry the bytes itself: never the inline strategy. */
  readonly noInline?: boolean | undefined;
}

const operations: ReadonlySet<DmaOp> = new Set(['send', 'recv', 'write', 'read', 'atomic']);

/** What an atomic operation works on, and brings back. @see InfiniBand Architecture Specification 9.4.5 */
const ATOMIC_BYTES = 8;

const noOptions: MapOptions = {};

/** Maps fragments for one queue pair. */
export class SgeBuilder implements MappingOwner {
  readonly qp: DmaQp;
  readonly pd: DmaPd;
  readonly arena: Arena;
  readonly cache: MrCache;
  /** How the device reaches memory. */
  readonly ops: DmaOps;
  /** @internal */
  readonly windows: WindowPool | undefined;
  /** @internal */
  readonly indirect: IndirectMkeys | undefined;
  readonly limits: Limits;
  readonly thresholds: Thresholds;
  readonly quirks: Quirks;
  /** What this builder did; live. */
  readonly counters: DmaCounters = newCounters();
  /** @internal */
  readonly tallies: readonly DmaCounters[];
  readonly #force: ForceStrategy | undefined;
  readonly #means: Means;
  readonly #eagerMeans: Means;
  readonly #eagerThresholds: Thresholds;
  readonly #closing = new Set<Promise<void>>();

  /**
   * Registers nothing. Throws ERR_OUT_OF_RANGE for thresholds out of range and
   * ERR_INVALID_ARG_VALUE for an arena of another protection domain.
   */
  constructor(qp: DmaQp, options: SgeBuilderOptions = {}) {
    const { pd } = qp;
    const { device } = pd;
    const initial = defaultThresholds[dmaOpsOf(pd).kind];
    const {
      bounceMax = initial.bounceMax,
      keepMin = initial.keepMin,
      chainMax = initial.chainMax,
      inlineMax = initial.inlineMax,
    } = options;
    checkInteger('options.bounceMax', bounceMax, 0, MAX_SLAB_BYTES);
    checkInteger('options.keepMin', keepMin, 0, 2 ** 31 - 1);
    checkInteger('options.inlineMax', inlineMax, 0, 2 ** 31 - 1);
    checkInteger('options.chainMax', chainMax, 1, 2 ** 31 - 1);
    if (options.readSgeSoftLimit !== undefined)
      checkInteger('options.readSgeSoftLimit', options.readSgeSoftLimit, 1, 2 ** 31 - 1);
    this.qp = qp;
    this.pd = pd;
    this.arena = options.arena ?? Arena.for(pd);
    this.cache = options.cache ?? MrCache.for(pd);
    for (const name of ['arena', 'cache'] as const) {
      if (this[name].pd === pd) continue;
      throw invalidArgument(
        'ERR_INVALID_ARG_VALUE',
        `options.${name} belongs to another protection domain; its keys are of no use to this queue pair`,
      );
    }
    this.ops = dmaOpsOf(pd);
    this.windows = WindowPool.for(pd);
    this.indirect = options.indirect;
    this.limits = {
      maxSendSge: qp.caps.maxSendSge,
      maxRecvSge: qp.caps.maxRecvSge,
      maxReadSge: qp.caps.maxReadSge,
      maxInlineData: qp.caps.maxInlineData,
      maxMessage: qp.caps.maxMessage,
      sendSlots: qp.caps.maxSendWr,
      readSgeSoftLimit: options.readSgeSoftLimit,
    };
    this.#means = {
      windows: this.windows !== undefined,
      onDemand: (pieces) => this.standing(pieces),
      wholeMemory: this.ops.kind === 'odp',
      p2p: this.ops.p2pSupported,
      indirectExtents: this.indirect?.maxExtents ?? 0,
      cached: (buffer) => this.cache.has(buffer),
      reused: (buffer) => this.cache.wants(buffer),
    };
    this.#eagerMeans = {
      ...this.#means,
      reused: (buffer) => buffer.byteLength <= this.cache.pinBudget,
    };
    this.thresholds = { bounceMax, keepMin, chainMax, inlineMax };
    this.#eagerThresholds = { ...this.thresholds, keepMin: 0 };
    this.quirks = quirksOf(device.provider, device.transport, options.untrustedPeer);
    this.#force = options.force;
    this.tallies = [this.counters, deviceTotals(device.name)];
  }

  /**
   * One SGE by local key, for arena memory. Nothing is held or registered: the caller keeps the memory until the
   * completion. Throws ERR_RDMA_NEEDS_MR for foreign memory, and the errors of {@link map}.
   */
  mapSgeSingle(fragment: Fragment): Sge {
    const piece = toPiece(fragment, this.qp.pd);
    return piece === undefined ? { addr: 0, length: 0, lkey: 0 } : keyedSge(piece);
  }

  /**
   * One SGE per fragment by local key, neighbours merged and empty ones dropped; for a single work request. Never
   * registers, never copies. Throws ERR_RDMA_NEEDS_MR for foreign memory, naming the fragment.
   */
  fillSgeFromFragments(fragments: Fragments): Sge[] {
    return toPieces(fragments, this.qp.pd).pieces.map(keyedSge);
  }

  /** What {@link map} would do, without doing it. Throws as {@link map} does. */
  plan(op: DmaOp, fragments: Fragments, options: MapOptions = noOptions): Plan {
    const decision = this.#decide(op, fragments, options);
    return planOf(decision, decision.layout());
  }

  /**
   * Maps [fragments] for [op]. Never half done: on failure everything is undone.
   *
   * @throws ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE and ERR_INVALID_STATE synchronously for memory that cannot be
   *   used (the message names the fragment); EMSGSIZE when no strategy serves; ERR_INVALID_ARG_VALUE when the forced
   *   one cannot. Rejects with the error of a registration (ENOMEM: RLIMIT_MEMLOCK) or of the arena.
   */
  map(op: DmaOp, fragments: Fragments, options: MapOptions = noOptions): Promise<Mapping> {
    const mapping = this.mapOrWait(op, fragments, options);
    return mapping instanceof Mapping ? Promise.resolve(mapping) : mapping;
  }

  /**
   * As {@link map}, at once; undefined when a registration or a larger arena is needed. An iterator passed as
   * [fragments] is used up even then.
   */
  tryMap(op: DmaOp, fragments: Fragments, options: MapOptions = noOptions): Mapping | undefined {
    const mapping = this.#mapping(op, fragments, options);
    if (mapping.tryFinish()) return mapping;
    mapping.drop();
    return undefined;
  }

  /** As {@link map}, but the mapping itself, not a promise, when it is ready at once. */
  mapOrWait(op: DmaOp, fragments: Fragments, options: MapOptions = noOptions): Mapping | Promise<Mapping> {
    const mapping = this.#mapping(op, fragments, options);
    return mapping.tryFinish() ? mapping : this.#finish(mapping, options);
  }

  /**
   * Lets a peer reach [fragments] until {@link Exposure.revoke}: contiguous memory by a region of exactly its range,
   * several page-aligned pieces of the arena by one region over a window, anything else by a region for each piece.
   *
   * @param access - {@link Access} flags; LOCAL_WRITE is added where REMOTE_WRITE and REMOTE_ATOMIC need it
   * @throws RdmaError ERR_INVALID_ARG_VALUE for access that gives nothing away, no bytes, or slices of Node's Buffer pool;
   *   the errors of {@link map}
   */
  expose(fragments: Fragments, access: number): Promise<Exposure> {
    return expose(this, fragments, access);
  }

  /** Resolves when every region registered for a transfer that has retired is deregistered. */
  async idle(): Promise<void> {
    while (this.#closing.size > 0) await Promise.all(this.#closing);
  }

  /** @internal */
  standing(pieces: readonly Piece[]): boolean {
    return this.windows?.standing(pieces, this.qp) === true;
  }

  /** @internal */
  copied(bytes: number): void {
    for (const tally of this.tallies) tally.bytesCopied += bytes;
  }

  /** @internal */
  undoing(work: Promise<void>): void {
    const closing = work
      .catch((error: Error) =>
        process.emitWarning(`a transient memory region could not be closed: ${error.message}`),
      )
      .finally(() => this.#closing.delete(closing));
    this.#closing.add(closing);
  }

  /** Finishes a mapping; by copying (row 13) when memory could not be locked. */
  async #finish(mapping: Mapping, options: MapOptions): Promise<Mapping> {
    try {
      return await mapping.finish();
    } catch (error) {
      const forced = options.force ?? this.#force;
      if (forced !== undefined || mapping.strategy === 'bounce' || !this.ops.mappingError(error)) throw error;
      const copying = decideWithoutLocking(mapping.transfer);
      if (copying === undefined) throw error;
      return await new Mapping(copying, this).finish().catch(() => {
        // What was tried first names the fragment that is too large.
        throw error;
      });
    }
  }

  /** @internal */
  _transfer(op: DmaOp, pieces: readonly Piece[], total: number, options: MapOptions = noOptions): Transfer {
    const { limits, quirks } = this;
    const eager = options.reuse === true;
    const means = eager ? this.#eagerMeans : this.#means;
    const thresholds = eager ? this.#eagerThresholds : this.thresholds;
    const { remoteAddr = 0, noInline = false } = options;
    return { op, pieces, total, limits, thresholds, quirks, means, remoteAddr, noInline };
  }

  #mapping(op: DmaOp, fragments: Fragments, options: MapOptions): Mapping {
    const mapping = new Mapping(this.#decide(op, fragments, options), this);
    for (const { kind, buffer } of mapping.transfer.pieces) if (kind === 'foreign') this.cache.note(buffer);
    return mapping;
  }

  #decide(op: DmaOp, fragments: Fragments, options: MapOptions): Decision {
    if (!operations.has(op)) {
      throw invalidArgument(
        'ERR_INVALID_ARG_VALUE',
        `op must be one of ${[...operations].join(', ')}, got ${String(op)}`,
      );
    }
    const { pieces, total } = toPieces(fragments, this.pd);
    if (op === 'atomic' && total !== ATOMIC_BYTES) {
      throw invalidArgument(
        'ERR_INVALID_ARG_VALUE',
        `an atomic brings ${ATOMIC_BYTES} bytes, and the fragments have ${total}`,
      );
    }
    try {
      return decide(this._transfer(op, pieces, total, options), options.force ?? this.#force);
    } catch (error) {
      for (const tally of this.tallies) tally.refused++;
      throw error;
    }
  }
}

function keyedSge(piece: Piece): Sge {
  if (piece.kind !== 'arena' || piece.slab === undefined) {
    throw new RdmaError(
      'ERR_RDMA_NEEDS_MR',
      `fragment ${piece.index} (${piece.length} bytes) is ${piece.kind} memory and has no local key; ` +
        'use map(), which copies or registers it, or memory from the arena',
      { fragment: piece.index },
    );
  }
  return { addr: piece.slab.addr + piece.offset, length: piece.length, lkey: piece.slab.lkey };
}

function checkInteger(name: string, value: number, least: number, most: number): void {
  if (!Number.isInteger(value) || value < least || value > most) {
    throw invalidArgument(
      'ERR_OUT_OF_RANGE',
      `${name} must be an integer from ${least} to ${most}, got ${value}`,
    );
  }
}
