// How the device reaches each piece of memory: a table, first match wins. Pure: it decides and does nothing.

import { invalidArgument, RdmaError } from '../errors.ts';
import { type ArenaBuffer, MAX_SLAB_BYTES } from './arena.ts';
import type { Piece } from './fragments.ts';
import { type Extent, emptyWr, layout, MAX_SGE_BYTES, type MappedWr } from './layout.ts';
import { PAGE_BYTES, type Quirks } from './quirks.ts';
import type { DmaOp } from './types.ts';

/** Names of the rows that map something. */
export type Strategy = 'empty' | 'inline' | 'single' | 'multi' | 'chain' | 'bounce' | 'transientMr';

/** What `force` may ask for. */
export type ForceStrategy = Exclude<Strategy, 'empty'>;

/** All strategies, in table order. */
export const strategies: readonly Strategy[] = [
  'empty',
  'inline',
  'single',
  'multi',
  'chain',
  'bounce',
  'transientMr',
];

/** What a queue pair and its device can take. */
export interface Limits {
  readonly maxSendSge: number;
  readonly maxRecvSge: number;
  /** Most SGEs of an RDMA READ. */
  readonly maxReadSge: number;
  readonly maxInlineData: number;
  /** Bytes of the longest message of the port. */
  readonly maxMessage: number;
  /** Slots of the send queue; a transfer that needs more cannot be posted. */
  readonly sendSlots: number;
}

/** Where one strategy becomes cheaper than another. */
export interface Thresholds {
  /** Foreign memory up to this many bytes is copied rather than registered. */
  readonly bounceMax: number;
  /** A transfer of more work requests than this is copied instead, when it is no larger than {@link bounceMax}. */
  readonly chainMax: number;
}

/** One question to the table. */
export interface Transfer {
  readonly op: DmaOp;
  readonly pieces: readonly Piece[];
  /** Bytes. */
  readonly total: number;
  readonly limits: Limits;
  readonly thresholds: Thresholds;
  readonly quirks: Quirks;
  /** Remote address of the first byte, 0 when there is none or it is not known. */
  readonly remoteAddr: number;
}

/** How one piece is reached; bits. 0: by the local key of the slab it lies in. */
export const Treat = {
  /** By the arena's local key. */
  KEY: 0,
  /** Copied to or from an arena block; neighbouring copies share one. */
  COPY: 1,
  /** Through an MR of exactly its range, for this transfer only. With COPY: an MR over the block. */
  REGISTER: 2,
  /** Copied into the work request itself. */
  INLINE: 4,
} as const;

/** Chooses {@link Treat} bits for a piece. */
export type Treatment = (piece: Piece) => number;

/** Neighbouring pieces that become one stretch of keyed memory. */
export interface Stretch extends Extent {
  readonly treat: number;
  readonly pieces: Piece[];
  /** The block that its bytes are copied through, while mapped. */
  block: ArenaBuffer | undefined;
}

/** A row of the table. */
export interface Row {
  /** Its number in docs/dma.md. */
  readonly row: number;
  readonly strategy: Strategy;
  /** The first row for which this holds is taken. */
  readonly when: (t: Transfer) => boolean;
  /** Why the row cannot serve the transfer even when forced; undefined when it can. */
  readonly impossible: (t: Transfer) => string | undefined;
  readonly treat: (t: Transfer) => Treatment;
  /** How pieces are reached when the row is forced, where that differs. */
  readonly forcedTreat?: Treatment;
  /** Why it was taken, with the numbers. */
  readonly reason: (t: Transfer) => string;
  /** Set when a forced row puts every SGE into a work request of its own. */
  readonly spread?: boolean;
}

/** Most SGEs of one work request. */
export function sgeLimit(t: Pick<Transfer, 'op' | 'limits' | 'quirks'>): number {
  const { maxSendSge, maxRecvSge, maxReadSge } = t.limits;
  if (t.op === 'recv') return maxRecvSge;
  if (t.op !== 'read') return maxSendSge;
  return t.quirks.singleSgeRead ? 1 : Math.min(maxSendSge, maxReadSge);
}

