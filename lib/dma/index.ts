// The DMA layer: any memory and an operation in, work requests and what undoes them out.

export {
  Arena,
  ArenaBuffer,
  type ArenaOptions,
  type ArenaStats,
  DEFAULT_SLAB_BYTES,
  MAX_SLAB_BYTES,
} from './arena.ts';
export { type DmaCounters, dmaCounters, type StrategyCount } from './counters.ts';
export type { Fragment, Fragments } from './fragments.ts';
export type { MappedWr } from './layout.ts';
export type { Mapping, Plan } from './mapping.ts';
export {
  DEFAULT_BOUNCE_MAX,
  DEFAULT_CHAIN_MAX,
  type MapOptions,
  SgeBuilder,
  type SgeBuilderOptions,
} from './sge-builder.ts';
export type { ForceStrategy, Limits, Strategy, Thresholds } from './transfer.ts';
export type { DmaOp } from './types.ts';
