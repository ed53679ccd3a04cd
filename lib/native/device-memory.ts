/** What the addon exports for device memory and thread domains. */
import type { NativeRegion } from './memory.ts';

/** @internal */
export interface DeviceMemoryAddon {
  allocDm(device: number, length: number, logAlign: number): number;
  memcpyToDm(dm: number, offset: number, view: Uint8Array): void;
  memcpyFromDm(view: Uint8Array, dm: number, offset: number): void;
  regDmMr(pd: number, dm: number, offset: number, length: number, access: number): NativeRegion;
  allocTd(device: number): number;
  /** [td] 0: without one. */
  allocParentDomain(pd: number, td: number): number;
}