const allKeyed = (t: Transfer): boolean => t.pieces.every((piece) => piece.kind === 'arena');
const splittable = (t: Transfer): boolean => t.op === 'write' || t.op === 'read';
const oneMessage = (t: Transfer): boolean => t.total <= Math.min(t.limits.maxMessage, MAX_SGE_BYTES);
const ownSink = (t: Transfer): boolean => t.op === 'read' && t.quirks.sinkNeedsOwnMr;

const key: Treatment = () => Treat.KEY;
const copy: Treatment = () => Treat.COPY;
const intoWr: Treatment = () => Treat.INLINE;
const copyForeign: Treatment = (piece) => (piece.kind === 'arena' ? Treat.KEY : Treat.COPY);
/** Less than a page is copied: registering it would pin the page and cost a system call. */
const registerForeign: Treatment = (piece) => {
  if (piece.kind === 'arena') return Treat.KEY;
  return piece.kind === 'pool' || piece.length < PAGE_BYTES ? Treat.COPY : Treat.REGISTER;
};
/** A pool slice is copied even so, and its block registered. */
const registerAll: Treatment = (piece) =>
  piece.kind === 'pool' ? Treat.COPY | Treat.REGISTER : Treat.REGISTER;

function foreignBytes(t: Transfer): number {
  return t.pieces.reduce((sum, piece) => (piece.kind === 'arena' ? sum : sum + piece.length), 0);
}

function countWrs(t: Transfer, treat: Treatment): number {
  return layoutOf(t, stretchesOf(t, treat)).length;
}

/** Why the work requests of this treatment cannot be posted as one transfer. */
function unpostable(t: Transfer, treat: Treatment): string | undefined {
  const wrs = countWrs(t, treat);
  if (splittable(t)) {
    if (wrs <= t.limits.sendSlots) return undefined;
    return `it needs ${wrs} work requests and the send queue has ${t.limits.sendSlots}`;
  }
  if (wrs === 1) return undefined;
  const over = `${t.pieces.length} pieces exceed the limit of ${sgeLimit(t)} SGEs`;
  return `${t.op} must be one work request, and ${tooLong(t) ?? over}`;
}

const postable = (t: Transfer, treat: Treatment): boolean => unpostable(t, treat) === undefined;

function tooLong(t: Transfer): string | undefined {
  return oneMessage(t) ? undefined : `${t.total} bytes exceed a message of ${t.limits.maxMessage} bytes`;
}

/** Why the local key cannot serve. */
function unkeyed(t: Transfer): string | undefined {
  if (ownSink(t)) return 'the key of an iWARP READ sink goes on the wire and needs an MR of its own';
  const foreign = t.pieces.find((piece) => piece.kind !== 'arena');
  return foreign === undefined
    ? undefined
    : `fragment ${foreign.index} is ${foreign.kind} memory, not arena memory`;
}

/** Why a region per piece cannot serve. */
function unregistrable(t: Transfer): string | undefined {
  const pool = t.pieces.find((piece) => piece.kind === 'pool');
  if (pool !== undefined && !ownSink(t)) {
    return `fragment ${pool.index} is a slice of a shared pool, whose pages hold other owners' data`;
  }
  return unpostable(t, registerAll);
}

