// The DMA layer: any memory and an operation in, work requests and what undoes them out.

export {
  Arena,
  ArenaBuffer,
  type ArenaOptions,
  type ArenaStats,
  DEFAULT_SLAB_BYTES,
  MAX_SLAB_BYTES,
} from './arena.ts';
export {
  type BatchDirection,
  type BatchLimits,
  type BatchMode,
  type BatchState,
  DmaBatch,
  unmapBatch,
} from './batch.ts';
export { type DmaCounters, dmaCounters, type StrategyCount } from './counters.ts';
export { Exposure, type RemoteDescriptor } from './expose.ts';
export { DmabufFragment, type Fragment, type Fragments } from './fragments.ts';
export type { IndirectMkeys } from './indirect.ts';
export type { MappedWr } from './layout.ts';
export { type LocalKeyKind, openLocalKey } from './local-key.ts';
export type { Mapping, Plan } from './mapping.ts';
export { DEFAULT_PIN_BUDGET, MrCache, type MrCacheOptions, type MrCacheStats } from './mr-cache.ts';
export { type DmaOps, dmaOpsOf } from './ops.ts';
export {
  type MapOptions,
  SgeBuilder,
  type SgeBuilderOptions,
} from './sge-builder.ts';
export { defaultThresholds } from './thresholds.ts';
export type { ForceStrategy, Limits, Strategy, Thresholds } from './transfer.ts';
export type { DmaOp } from './types.ts';
export type { DmaVec } from './vectors.ts';
