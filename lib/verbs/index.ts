/** Verbs, one file per noun of the manual pages. */

export { AddressHandle, type DatagramOrigin } from './address-handle.ts';
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
export { CompletionQueue, type CqOptions } from './completion-queue.ts';
export { Access, Opcode, type PortState, type QpState, SendFlags, WcOpcode } from './constants.ts';
export {
  Device,
  type DeviceAttr,
  type DeviceInfo,
  listDevices,
  openDevice,
  type PortAttr,
  type Transport,
} from './device.ts';
export type { Gid } from './gid.ts';
export { addressOf, MemoryRegion, MemorySlab } from './memory-region.ts';
export { incRkey, MemoryWindow, type MwBinding } from './memory-window.ts';
export { ProtectionDomain } from './protection-domain.ts';
export { QpCreateFlags, type QpOptions, type QpType } from './qp-create.ts';
export { QueuePair, type QueuePairCaps } from './queue-pair.ts';
export type { Quirk } from './quirks.ts';
export type { WorkCompletion } from './work-completion.ts';
export type { RecvWr, SendWr, Sge } from './work-request.ts';
