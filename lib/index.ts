/** node-rdma: RDMA verbs for Node.js. */
export { liveObjects } from './addon.ts';
export * from './cm/index.ts';
export * from './dma/index.ts';
export { RdmaError, type RdmaErrorDetails, WcStatus, wcError, wcStatusName } from './errors.ts';
export type { CompletionRing } from './ring/completion-ring.ts';
export type { OnRetired } from './ring/work-ring.ts';
export * from './rw/index.ts';
export * from './verbs/index.ts';
