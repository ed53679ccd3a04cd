// From stretches of keyed memory to the vectors of a batch.

import type { Extent } from './layout.ts';

/** A mapped stretch: what the device is given. Never the same object as a fragment. */
export interface DmaVec {
  readonly addr: number;
  /** Bytes. */
  readonly length: number;
  readonly lkey: number;
}

/** Vectors of at most [maxSeg] bytes; neighbours under one key joined. @internal */
export function vectorsOf(extents: readonly Extent[], maxSeg: number): DmaVec[] {
  const vecs: { addr: number; length: number; lkey: number }[] = [];
  for (const { addr, length, lkey } of extents) {
    const last = vecs[vecs.length - 1];
    if (last?.lkey === lkey && last.addr + last.length === addr && last.length + length <= maxSeg) {
      last.length += length;
      continue;
    }
    for (let at = 0; at < length; at += maxSeg) {
      vecs.push({ addr: addr + at, length: Math.min(maxSeg, length - at), lkey });
    }
  }
  return vecs;
}
