// Why a transfer cannot be carried out in a certain way: the end of a sentence; undefined when it can.

import { isKeyed, oneMessage, ownSink, sgeLimit, splittable } from './questions.ts';
import { countWrs } from './stretches.ts';
import type { Transfer, Treatment } from './transfer.ts';
import { cacheAll, intoMkey, link, registerAll } from './treatments.ts';
import { MAX_WINDOW_BYTES, notLinear, windowBytes } from './window.ts';

/** Why the work requests of this treatment cannot be posted as one transfer. */
export function unpostable(t: Transfer, treat: Treatment): string | undefined {
  const wrs = countWrs(t, treat);
  if (splittable(t)) {
    if (wrs <= t.limits.sendSlots) return undefined;
    return `it needs ${wrs} work requests and the send queue has ${t.limits.sendSlots}`;
  }
  if (wrs === 1) return undefined;
  const over = `${t.pieces.length} pieces exceed the limit of ${sgeLimit(t)} SGEs`;
  return `${t.op} must be one work request, and ${tooLong(t) ?? over}`;
}

export const postable = (t: Transfer, treat: Treatment): boolean => unpostable(t, treat) === undefined;

export function tooLong(t: Transfer): string | undefined {
  return oneMessage(t) ? undefined : `${t.total} bytes exceed a message of ${t.limits.maxMessage} bytes`;
}

/** Why the local key cannot serve. */
export function unkeyed(t: Transfer): string | undefined {
  if (ownSink(t)) return 'the key of an iWARP READ sink goes on the wire and needs an MR of its own';
  const foreign = t.pieces.find((piece) => !isKeyed(t, piece));
  return foreign === undefined
    ? undefined
    : `fragment ${foreign.index} is ${foreign.kind} memory, not arena memory`;
}

/** Why a region per piece cannot serve. */
export function unregistrable(t: Transfer): string | undefined {
  const pool = t.pieces.find((piece) => piece.kind === 'pool');
  if (pool !== undefined && !ownSink(t)) {
    return `fragment ${pool.index} is a slice of a shared pool, whose pages hold other owners' data`;
  }
  return unpostable(t, registerAll);
}

/** Why cached regions cannot serve. */
export function uncacheable(t: Transfer): string | undefined {
  if (ownSink(t)) return unkeyed(t);
  if (!t.pieces.some((piece) => piece.kind === 'foreign'))
    return 'there is no foreign memory to keep registered';
  return unpostable(t, cacheAll);
}

/** Why one stretch of linked pages cannot serve. */
export function unlinkable(t: Transfer): string | undefined {
  if (t.op === 'atomic') return 'the old value of an atomic needs one piece';
  if (!t.means.windows) return 'this protection domain has no windows';
  if (ownSink(t)) return unkeyed(t);
  const bytes = windowBytes(t.pieces);
  if (bytes > MAX_WINDOW_BYTES)
    return `${bytes} bytes of pages exceed the largest window, ${MAX_WINDOW_BYTES}`;
  return notLinear(t.pieces)?.text ?? unpostable(t, link);
}

/** Why an indirect key cannot serve. */
export function unmkeyable(t: Transfer): string | undefined {
  const { indirectExtents } = t.means;
  if (t.op === 'atomic') return 'the old value of an atomic needs one piece';
  if (indirectExtents === 0) return 'this device has no indirect memory keys (SgeBuilderOptions.indirect)';
  if (t.pieces.length > indirectExtents)
    return `${t.pieces.length} pieces exceed the ${indirectExtents} extents of an indirect key`;
  return unkeyed(t) ?? unpostable(t, intoMkey);
}

export const linkable = (t: Transfer): boolean => t.pieces.length > 1 && unlinkable(t) === undefined;
