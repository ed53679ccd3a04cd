/** Verbs, one file per noun of the manual pages. */

export { AddressHandle, type DatagramOrigin } from './address-handle.ts';
export { AddressWindow, type WindowLink } from './address-window.ts';
export type { AhAttr, AhAttrInfo, GlobalRoute } from './ah-attr.ts';
export {
  type AsyncEvent,
  AsyncEventTarget,
  type AsyncEventType,
  type CompletionQueueEvent,
  type DeviceEvent,
  type PortEvent,
  type QueuePairEvent,
  type SharedReceiveQueueEvent,
} from './async-event.ts';
export type { RecvBatch, SendBatch } from './batch.ts';
export { CompletionChannel } from './completion-channel.ts';
export { CompletionQueue, type CqOptions } from './completion-queue.ts';
export {
  Access,
  FlushLevel,
  FlushType,
  Opcode,
  type PortState,
  type QpState,
  SendFlags,
  WcFlags,
  WcOpcode,
} from './constants.ts';
export { Device, type DeviceInfo, listDevices, openDevice, type Transport } from './device.ts';
export {
  type AtomicCap,
  type DeviceAttr,
  type DeviceAttrEx,
  DeviceCapFlags,
  formatGuid,
  type OdpCaps,
} from './device-attr.ts';
export {
  DeviceCaps,
  type MemoryWindowTypes,
  type OdpCapability,
  type OdpOperations,
} from './device-caps.ts';
export type { Counters, PortCounters } from './device-counters.ts';
export { DeviceMemory, type DmOptions, type DmRange } from './device-memory.ts';
export { type ForkStatus, forkStatus } from './fork.ts';
export { formatGid, type Gid } from './gid.ts';
export { addressOf, MemoryRegion, MemorySlab, type MrChange } from './memory-region.ts';
export { incRkey, MemoryWindow, type MwBinding } from './memory-window.ts';
export { Advice, type AdviseOptions, type AdviseRange } from './mr-advise.ts';
export type { AddressRange, DmabufRange, MrOptions, OnDemandOptions } from './mr-register.ts';
export {
  type GidEntry,
  type GidType,
  type LinkLayer,
  type LinkSpeed,
  type PhysState,
  type PortAttr,
  PortCapFlags,
} from './port.ts';
export { ProtectionDomain } from './protection-domain.ts';
export type { PathMigState, QpAttr } from './qp-attr.ts';
export type { Ece, QueuePairControl } from './qp-control.ts';
export { QpCreateFlags, type QpOptions, type QpType } from './qp-create.ts';
export type { QpInfo } from './qp-query.ts';
export type { QpTargetState } from './qp-state.ts';
export { QueuePair, type QueuePairCaps } from './queue-pair.ts';
export type { Quirk } from './quirks.ts';
export {
  type OnReceived,
  SharedReceiveQueue,
  type SrqAttr,
  type SrqOptions,
} from './shared-receive-queue.ts';
export { ThreadDomain } from './thread-domain.ts';
export type { WorkCompletion } from './work-completion.ts';
export type {
  AtomicCmpAndSwp,
  AtomicFetchAndAdd,
  AtomicWrite,
  BindMw,
  DatagramTarget,
  Flush,
  LocalInv,
  MwBindInfo,
  Payload,
  RdmaRead,
  RdmaWrite,
  RdmaWriteWithImm,
  RecvWr,
  RemoteRange,
  SendMessage,
  SendMessageWithImm,
  SendMessageWithInv,
  SendWr,
  Sge,
  XrcTarget,
} from './work-request.ts';
export { XrcDomain, type XrcDomainOptions } from './xrc-domain.ts';
