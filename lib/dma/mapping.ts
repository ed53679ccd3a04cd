// One transfer made reachable for the device, and what undoes it.

import { invalidArgument, type RdmaError, WcStatus } from '../errors.ts';
import { Access } from '../verbs/constants.ts';
import type { Arena, ArenaBuffer } from './arena.ts';
import type { DmaCounters } from './counters.ts';
import type { MappedWr } from './layout.ts';
import { type Decision, type Strategy, type Stretch, Treat } from './strategy.ts';
import type { DmaMr, DmaOp } from './types.ts';

/** The row chosen for a transfer and what it will cost. */
export interface Plan {
  /** Row of the table in docs/dma.md. */
  readonly row: number;
  readonly strategy: Strategy;
  /** A sentence with the numbers. */
  readonly reason: string;
  /** Work requests. */
  readonly wrs: number;
  /** SGEs of all work requests. */
  readonly sges: number;
  /** Bytes copied through bounce blocks, or into an inline work request. */
  readonly bytesCopied: number;
  /** Regions registered for this transfer. */
  readonly registers: number;
}

/** The plan that [decision] amounts to. */
export function planOf(decision: Decision, wrs: readonly MappedWr[]): Plan {
  let bytesCopied = 0;
  let registers = 0;
  for (const { treat, length } of decision.stretches) {
    if ((treat & (Treat.COPY | Treat.INLINE)) !== 0) bytesCopied += length;
    if ((treat & Treat.REGISTER) !== 0) registers++;
  }
  return {
    row: decision.row.row,
    strategy: decision.row.strategy,
    reason: decision.reason,
    wrs: wrs.length,
    sges: wrs.reduce((sum, wr) => sum + wr.sges.length, 0),
    bytesCopied,
    registers,
  };
}

/** What a mapping needs of its builder. @internal */
export interface MappingOwner {
  readonly arena: Arena;
  readonly tallies: readonly DmaCounters[];
  /** Registers [view] for one transfer. */
  register(view: Uint8Array, access: number): Promise<DmaMr>;
  /** Deregisters in the background. */
  deregister(mr: DmaMr): void;
}

/**
 * A mapped transfer. Post its {@link wrs}, then call {@link retire} once the device is done with all of them; until
 * then the mapping keeps every piece of memory referenced, its arena blocks reserved and its regions open.
 */
export class Mapping {
  readonly op: DmaOp;
  /** Bytes of the transfer. */
  readonly total: number;
  /** Post with IBV_SEND_INLINE: keys are ignored. */
  readonly inline: boolean;
  /** For an inline transfer of foreign memory: its bytes, a copy; post these instead of {@link wrs}' SGEs. */
  inlineBytes: Uint8Array | undefined;
  readonly #decision: Decision;
  readonly #owner: MappingOwner;
  readonly #mrs: DmaMr[] = [];
  #wrs: MappedWr[] = [];
  #held = 0;
  #state: 'open' | 'mapped' | 'retired' = 'open';

  /** Holds the arena memory among the pieces. @internal Made by {@link SgeBuilder}. */
  constructor(decision: Decision, owner: MappingOwner) {
    this.op = decision.transfer.op;
    this.total = decision.transfer.total;
    this.inline = decision.row.strategy === 'inline';
    this.#decision = decision;
    this.#owner = owner;
    for (const piece of decision.transfer.pieces) {
      if (piece.slab?.blocks.hold(piece.offset, piece.length) === false) {
        this.#releaseAll();
        throw invalidArgument(
          'ERR_INVALID_STATE',
          `fragment ${piece.index} is a view of arena memory that was freed (slab offset ${piece.offset}, ${piece.length} bytes)`,
        );
      }
      this.#held++;
    }
  }

  /** One list of SGEs per work request, with its byte offset into the transfer. */
  get wrs(): readonly MappedWr[] {
    return this.#wrs;
  }

  get strategy(): Strategy {
    return this.#decision.row.strategy;
  }

