// What can be asked of a transfer.

import type { Piece } from './fragments.ts';
import { MAX_SGE_BYTES } from './layout.ts';
import type { Transfer } from './transfer.ts';

/** Most SGEs of one work request. */
export function sgeLimit(t: Pick<Transfer, 'op' | 'limits' | 'quirks'>): number {
  const { maxSendSge, maxRecvSge, maxReadSge, readSgeSoftLimit = maxReadSge } = t.limits;
  if (t.op === 'recv') return maxRecvSge;
  if (t.op === 'atomic') return 1;
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

/** What the keyed pieces are, in words. */
export function memoryOf(t: Transfer): string {
  if (allArena(t)) return 'arena memory';
  return t.means.wholeMemory ? 'memory under the key for all memory' : 'registered memory';
}

/** Bytes that have no key. */
export function foreignBytes(t: Transfer): number {
  return t.pieces.reduce((sum, piece) => (isKeyed(t, piece) ? sum : sum + piece.length), 0);
}
