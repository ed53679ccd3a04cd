// From pieces to stretches of keyed memory, and from these to work requests.

import { MAX_SLAB_BYTES } from './arena.ts';
import type { Piece } from './fragments.ts';
import { layout, type MappedWr } from './layout.ts';
import { sgeLimit } from './questions.ts';
import { type Stretch, type Transfer, Treat, type Treatment } from './transfer.ts';

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
  return layout(stretches, {
    op: t.op,
    maxSges: sgeLimit(t),
    spread,
    maxBytes: t.limits.maxMessage,
    quirks: t.quirks,
    remoteAddr: t.remoteAddr,
  });
}

/** Work requests that [treat] would make of [t]. */
export function countWrs(t: Transfer, treat: Treatment): number {
  return layoutOf(t, stretchesOf(t, treat)).length;
}