  get plan(): Plan {
    return planOf(this.#decision, this.#wrs);
  }

  /** True once {@link retire} has run. */
  get retired(): boolean {
    return this.#state === 'retired';
  }

  /**
   * Maps with what is at hand; false when a registration or a larger arena is needed: then call {@link finish}, or
   * {@link drop}. @internal
   */
  tryFinish(): boolean {
    for (const stretch of this.#decision.stretches) {
      if (stretch.treat === Treat.KEY || stretch.block !== undefined) continue;
      if (stretch.treat === Treat.INLINE) {
        this.#copyInline(stretch);
        continue;
      }
      if ((stretch.treat & Treat.REGISTER) !== 0) return false;
      const block = this.#owner.arena.tryAlloc(stretch.length);
      if (block === undefined) return false;
      this.#bounce(stretch, block);
    }
    this.#finish();
    return true;
  }

  /** Undoes what was done towards a mapping that is not finished. @internal */
  drop(): void {
    this.#state = 'retired';
    this.#releaseAll();
  }

  /** Maps, waiting for registrations and arena growth. On failure everything is undone. @internal */
  async finish(): Promise<this> {
    try {
      const work = this.#decision.stretches.map((stretch) => this.#reach(stretch));
      const failure = (await Promise.allSettled(work)).find((result) => result.status === 'rejected');
      if (failure !== undefined) throw failure.reason;
      this.#finish();
      return this;
    } catch (error) {
      this.drop();
      throw error;
    }
  }

  /**
   * Ends the transfer, once: copies received bytes out of bounce blocks, frees the blocks, lets go of the memory and
   * closes regions (in the background). Call it when no work request of it is outstanding any more.
   *
   * @param status - the first status other than a flush, or SUCCESS; {@link WcStatus}. Of a mapping that was never
   *   posted: WR_FLUSH_ERR.
   * @param byteLen - bytes that arrived, for a RECV; default the whole transfer.
   * @returns an ERR_INVALID_STATE error when the bytes arrived but memory they were to go to has been detached
   *   meanwhile. Everything is released regardless.
   */
  retire(status: number, byteLen: number = this.total): RdmaError | undefined {
    if (this.#state !== 'mapped') return undefined;
    this.#state = 'retired';
    let failure: RdmaError | undefined;
    if (status === WcStatus.SUCCESS && (this.op === 'recv' || this.op === 'read')) {
      try {
        this.#copyOut(byteLen);
      } catch (error) {
        failure = error as RdmaError;
      }
    }
    this.#releaseAll();
    const good = status === WcStatus.SUCCESS && failure === undefined;
    for (const tally of this.#owner.tallies) {
      tally.inFlight--;
      if (good) tally.completed++;
      else tally.failed++;
    }
    return failure;
  }

  async #reach(stretch: Stretch): Promise<void> {
    if ((stretch.treat & Treat.COPY) !== 0 && stretch.block === undefined) {
      this.#bounce(stretch, await this.#owner.arena.alloc(stretch.length));
    }
    if ((stretch.treat & Treat.REGISTER) === 0) return;
    const view = stretch.block?.bytes ?? stretch.pieces[0]!.view();
    const mr = await this.#owner.register(view, this.#access());
    this.#mrs.push(mr);
    stretch.addr = mr.addr;
    stretch.lkey = mr.lkey;
  }

  #bounce(stretch: Stretch, block: ArenaBuffer): void {
    stretch.block = block;
    stretch.addr = block.addr;
    stretch.lkey = block.lkey;
    if (this.op === 'send' || this.op === 'write') this.#copyIn(stretch, block.slab.bytes, block.offset);
  }

  #copyInline(stretch: Stretch): void {
    const bytes = Buffer.allocUnsafe(stretch.length);
    this.#copyIn(stretch, bytes, 0);
    this.inlineBytes = bytes;
  }

  #copyIn(stretch: Stretch, target: Uint8Array, offset: number): void {
    let at = offset;
    for (const piece of stretch.pieces) {
      target.set(piece.view(), at);
      at += piece.length;
    }
    for (const tally of this.#owner.tallies) tally.bytesCopied += stretch.length;
  }

  #copyOut(byteLen: number): void {
    for (const { block, pieces } of this.#decision.stretches) {
      let at = block?.offset ?? 0;
      for (const piece of pieces) {
        const arrived = Math.min(piece.length, byteLen - piece.position);
        if (arrived <= 0) return;
        const view = piece.view();
        if (block === undefined) continue;
        view.set(block.slab.bytes.subarray(at, at + arrived));
        at += piece.length;
        for (const tally of this.#owner.tallies) tally.bytesCopied += arrived;
      }
    }
  }

  #access(): number {
    const { op, quirks } = this.#decision.transfer;
    if (op === 'send' || op === 'write') return 0;
    return op === 'read' && quirks.sinkNeedsOwnMr
      ? Access.LOCAL_WRITE | Access.REMOTE_WRITE
      : Access.LOCAL_WRITE;
  }

  #finish(): void {
    this.#wrs = this.#decision.layout();
    this.#state = 'mapped';
    for (const tally of this.#owner.tallies) {
      const count = tally.strategies[this.#decision.row.strategy];
      count.ops++;
      count.bytes += this.total;
      count.wrs += this.#wrs.length;
      tally.inFlight++;
      tally.registrations += this.#mrs.length;
    }
  }

  #releaseAll(): void {
    for (const mr of this.#mrs.splice(0)) this.#owner.deregister(mr);
    for (const stretch of this.#decision.stretches) {
      stretch.block?.free();
      stretch.block = undefined;
    }
    const { pieces } = this.#decision.transfer;
    for (; this.#held > 0; this.#held--) {
      const piece = pieces[this.#held - 1]!;
      piece.slab?.blocks.release(piece.offset, piece.length);
    }
  }
}
