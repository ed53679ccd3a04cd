// The strategy table, as data.

import {
  linkable,
  postable,
  tooLong,
  uncacheable,
  unkeyed,
  unlinkable,
  unmkeyable,
  unpostable,
  unregistrable,
} from './obstacles.ts';
import {
  allArena,
  allKeyed,
  foreignBytes,
  hasDmabuf,
  memoryOf,
  oneMessage,
  ownSink,
  sgeLimit,
  splittable,
} from './questions.ts';
import { countWrs } from './stretches.ts';
import { GATHER_MAX } from './thresholds.ts';
import { type Row, type Transfer, Treat } from './transfer.ts';
import {
  byKey,
  cacheAll,
  cacheForeign,
  copy,
  copyForeign,
  intoMkey,
  intoWr,
  link,
  registerAll,
  registerForeign,
} from './treatments.ts';

/** Some of the memory is used again, and can be registered to stay. */
function keepable(t: Transfer): boolean {
  if (ownSink(t)) return false;
  const treat = cacheForeign(t);
  const some = t.pieces.some((piece) => treat(piece) === Treat.CACHE && !t.means.cached(piece.buffer));
  return some && postable(t, treat);
}

/** The table. Rows are tried from the top; a row is added by putting it in its place. */
export const table: readonly Row[] = [
  {
    row: 0,
    strategy: 'empty',
    when: (t) => t.total === 0,
    treat: byKey,
    reason: () => 'no bytes: one work request with a single empty SGE',
  },
  {
    row: 1,
    strategy: 'inline',
    when: (t) =>
      (t.op === 'send' || t.op === 'write') &&
      t.total <= Math.min(t.limits.maxInlineData, t.thresholds.inlineMax) &&
      !t.noInline &&
      !hasDmabuf(t),
    impossible: (t) => {
      if (t.op !== 'send' && t.op !== 'write') return `only send and write can be inline, not ${t.op}`;
      if (t.noInline) return 'this device takes only plain send and write inline';
      if (hasDmabuf(t)) return 'the CPU does not reach dma-buf memory';
      return t.total <= t.limits.maxInlineData
        ? undefined
        : `${t.total} bytes exceed maxInlineData ${t.limits.maxInlineData}`;
    },
    // The provider gathers arena memory itself, through its CPU address. Foreign bytes are put into the work request by
    // JavaScript: no address of V8 memory is ever taken.
    treat: (t) => (allArena(t) && t.pieces.length <= sgeLimit(t) ? byKey(t) : intoWr),
    reason: (t) => `${t.op} of ${t.total} bytes fits in maxInlineData ${t.limits.maxInlineData}`,
  },
  {
    row: 2,
    strategy: 'transientMr',
    when: (t) => hasDmabuf(t) && t.means.p2p && postable(t, registerForeign(t)),
    treat: registerForeign,
    reason: () => 'memory of another device: registered by its dma-buf',
  },
  {
    row: 4,
    strategy: 'transientMr',
    when: (t) => ownSink(t) && postable(t, registerAll),
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
    treat: byKey,
    reason: (t) => `one piece of ${memoryOf(t)}, ${t.total} bytes: one SGE with the local key`,
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
    treat: byKey,
    reason: (t) =>
      `${t.pieces.length} pieces of ${memoryOf(t)} fit in the ${sgeLimit(t)} SGEs of one ${t.op}`,
  },
  {
    row: 7,
    strategy: 'chain',
    when: (t) => {
      if (!splittable(t) || !allKeyed(t) || ownSink(t) || !postable(t, byKey(t))) return false;
      if (t.total > Math.min(t.thresholds.bounceMax, GATHER_MAX)) return true;
      // Copying is for fewer work requests; where messages are short, it saves none.
      return countWrs(t, byKey(t)) <= Math.max(t.thresholds.chainMax, countWrs(t, copy));
    },
    impossible: (t) => {
      if (!splittable(t)) return `${t.op} must be one work request`;
      if (t.pieces.length < 2 && oneMessage(t))
        return 'there is one piece; a chain needs at least two work requests';
      return unkeyed(t) ?? unpostable(t, byKey(t));
    },
    treat: byKey,
    reason: (t) =>
      oneMessage(t)
        ? `${t.pieces.length} pieces of ${memoryOf(t)} exceed the ${sgeLimit(t)} SGEs of one ${t.op}`
        : `${t.total} bytes exceed a message of ${t.limits.maxMessage} bytes`,
    spread: true,
  },
  {
    row: 8,
    strategy: 'linear',
    // A registration costs more than copying a little; under on-demand paging there is none.
    when: (t) => linkable(t) && (t.means.onDemand(t.pieces) || t.total > t.thresholds.bounceMax),
    impossible: unlinkable,
    treat: () => link,
    reason: (t) =>
      `${t.pieces.length} pieces of arena memory exceed the ${sgeLimit(t)} SGEs of one ${t.op}, and their pages join: ` +
      `one SGE over a window${t.means.onDemand(t.pieces) ? ' with a standing key' : ', registered for this transfer'}`,
  },
  {
    row: 9,
    strategy: 'indirectMkey',
    when: (t) => t.pieces.length > sgeLimit(t) && unmkeyable(t) === undefined,
    impossible: unmkeyable,
    treat: () => intoMkey,
    reason: (t) =>
      `${t.pieces.length} pieces exceed the ${sgeLimit(t)} SGEs of one ${t.op}: one indirect key`,
  },
  {
    row: 10,
    strategy: 'bounce',
    when: (t) => {
      if (ownSink(t) || hasDmabuf(t)) return false;
      const foreign = foreignBytes(t);
      // Registered once (row 11), and from then on neither copied nor registered.
      if (foreign >= t.thresholds.keepMin && keepable(t)) return false;
      if (foreign > 0 && foreign <= t.thresholds.bounceMax && postable(t, copyForeign(t))) return true;
      return t.total <= t.thresholds.bounceMax && postable(t, copy);
    },
    impossible: (t) => {
      if (ownSink(t)) return unkeyed(t);
      if (hasDmabuf(t)) return 'the CPU does not reach dma-buf memory';
      return unpostable(t, copy);
    },
    // Only the foreign pieces, when what is left then fits; otherwise everything.
    treat: (t) => (foreignBytes(t) > 0 && postable(t, copyForeign(t)) ? copyForeign(t) : copy),
    forcedTreat: copy,
    reason: (t) => {
      const foreign = foreignBytes(t);
      return foreign > 0
        ? `${foreign} of ${t.total} bytes are foreign, at most bounceMax ${t.thresholds.bounceMax}: copied, not registered`
        : `${t.pieces.length} pieces need more than ${splittable(t) ? `chainMax ${t.thresholds.chainMax} work requests` : `the ${sgeLimit(t)} SGEs of one ${t.op}`}, and ${t.total} bytes are at most bounceMax ${t.thresholds.bounceMax}: copied together`;
    },
  },
  {
    row: 11,
    strategy: 'cachedMr',
    when: keepable,
    impossible: uncacheable,
    treat: cacheForeign,
    forcedTreat: cacheAll,
    reason: (t) =>
      `${foreignBytes(t)} of ${t.total} bytes are in buffers that are used again: registered to stay`,
  },
  {
    row: 12,
    strategy: 'transientMr',
    when: (t) => !ownSink(t) && foreignBytes(t) > 0 && !hasDmabuf(t) && postable(t, registerForeign(t)),
    impossible: unregistrable,
    treat: registerForeign,
    forcedTreat: registerAll,
    reason: (t) =>
      `${foreignBytes(t)} of ${t.total} bytes are foreign, more than bounceMax ${t.thresholds.bounceMax}: registered for this transfer`,
  },
];
