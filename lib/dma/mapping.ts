// One transfer made reachable for the device, as work requests.

import { type RdmaError, WcStatus } from '../errors.ts';
import { Access } from '../verbs/constants.ts';
import type { DmaCounters } from './counters.ts';
import { pieceAt } from './fragments.ts';
import type { MappedWr } from './layout.ts';
import { type KeySource, Reach } from './reach.ts';
import type { Decision } from './strategy.ts';
import { type Strategy, type Transfer, Treat } from './transfer.ts';
import type { DmaOp } from './types.ts';

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
  /** Regions registered for this transfer, or to stay. */
  readonly registers: number;
}

/** The plan that [decision] amounts to. */
export function planOf(decision: Decision, wrs: readonly MappedWr[]): Plan {
  const { means } = decision.transfer;
  let bytesCopied = 0;
  let registers = 0;
  for (const { treat, length, pieces } of decision.stretches) {
    if ((treat & (Treat.COPY | Treat.INLINE)) !== 0) bytesCopied += length;
    if ((treat & (Treat.REGISTER | Treat.DMABUF)) !== 0) registers++;
    if (treat === Treat.CACHE && !means.cached(pieces[0]!.buffer)) registers++;
    if (treat === Treat.LINK && !means.onDemand(pieces)) registers++;
  }
  return {
    row: decision.number,
    strategy: decision.row.strategy,
    reason: decision.reason,
    wrs: wrs.length,
    sges: wrs.reduce((sum, wr) => sum + wr.sges.length, 0),
    bytesCopied,
    registers,
  };
}

/** What can be posted: the work requests of one operation, and how it ends. @internal */
export interface Mapped {
  readonly op: DmaOp;
  readonly total: number;
  readonly inline: boolean;
  readonly inlineBytes: Uint8Array | undefined;
  readonly wrs: readonly MappedWr[];
  readonly strategy: Strategy;
  /** What is posted behind it, in the same list. */
  readonly tail?: Mapped;
  /** Index of the fragment that byte [position] of the transfer is in. */
  fragmentAt(position: number): number | undefined;
  retire(status: number, byteLen?: number): RdmaError | undefined;
}

/** Work requests of a mapping and what follows it. @internal */
export function slotsOf({ wrs, tail }: Mapped): number {
  return wrs.length + (tail?.wrs.length ?? 0);
}

/** [head] with [tail] behind it: one list, one end. @internal */
export function chained(head: Mapped, tail: Mapped): Mapped {
  const { op, total, inline, inlineBytes, wrs, strategy } = head;
  return {
    op,
    total,
    inline,
    inlineBytes,
    wrs,
    strategy,
    tail,
    fragmentAt: (position) => head.fragmentAt(position),
    retire: (status, byteLen) => {
      const failure = head.retire(status, byteLen);
      return tail.retire(status) ?? failure;
    },
  };
}

/** What a mapping needs of its builder. @internal */
export interface MappingOwner extends KeySource {
  readonly tallies: readonly DmaCounters[];
}

/**
 * A mapped transfer. Post its {@link wrs}, then call {@link retire} once the device is done with all of them; until
 * then the mapping keeps every piece of memory referenced, its arena blocks reserved and its regions open.
 */
export class Mapping implements Mapped {
  readonly op: DmaOp;
  /** Bytes of the transfer. */
  readonly total: number;
  /** Post with IBV_SEND_INLINE: keys are ignored. */
  readonly inline: boolean;
  readonly #toDevice: boolean;
  readonly #decision: Decision;
  readonly #owner: MappingOwner;
  readonly #reach: Reach;
  #wrs: MappedWr[] = [];
  #state: 'open' | 'mapped' | 'retired' = 'open';

  /** Holds the arena memory among the pieces. @internal Made by {@link SgeBuilder}. */
  constructor(decision: Decision, owner: MappingOwner) {
    const { transfer } = decision;
    this.op = transfer.op;
    this.#toDevice = transfer.op === 'send' || transfer.op === 'write';
    this.total = transfer.total;
    this.inline = decision.row.strategy === 'inline';
    this.#decision = decision;
    this.#owner = owner;
    this.#reach = new Reach(transfer.pieces, decision.stretches, owner, {
      toDevice: this.#toDevice,
      access: accessFor(transfer),
    });
  }

  /** One list of SGEs per work request, with its byte offset into the transfer. */
  get wrs(): readonly MappedWr[] {
    return this.#wrs;
  }

  /** For an inline transfer of foreign memory: its bytes, a copy; post these instead of {@link wrs}' SGEs. */
  get inlineBytes(): Uint8Array | undefined {
    return this.#reach.inlineBytes;
  }

  /** @internal */
  get transfer(): Transfer {
    return this.#decision.transfer;
  }

  get strategy(): Strategy {
    return this.#decision.row.strategy;
  }

  get plan(): Plan {
    return planOf(this.#decision, this.#wrs);
  }

  /** Index of the fragment that byte [position] of the transfer is in; of neighbours that were merged, the first's. */
  fragmentAt(position: number): number | undefined {
    return pieceAt(this.transfer.pieces, position)?.index;
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
    try {
      if (!this.#reach.tryAll()) return false;
    } catch (error) {
      this.drop();
      throw error;
    }
    this.#finish();
    return true;
  }

  /** Undoes what was done towards a mapping that is not finished. @internal */
  drop(): void {
    this.#state = 'retired';
    this.#reach.release();
  }

  /** Maps, waiting for registrations and arena growth. On failure everything is undone. @internal */
  async finish(): Promise<this> {
    try {
      await this.#reach.all();
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
    if (status === WcStatus.SUCCESS && !this.#toDevice) {
      try {
        this.#reach.syncForCpu(byteLen);
      } catch (error) {
        failure = error as RdmaError;
      }
    }
    this.#reach.release();
    const good = status === WcStatus.SUCCESS && failure === undefined;
    for (const tally of this.#owner.tallies) {
      tally.inFlight--;
      if (good) tally.completed++;
      else tally.failed++;
    }
    return failure;
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
      tally.registrations += this.#reach.registrations;
    }
  }
}

/** Access of regions that are registered for a transfer: no more than it needs. */
function accessFor({ op, quirks }: Transfer): number {
  if (op === 'send' || op === 'write') return 0;
  return op === 'read' && quirks.sinkNeedsOwnMr
    ? Access.LOCAL_WRITE | Access.REMOTE_WRITE
    : Access.LOCAL_WRITE;
}
