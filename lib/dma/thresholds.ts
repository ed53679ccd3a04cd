// Where one way to reach memory becomes cheaper than another, for each kind of device.

import type { DmaOps } from './ops.ts';
import type { Thresholds } from './transfer.ts';

/**
 * What holds for devices that move bytes themselves: a copy takes the processor's time, which the device would not have,
 * so it is for what a registration certainly costs more than.
 */
const card: Thresholds = { bounceMax: 64 * 1024, keepMin: 64 * 1024, chainMax: 2, inlineMax: 2 ** 31 - 1 };

/**
 * The defaults of {@link SgeBuilderOptions}, by {@link DmaOps.kind}. Those of `soft` are measured on rxe and siw
 * (`bench/dma-thresholds.ts`; figures in docs/dma.md): these drivers copy with the processor anyway, so that one copy more
 * costs less than a registration, and less than a second work request.
 */
export const defaultThresholds: Readonly<Record<DmaOps['kind'], Thresholds>> = {
  soft: { ...card, bounceMax: 1024 * 1024, chainMax: 1 },
  pinned: card,
  odp: card,
  fake: card,
};

/**
 * Arena memory of more bytes than this goes out as a chain rather than be copied together: up to here a work request saved is
 * worth the copy.
 */
export const GATHER_MAX = 64 * 1024;
