// The ways in which the pieces of a transfer can be reached.

import type { Piece } from './fragments.ts';
import { isKeyed } from './questions.ts';
import { PAGE_BYTES } from './quirks.ts';
import { type Transfer, Treat, type Treatment } from './transfer.ts';

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
    keyTreat(t, piece)!;
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
