/** node-rdma: RDMA verbs for Node.js. */
export { liveObjects } from './addon.ts';
export * from './cm/cm-id.ts';
export { RdmaError, type RdmaErrorDetails, WcStatus, wcError, wcStatusName } from './errors.ts';
export type { CompletionRing } from './ring/completion-ring.ts';
export type { OnRetired } from './ring/work-ring.ts';
export type { CompletionQueue, CqOptions } from './verbs/completion-queue.ts';
export { Access, Opcode, type PortState, type QpState, SendFlags, WcOpcode } from './verbs/constants.ts';
export {
  type Device,
  type DeviceAttr,
  type DeviceInfo,
  listDevices,
  openDevice,
  type PortAttr,
  type Transport,
} from './verbs/device.ts';
export { addressOf, type MemoryRegion, type MemorySlab } from './verbs/memory-region.ts';
export type { ProtectionDomain } from './verbs/protection-domain.ts';
export type { QueuePair, QueuePairCaps, RecvWr, SendWr, Sge, WorkCompletion } from './verbs/queue-pair.ts';
