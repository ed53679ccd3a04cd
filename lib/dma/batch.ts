// The dma_batch of the kernel's mailing list: a mapping that is built piece by piece, finished once, used often.

import { invalidArgument, RdmaError, type WcStatus } from '../errors.ts';
import { Access } from '../verbs/constants.ts';
import { type Fragment, type Piece, pieceAt, toPiece } from './fragments.ts';
import { type Extent, layout, MAX_SGE_BYTES } from './layout.ts';
import type { Mapped } from './mapping.ts';
import { foreignBytes, ownSink, sgeLimit } from './questions.ts';
import { PAGE_BYTES } from './quirks.ts';
import { Reach } from './reach.ts';
import { SgeBuilder } from './sge-builder.ts';
import { stretchesOf } from './stretches.ts';
import { type Strategy, type Transfer, Treat, type Treatment } from './transfer.ts';
import { cacheForeign, copyForeign, registerAll } from './treatments.ts';
import type { DmaOp } from './types.ts';
import { type DmaVec, vectorsOf } from './vectors.ts';
import { MAX_WINDOW_BYTES, notLinearAfter, pagesOf } from './window.ts';

/** `scatter`: a vector for each stretch, merged where it can be. `linear`: one vector, or a clear refusal. */
export type BatchMode = 'scatter' | 'linear';

/** Which way the bytes go: `toDevice` for SEND and WRITE, `fromDevice` for RECV and READ. */
export type BatchDirection = 'toDevice' | 'fromDevice';

/** What a batch may hold. */
export interface BatchLimits {
  /** Most bytes; of a linear batch: of whole pages. Default and most 2^31. */
  readonly maxBytes?: number;
  /** Most vectors of a scatter batch; default the SGEs of one work request of the queue pair. */
  readonly maxVecs?: number;
  /** Most bytes of a vector of a scatter batch; default 2^31 - 4096. */
  readonly maxSeg?: number;
}

/**
 * - `open`: takes fragments; nothing is mapped yet.
 * - `mapping`: {@link DmaBatch.finalize} is under way.
 * - `mapped`: may be posted. `busy`: operations on it are under way.
 * - `failed`: finalize failed; everything was undone.
 * - `done`: unmapped, or given up.
 */
export type BatchState = 'open' | 'mapping' | 'mapped' | 'busy' | 'failed' | 'done';

/**
 * A batch of fragments: `start → add until full → finalize → post … → unmap`.
 *
 * ```ts
 * const batch = DmaBatch.start(rw.builder, 'linear', 'toDevice');
 * for (const page of pages) if (!batch.add(page)) break; // full: not taken
 * await batch.finalize(); // one address, one key
 * await rw.write(batch, remote);
 * await batch.unmap();
 * ```
 *
 * `add` is bookkeeping: what fails there costs nothing and leaves the batch as it was. A call in the wrong state throws
 * EBADSTATE. @see kernel Documentation/core-api/dma-api.rst, dma_iova_try_alloc() … dma_iova_destroy()
 */
export class DmaBatch {
  readonly builder: SgeBuilder;
  readonly mode: BatchMode;
  readonly direction: BatchDirection;
  readonly maxBytes: number;
  readonly maxVecs: number;
  readonly maxSeg: number;
  readonly #pieces: Piece[] = [];
  #fragments = 0;
  #total = 0;
  #vecCount = 0;
  /** Pages that the pieces touch, of a linear batch. */
  #pages = 0;
  /** Its window has a key of its own, which not every queue pair may use. */
  #standing = false;
  #state: BatchState = 'open';
  #reach: Reach | undefined;
  #vecs: readonly DmaVec[] = [];
  #users = 0;
  #unmapWanted: { readonly promise: Promise<void>; resolve(work: Promise<void>): void } | undefined;

