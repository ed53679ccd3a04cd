// How the device reaches each piece of memory: a table, first match wins. Pure: it decides and does nothing.

import { invalidArgument, RdmaError } from '../errors.ts';
import type { MappedWr } from './layout.ts';
import { unpostable } from './obstacles.ts';
import { foreignBytes, ownSink } from './questions.ts';
import { layoutOf, stretchesOf } from './stretches.ts';
import { table } from './table.ts';
import { type ForceStrategy, forceStrategies, type Row, type Stretch, type Transfer } from './transfer.ts';
import { registerAll, registerForeign } from './treatments.ts';

/** The row taken and what follows from it. */
export class Decision {
  readonly row: Row;
  readonly transfer: Transfer;
  readonly forced: boolean;
  readonly stretches: Stretch[];

  /** Its number in the table; another than the row's when it stands in for one. */
  readonly number: number;

  constructor(row: Row, transfer: Transfer, forced: boolean, number = row.row) {
    this.row = row;
    this.number = number;
    this.transfer = transfer;
    this.forced = forced;
    this.stretches = stretchesOf(transfer, (forced ? row.forcedTreat : undefined) ?? row.treat(transfer));
  }

  /** The work requests, from the addresses and keys that the stretches have now. */
  layout(): MappedWr[] {
    return layoutOf(this.transfer, this.stretches, this.forced && this.row.spread === true);
  }

  get reason(): string {
    if (this.number === 13)
      return 'no memory could be locked, or mapped side by side (RLIMIT_MEMLOCK, vm.max_map_count): copied instead';
    return this.forced ? `forced: ${this.row.strategy}` : this.row.reason(this.transfer);
  }
}

/**
 * Chooses the row. Throws EMSGSIZE when none serves, and ERR_INVALID_ARG_VALUE, saying why, when [force] names one that
 * cannot.
 */
export function decide(t: Transfer, force?: ForceStrategy): Decision {
  if (!t.means.p2p) refuseDmabuf(t);
  if (force !== undefined && t.total > 0) return decideForced(t, force);
  for (const row of table) if (row.when(t)) return new Decision(row, t, false);
  throw new RdmaError('EMSGSIZE', `no strategy serves this ${t.op}: ${whyNone(t)}`, { errno: -90 });
}

/**
 * What to do when memory could not be locked for [t] (row 13): copy everything, in several blocks where that may be.
 * Undefined when that cannot serve either.
 */
export function decideWithoutLocking(t: Transfer): Decision | undefined {
  const bounce = table.find((row) => row.strategy === 'bounce')!;
  return bounce.impossible!(t) === undefined ? new Decision(bounce, t, true, 13) : undefined;
}

/** Row 2: the device opts out before anything is tried. */
function refuseDmabuf(t: Transfer): void {
  const piece = t.pieces.find(({ kind }) => kind === 'dmabuf');
  if (piece === undefined) return;
  throw new RdmaError(
    'EOPNOTSUPP',
    `fragment ${piece.index} is dma-buf memory, and this device does not reach memory of other devices; ` +
      'map it and copy, or use memory of this machine',
    { errno: -95, fragment: piece.index },
  );
}

function decideForced(t: Transfer, force: ForceStrategy): Decision {
  const row = table.find(({ strategy, impossible }) => strategy === force && impossible !== undefined);
  if (row === undefined) {
    const names = forceStrategies.join(', ');
    throw invalidArgument('ERR_INVALID_ARG_VALUE', `force must be one of ${names}, got ${String(force)}`);
  }
  const why = row.impossible!(t);
  if (why !== undefined) {
    throw invalidArgument('ERR_INVALID_ARG_VALUE', `force '${force}' is impossible for this ${t.op}: ${why}`);
  }
  const decision = new Decision(row, t, true);
  const wrs = row.spread === true ? decision.layout().length : 0;
  if (wrs > t.limits.sendSlots) {
    throw invalidArgument(
      'ERR_INVALID_ARG_VALUE',
      `force '${force}' is impossible for this ${t.op}: it needs ${wrs} work requests, one for each SGE, and the send queue ` +
        `has ${t.limits.sendSlots}`,
    );
  }
  return decision;
}

function whyNone(t: Transfer): string {
  const why = unpostable(t, ownSink(t) ? registerAll : registerForeign(t));
  return (
    `${t.pieces.length} pieces, ${t.total} bytes, ${foreignBytes(t)} of them foreign; ${why}; ` +
    `use fewer fragments, a deeper send queue, or a larger bounceMax (now ${t.thresholds.bounceMax})`
  );
}