/** The table. Rows are tried from the top; a row is added by putting it in its place. */
export const table: readonly Row[] = [
  {
    row: 0,
    strategy: 'empty',
    when: (t) => t.total === 0,
    impossible: (t) => (t.total === 0 ? undefined : `${t.total} bytes are not none`),
    treat: () => key,
    reason: () => 'no bytes: one work request with a single empty SGE',
  },
  {
    row: 1,
    strategy: 'inline',
    when: (t) => (t.op === 'send' || t.op === 'write') && t.total <= t.limits.maxInlineData,
    impossible: (t) => {
      if (t.op !== 'send' && t.op !== 'write') return `only send and write can be inline, not ${t.op}`;
      return t.total <= t.limits.maxInlineData
        ? undefined
        : `${t.total} bytes exceed maxInlineData ${t.limits.maxInlineData}`;
    },
    // The provider gathers arena memory itself, through its CPU address. Foreign bytes are put into the work request by
    // JavaScript: no address of V8 memory is ever taken.
    treat: (t) => (allKeyed(t) && t.pieces.length <= sgeLimit(t) ? key : intoWr),
    reason: (t) => `${t.op} of ${t.total} bytes fits in maxInlineData ${t.limits.maxInlineData}`,
  },
  {
    row: 4,
    strategy: 'transientMr',
    when: (t) => ownSink(t) && postable(t, registerAll),
    impossible: unregistrable,
    treat: () => registerAll,
    reason: () =>
      'the key of an iWARP READ sink goes on the wire: an MR of exactly its range, not the arena key',
  },
  {
    row: 5,
    strategy: 'single',
    when: (t) => t.pieces.length === 1 && allKeyed(t) && !ownSink(t) && oneMessage(t),
    impossible: (t) =>
      unkeyed(t) ?? (t.pieces.length === 1 ? tooLong(t) : `there are ${t.pieces.length} pieces, not one`),
    treat: () => key,
    reason: (t) => `one piece of arena memory, ${t.total} bytes: one SGE with the local key`,
  },
  {
    row: 6,
    strategy: 'multi',
    when: (t) =>
      t.pieces.length > 1 && t.pieces.length <= sgeLimit(t) && allKeyed(t) && !ownSink(t) && oneMessage(t),
    impossible: (t) => {
      if (t.pieces.length < 2) return 'there is one piece; several SGEs need at least two';
      const over = `${t.pieces.length} pieces exceed the limit of ${sgeLimit(t)} SGEs for ${t.op}`;
      return unkeyed(t) ?? (t.pieces.length > sgeLimit(t) ? over : tooLong(t));
    },
    treat: () => key,
    reason: (t) => `${t.pieces.length} pieces of arena memory fit in the ${sgeLimit(t)} SGEs of one ${t.op}`,
  },
  {
    row: 7,
    strategy: 'chain',
    when: (t) => {
      if (!splittable(t) || !allKeyed(t) || ownSink(t) || !postable(t, key)) return false;
      return t.total > t.thresholds.bounceMax || countWrs(t, key) <= t.thresholds.chainMax;
    },
    impossible: (t) => {
      if (!splittable(t)) return `${t.op} must be one work request`;
      if (t.pieces.length < 2 && oneMessage(t))
        return 'there is one piece; a chain needs at least two work requests';
      return unkeyed(t) ?? unpostable(t, key);
    },
    treat: () => key,
    reason: (t) =>
      oneMessage(t)
        ? `${t.pieces.length} pieces of arena memory exceed the ${sgeLimit(t)} SGEs of one ${t.op}`
        : `${t.total} bytes exceed a message of ${t.limits.maxMessage} bytes`,
    spread: true,
  },
  {
    row: 10,
    strategy: 'bounce',
    when: (t) => {
      if (ownSink(t)) return false;
      const foreign = foreignBytes(t);
      if (foreign > 0 && foreign <= t.thresholds.bounceMax && postable(t, copyForeign)) return true;
      return t.total <= t.thresholds.bounceMax && postable(t, copy);
    },
    impossible: (t) => {
      if (ownSink(t)) return unkeyed(t);
      if (t.total > MAX_SLAB_BYTES)
        return `${t.total} bytes exceed the largest arena block, ${MAX_SLAB_BYTES}`;
      return unpostable(t, copy);
    },
    // Only the foreign pieces, when what is left then fits; otherwise everything.
    treat: (t) => (foreignBytes(t) > 0 && postable(t, copyForeign) ? copyForeign : copy),
    forcedTreat: copy,
    reason: (t) => {
      const foreign = foreignBytes(t);
      return foreign > 0
        ? `${foreign} of ${t.total} bytes are foreign, at most bounceMax ${t.thresholds.bounceMax}: copied, not registered`
        : `${t.pieces.length} pieces need more than ${splittable(t) ? `chainMax ${t.thresholds.chainMax} work requests` : `the ${sgeLimit(t)} SGEs of one ${t.op}`}, and ${t.total} bytes are at most bounceMax ${t.thresholds.bounceMax}: copied together`;
    },
  },
  {
    row: 12,
    strategy: 'transientMr',
    when: (t) => !ownSink(t) && foreignBytes(t) > 0 && postable(t, registerForeign),
    impossible: unregistrable,
    treat: () => registerForeign,
    forcedTreat: registerAll,
    reason: (t) =>
      `${foreignBytes(t)} of ${t.total} bytes are foreign, more than bounceMax ${t.thresholds.bounceMax}: registered for this transfer`,
  },
];

