/** What the binary exports, one file per noun. */
import type { layout } from '../layout.ts';
import type { AddressHandleAddon } from './address-handle.ts';
import type { AddressWindowAddon } from './address-window.ts';
import type { ChunkAddon } from './chunk.ts';
import type { CmAddon } from './cm.ts';
import type { CompletionQueueAddon } from './completion-queue.ts';
import type { DeviceAddon } from './device.ts';
import type { DeviceMemoryAddon } from './device-memory.ts';
import type { MemoryAddon } from './memory.ts';
import type { MemoryWindowAddon } from './memory-window.ts';
import type { QueuePairAddon } from './queue-pair.ts';
import type { SharedReceiveQueueAddon } from './shared-receive-queue.ts';

/** @internal */
export interface Addon
  extends AddressHandleAddon,
    DeviceAddon,
    MemoryAddon,
    DeviceMemoryAddon,
    AddressWindowAddon,
    ChunkAddon,
    MemoryWindowAddon,
    CompletionQueueAddon,
    QueuePairAddon,
    SharedReceiveQueueAddon,
    CmAddon {
  readonly layout: typeof layout;
  initialise(
    makeError: (syscall: string, errno: number, detail: string) => Error,
    postStatus: Uint32Array,
  ): void;
  close(handle: number): number[];
  liveObjects(): number;
}

export type { NativeAh, NativeAhAttr } from './address-handle.ts';
export type {
  NativeAddress,
  NativeAddrInfo,
  NativeConnParam,
  NativeHost,
  NativeIdDescription,
} from './cm.ts';
export type { NativeGid } from './device.ts';
export type { NativeRegion } from './memory.ts';
export type { NativeBinding } from './memory-window.ts';
export type { NativeQpAttr, NativeQpQuery, NativeQpSpec, NativeQueueLimits } from './queue-pair.ts';