  /**
   * Starts a batch on the queue pair of [builder]. Throws ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE or
   * ERR_OUT_OF_RANGE.
   */
  static start(
    builder: SgeBuilder,
    mode: BatchMode,
    direction: BatchDirection,
    limits: BatchLimits = {},
  ): DmaBatch {
    return new DmaBatch(builder, mode, direction, limits);
  }

  private constructor(builder: SgeBuilder, mode: BatchMode, direction: BatchDirection, limits: BatchLimits) {
    if (!(builder instanceof SgeBuilder)) {
      throw invalidArgument(
        'ERR_INVALID_ARG_TYPE',
        'builder must be an SgeBuilder, such as RwContext.builder',
      );
    }
    checkOneOf('mode', mode, ['scatter', 'linear']);
    checkOneOf('direction', direction, ['toDevice', 'fromDevice']);
    this.builder = builder;
    this.mode = mode;
    this.direction = direction;
    this.maxBytes = checkLimit('maxBytes', limits.maxBytes ?? MAX_WINDOW_BYTES, MAX_WINDOW_BYTES);
    this.maxVecs = checkLimit('maxVecs', limits.maxVecs ?? this.#sgesOfOneWr(), 2 ** 31 - 1);
    this.maxSeg = checkLimit('maxSeg', limits.maxSeg ?? MAX_SGE_BYTES, MAX_SGE_BYTES);
    if (mode === 'linear' && builder.windows === undefined) {
      throw new RdmaError('EOPNOTSUPP', 'this protection domain has no windows to link pages in', {
        errno: -95,
      });
    }
  }

  get state(): BatchState {
    return this.#state;
  }

  /** Bytes taken so far. */
  get length(): number {
    return this.#total;
  }

  /** The vectors, once mapped. */
  get vecs(): readonly DmaVec[] {
    return this.#vecs;
  }

  /**
   * Takes a fragment, or returns false when there is no room for it: then it is not taken, and the batch can be finalized
   * and another one started.
   *
   * @throws RdmaError ENOTLINEAR in linear mode, with `fragment` and `flaw` ('start', 'end', 'foreign'), for one whose
   *   pages cannot join; the errors of {@link SgeBuilder.map} for memory that cannot be used. Nothing has changed then.
   */
  add(fragment: Fragment): boolean {
    this.#expect('add', 'open');
    const piece = toPiece(fragment, this.builder.pd)?.at(this.#fragments, this.#total);
    if (piece === undefined) {
      this.#fragments++;
      return true;
    }
    return this.mode === 'linear' ? this.#addLinear(piece) : this.#addScatter(piece);
  }

  /**
   * Maps what was added, once. The vectors stay as they are until {@link unmap}.
   *
   * @throws RdmaError as {@link SgeBuilder.map}; everything is undone then, and the batch is `failed`
   */
  async finalize(): Promise<readonly DmaVec[]> {
    this.#expect('finalize', 'open');
    if (this.#total === 0) throw new RdmaError('EBADSTATE', 'finalize of a batch without bytes', {});
    this.#state = 'mapping';
    try {
      const t = this.#transfer();
      this.#standing = this.mode === 'linear' && this.builder.standing(this.#pieces);
      this.#reach = new Reach(this.#pieces, stretchesOf(t, this.#treatment(t)), this.builder, {
        toDevice: this.direction === 'toDevice',
        access: this.direction === 'toDevice' ? 0 : Access.LOCAL_WRITE,
      });
      if (!this.#reach.tryAll()) await this.#reach.all();
      const maxSeg = this.mode === 'linear' ? Number.POSITIVE_INFINITY : this.maxSeg;
      this.#vecs = vectorsOf(this.#reach.stretches, maxSeg);
      this.#state = 'mapped';
      return this.#vecs;
    } catch (error) {
      this.#state = 'failed';
      throw error;
    }
  }

  /** Gives up a batch that is not mapped. */
  abort(): void {
    this.#expect('abort', 'open', 'failed');
    this.#state = 'done';
    this.#pieces.length = 0;
  }

  /** Makes what the CPU wrote since visible to the device: copies into bounce blocks; nothing for the rest. */
  syncForDevice(): void {
    this.#expect('syncForDevice', 'mapped');
    this.#reach!.syncForDevice();
  }

  /** Makes what the device wrote visible in the fragments: copies out of bounce blocks; nothing for the rest. */
  syncForCpu(): void {
    this.#expect('syncForCpu', 'mapped');
    this.#reach!.syncForCpu(this.#total);
  }

  /**
   * Unmaps: idempotent. While operations use the batch it is put off until the last of them has ended. Resolves when
   * everything has gone.
   */
  unmap(): Promise<void> {
    if (this.#state === 'done') return this.#unmapWanted?.promise ?? Promise.resolve();
    this.#expect('unmap', 'mapped', 'busy');
    if (this.#unmapWanted === undefined) {
      let resolve: (work: Promise<void>) => void = () => undefined;
      const promise = new Promise<void>((settle) => {
        resolve = settle;
      });
      this.#unmapWanted = { promise, resolve };
    }
    if (this.#users === 0) this.#unmapNow();
    return this.#unmapWanted.promise;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#state === 'open' || this.#state === 'failed') this.abort();
    else await this.unmap();
  }

  /**
   * One operation on it, over the queue pair of [builder]: its work requests. The batch is busy until the operation is
   * retired. @internal
   */
  _map(op: DmaOp, remoteAddr: number, builder: SgeBuilder): Mapped {
    this.#expect(op, 'mapped', 'busy');
    const toDevice = op === 'send' || op === 'write';
    if (toDevice !== (this.direction === 'toDevice')) {
      throw invalidArgument('ERR_INVALID_ARG_VALUE', `a batch ${this.direction} cannot serve a ${op}`);
    }
    if (this.#unmapWanted !== undefined) throw badState(op, 'being unmapped', ['mapped']);
    if (this.#standing && !builder.standing(this.#pieces)) {
      throw new RdmaError(
        'EOPNOTSUPP',
        `this ${op} would reach the batch wrongly: its pages are on demand, and the packets of queue pair ` +
          `${builder.qp.qpNum} are not of whole pages (path MTU); start the batch with that queue pair's builder`,
        { errno: -95 },
      );
    }
    const t = { ...builder._transfer(op, this.#pieces, this.#total), remoteAddr };
    const wrs = layout(this.#vecs as readonly Extent[], {
      op,
      maxSges: sgeLimit(t),
      maxBytes: t.limits.maxMessage,
      quirks: t.quirks,
      remoteAddr,
    });
    const several = op === 'write' || op === 'read';
    if (wrs.length > (several ? t.limits.sendSlots : 1)) {
      throw new RdmaError(
        'EMSGSIZE',
        `a ${op} of this batch needs ${wrs.length} work requests, and ${several ? `the send queue has ${t.limits.sendSlots}` : 'must be one'}; ` +
          'use a smaller maxVecs, or linear mode',
        { errno: -90 },
      );
    }
    this.#users++;
    this.#state = 'busy';
    return {
      op,
      total: this.#total,
      inline: false,
      inlineBytes: undefined,
      wrs,
      strategy: this.#strategy(),
      fragmentAt: (position) => pieceAt(this.#pieces, position)?.index,
      retire: (status, byteLen = this.#total) => this.#retire(status, toDevice ? 0 : byteLen),
    };
  }

  #retire(status: number, byteLen: number): RdmaError | undefined {
    let failure: RdmaError | undefined;
    if (status === SUCCESS && byteLen > 0) {
      try {
        this.#reach!.syncForCpu(byteLen);
      } catch (error) {
        failure = error as RdmaError;
      }
    }
    this.#users--;
    if (this.#users === 0) {
      this.#state = 'mapped';
      if (this.#unmapWanted !== undefined) this.#unmapNow();
    }
    return failure;
  }

  #unmapNow(): void {
    this.#state = 'done';
    this.#vecs = [];
    this.#unmapWanted!.resolve(this.#reach!.release());
  }

  #addLinear(piece: Piece): boolean {
    const last = this.#pieces[this.#pieces.length - 1];
    const grows = last?.precedes(piece.kind, piece.buffer, piece.offset) === true;
    if (!grows) {
      const why = notLinearAfter(last, piece);
      if (why !== undefined) {
        throw new RdmaError('ENOTLINEAR', why.text, { fragment: why.index, flaw: why.flaw });
      }
    }
    const pages = this.#pages + (grows ? pagesOf(grown(last, piece.length)) - pagesOf(last) : pagesOf(piece));
    if (pages * PAGE_BYTES > this.maxBytes) return false;
    this.#pages = pages;
    if (grows) last.length += piece.length;
    else this.#pieces.push(piece);
    this.#taken(piece);
    return true;
  }

  #addScatter(piece: Piece): boolean {
    if (this.#total + piece.length > this.maxBytes) return false;
    const last = this.#pieces[this.#pieces.length - 1];
    const merges =
      last?.precedes(piece.kind, piece.buffer, piece.offset) === true &&
      last.length + piece.length <= this.maxSeg;
    if (merges) {
      last.length += piece.length;
    } else {
      const count = this.#vecCount + Math.ceil(piece.length / this.maxSeg);
      if (count > this.maxVecs) return false;
      this.#vecCount = count;
      this.#pieces.push(piece);
    }
    this.#taken(piece);
    return true;
  }

  #taken(piece: Piece): void {
    this.#fragments++;
    this.#total += piece.length;
  }

  #treatment(t: Transfer): Treatment {
    if (this.mode === 'linear') return () => Treat.LINK;
    if (ownSink(t)) return registerAll;
    // Used more than once, so what a registration costs is not for one transfer alone.
    const { bounceMax, keepMin } = t.thresholds;
    return foreignBytes(t) <= Math.min(bounceMax, keepMin) ? copyForeign(t) : cacheForeign(t);
  }

  #strategy(): Strategy {
    if (this.mode === 'linear') return 'linear';
    return this.#vecs.length === 1 ? 'single' : 'multi';
  }

  #transfer(): Transfer {
    return this.builder._transfer(
      this.direction === 'toDevice' ? 'write' : 'read',
      this.#pieces,
      this.#total,
    );
  }

  #sgesOfOneWr(): number {
    const { limits, quirks } = this.builder;
    return sgeLimit({ op: this.direction === 'toDevice' ? 'write' : 'read', limits, quirks });
  }

  #expect(what: string, ...states: BatchState[]): void {
    if (!states.includes(this.#state)) throw badState(what, this.#state, states);
  }
}

const SUCCESS: (typeof WcStatus)['SUCCESS'] = 0;

/** Unmaps all of [batches]; for what one poll of a completion queue has retired. */
export async function unmapBatch(batches: Iterable<DmaBatch>): Promise<void> {
  await Promise.all(Array.from(batches, (batch) => batch.unmap()));
}

function grown(piece: Piece, by: number): Piece {
  return piece.part(0, piece.length + by);
}

function badState(what: string, state: string, wanted: readonly string[]): RdmaError {
  return new RdmaError('EBADSTATE', `${what} of a batch that is ${state}, not ${wanted.join(' or ')}`);
}

function checkOneOf(name: string, value: unknown, known: readonly string[]): void {
  if (known.includes(value as string)) return;
  throw invalidArgument(
    'ERR_INVALID_ARG_VALUE',
    `${name} must be one of ${known.join(', ')}, got ${String(value)}`,
  );
}

function checkLimit(name: string, value: number, most: number): number {
  if (Number.isInteger(value) && value >= 1 && value <= most) return value;
  throw invalidArgument(
    'ERR_OUT_OF_RANGE',
    `limits.${name} must be an integer from 1 to ${most}, got ${value}`,
  );
}