/** The row taken and what follows from it. */
export class Decision {
  readonly row: Row;
  readonly transfer: Transfer;
  readonly forced: boolean;
  readonly stretches: Stretch[];

  constructor(row: Row, transfer: Transfer, forced: boolean) {
    this.row = row;
    this.transfer = transfer;
    this.forced = forced;
    this.stretches = stretchesOf(transfer, (forced ? row.forcedTreat : undefined) ?? row.treat(transfer));
  }

  /** The work requests, from the addresses and keys that the stretches have now. */
  layout(): MappedWr[] {
    return layoutOf(this.transfer, this.stretches, this.forced && this.row.spread === true);
  }

  get reason(): string {
    return this.forced ? `forced: ${this.row.strategy}` : this.row.reason(this.transfer);
  }
}

/**
 * Chooses the row. Throws EMSGSIZE when none serves, and ERR_INVALID_ARG_VALUE, saying why, when [force] names one that
 * cannot.
 */
export function decide(t: Transfer, force?: ForceStrategy): Decision {
  if (force !== undefined && t.total > 0) return decideForced(t, force);
  for (const row of table) if (row.when(t)) return new Decision(row, t, false);
  throw new RdmaError('EMSGSIZE', `no strategy serves this ${t.op}: ${whyNone(t)}`, { errno: -90 });
}

function decideForced(t: Transfer, force: ForceStrategy): Decision {
  const row = table.filter((candidate) => candidate.row > 0 && candidate.strategy === force).at(-1);
  if (row === undefined) {
    const names = strategies.slice(1).join(', ');
    throw invalidArgument('ERR_INVALID_ARG_VALUE', `force must be one of ${names}, got ${String(force)}`);
  }
  const why = row.impossible(t);
  if (why !== undefined) {
    throw invalidArgument('ERR_INVALID_ARG_VALUE', `force '${force}' is impossible for this ${t.op}: ${why}`);
  }
  return new Decision(row, t, true);
}

function whyNone(t: Transfer): string {
  const why = unpostable(t, ownSink(t) ? registerAll : registerForeign);
  return (
    `${t.pieces.length} pieces, ${t.total} bytes, ${foreignBytes(t)} of them foreign; ${why}; ` +
    `use fewer fragments, a deeper send queue, or a larger bounceMax (now ${t.thresholds.bounceMax})`
  );
}

/** Groups the pieces by treatment: neighbouring copies share a block, everything else stands alone. */
export function stretchesOf(t: Transfer, treat: Treatment): Stretch[] {
  const stretches: Stretch[] = [];
  let last: Stretch | undefined;
  for (const piece of t.pieces) {
    const how = treat(piece);
    if (last !== undefined && (how & (Treat.COPY | Treat.INLINE)) !== 0 && last.treat === how) {
      last.pieces.push(piece);
      last.length += piece.length;
      continue;
    }
    const slab = how === Treat.KEY ? piece.slab : undefined;
    last = {
      treat: how,
      pieces: [piece],
      addr: slab === undefined ? 0 : slab.addr + piece.offset,
      length: piece.length,
      lkey: slab?.lkey ?? 0,
      block: undefined,
    };
    stretches.push(last);
  }
  return stretches;
}

function layoutOf(t: Transfer, stretches: readonly Stretch[], spread = false): MappedWr[] {
  if (t.total === 0) return [emptyWr()];
  return layout(stretches, {
    op: t.op,
    maxSges: sgeLimit(t),
    spread,
    maxBytes: t.limits.maxMessage,
    quirks: t.quirks,
    remoteAddr: t.remoteAddr,
  });
}
