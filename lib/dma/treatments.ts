// What can be said of a transfer, and the ways its pieces can be reached.

import { MAX_SLAB_BYTES } from './arena.ts';
import type { Piece } from './fragments.ts';
import { emptyWr, layout, MAX_SGE_BYTES, type MappedWr } from './layout.ts';
import { PAGE_BYTES } from './quirks.ts';
import { type Stretch, type Transfer, Treat, type Treatment } from './transfer.ts';
import { MAX_WINDOW_BYTES, notLinear, windowBytes } from './window.ts';

/** Most SGEs of one work request. */
export function sgeLimit(t: Pick<Transfer, 'op' | 'limits' | 'quirks'>): number {
  const { maxSendSge, maxRecvSge, maxReadSge, readSgeSoftLimit = maxReadSge } = t.limits;
  if (t.op === 'recv') return maxRecvSge;
  if (t.op !== 'read') return maxSendSge;
  return t.quirks.singleSgeRead ? 1 : Math.min(maxSendSge, maxReadSge, readSgeSoftLimit);
}

/** Reached without registering or copying: arena memory, a cached region, or all memory. */
export function isKeyed(t: Transfer, piece: Piece): boolean {
  if (piece.kind === 'arena') return true;
  if (piece.kind === 'dmabuf') return false;
  return t.means.wholeMemory || (piece.kind === 'foreign' && t.means.cached(piece.buffer));
}

export const allKeyed = (t: Transfer): boolean => t.pieces.every((piece) => isKeyed(t, piece));
export const allArena = (t: Transfer): boolean => t.pieces.every((piece) => piece.kind === 'arena');
export const splittable = (t: Transfer): boolean => t.op === 'write' || t.op === 'read';
export const oneMessage = (t: Transfer): boolean => t.total <= Math.min(t.limits.maxMessage, MAX_SGE_BYTES);
export const ownSink = (t: Transfer): boolean => t.op === 'read' && t.quirks.sinkNeedsOwnMr;
export const hasDmabuf = (t: Transfer): boolean => t.pieces.some((piece) => piece.kind === 'dmabuf');

export const copy: Treatment = () => Treat.COPY;
export const intoWr: Treatment = () => Treat.INLINE;
export const link: Treatment = () => Treat.LINK;
export const intoMkey: Treatment = () => Treat.MKEY;

/** How a keyed piece is reached; undefined for one that has no key. */
export function keyTreat(t: Transfer, piece: Piece): number | undefined {
  if (!isKeyed(t, piece)) return undefined;
  return piece.kind === 'arena' || t.means.wholeMemory ? Treat.KEY : Treat.CACHE;
}

export const byKey =
  (t: Transfer): Treatment =>
  (piece) =>
    keyTreat(t, piece) ?? Treat.KEY;
export const copyForeign =
  (t: Transfer): Treatment =>
  (piece) =>
    keyTreat(t, piece) ?? Treat.COPY;

/** Less than a page is copied: registering it would pin the page and cost a system call. */
export function registerTreat(piece: Piece): number {
  if (piece.kind === 'dmabuf') return Treat.DMABUF;
  return piece.kind === 'pool' || piece.length < PAGE_BYTES ? Treat.COPY : Treat.REGISTER;
}
export const registerForeign =
  (t: Transfer): Treatment =>
  (piece) =>
    keyTreat(t, piece) ?? registerTreat(piece);
export const cacheForeign =
  (t: Transfer): Treatment =>
  (piece) => {
    const treat = keyTreat(t, piece) ?? registerTreat(piece);
    return treat === Treat.REGISTER && t.means.reused(piece.buffer) ? Treat.CACHE : treat;
  };
/** A pool slice is copied even so, and its block registered. */
export const registerAll: Treatment = (piece) => {
  if (piece.kind === 'dmabuf') return Treat.DMABUF;
  return piece.kind === 'pool' ? Treat.COPY | Treat.REGISTER : Treat.REGISTER;
};
export const cacheAll: Treatment = (piece) =>
  piece.kind === 'foreign' ? Treat.CACHE : piece.kind === 'arena' ? Treat.KEY : registerTreat(piece);

/** What the keyed pieces are, in words. */
export function memoryOf(t: Transfer): string {
  if (allArena(t)) return 'arena memory';
  return t.means.wholeMemory ? 'memory under the key for all memory' : 'registered memory';
}

/** Bytes that have no key. */
export function foreignBytes(t: Transfer): number {
  return t.pieces.reduce((sum, piece) => (isKeyed(t, piece) ? sum : sum + piece.length), 0);
}

export function countWrs(t: Transfer, treat: Treatment): number {
  return layoutOf(t, stretchesOf(t, treat)).length;
}

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
  if (indirectExtents === 0) return 'this device has no indirect memory keys (SgeBuilderOptions.indirect)';
  if (t.pieces.length > indirectExtents)
    return `${t.pieces.length} pieces exceed the ${indirectExtents} extents of an indirect key`;
  return unkeyed(t) ?? unpostable(t, intoMkey);
}

export const linkable = (t: Transfer): boolean => t.pieces.length > 1 && unlinkable(t) === undefined;

/** Treatments under which neighbouring pieces become one stretch. */
export const JOINING = Treat.COPY | Treat.INLINE | Treat.LINK | Treat.MKEY;

/** Groups the pieces by treatment: neighbouring copies share a block, and so on; everything else stands alone. */
export function stretchesOf(t: Transfer, treat: Treatment): Stretch[] {
  const stretches: Stretch[] = [];
  let last: Stretch | undefined;
  for (const whole of t.pieces) {
    const how = treat(whole);
    for (const piece of (how & Treat.COPY) !== 0 ? blocksOf(whole) : [whole]) {
      const joins = last !== undefined && (how & JOINING) !== 0 && last.treat === how;
      if (joins && ((how & Treat.COPY) === 0 || last!.length + piece.length <= MAX_SLAB_BYTES)) {
        last!.pieces.push(piece);
        last!.length += piece.length;
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
        reached: false,
      };
      stretches.push(last);
    }
  }
  return stretches;
}

/** Cuts a piece that no block is large enough for. */
export function blocksOf(piece: Piece): Piece[] {
  if (piece.length <= MAX_SLAB_BYTES) return [piece];
  const parts: Piece[] = [];
  for (let at = 0; at < piece.length; at += MAX_SLAB_BYTES) {
    parts.push(piece.part(at, Math.min(MAX_SLAB_BYTES, piece.length - at)));
  }
  return parts;
}

export function layoutOf(t: Transfer, stretches: readonly Stretch[], spread = false): MappedWr[] {
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
