/** What the addon exports for memory. Handles are 31-bit numbers that name native objects of this thread. */

/** @internal */
export interface MemoryAddon {
  regMr(pd: number, view: Uint8Array, access: number): Promise<NativeRegion>;
  regMrSync(pd: number, view: Uint8Array, access: number): NativeRegion;
  allocSlab(
    pd: number,
    length: number,
    access: number,
    hugePages: boolean,
  ): Promise<NativeRegion & { buffer: ArrayBuffer }>;
  closeMr(handle: number): Promise<void>;
  addressOf(view: Uint8Array): number;
}

/** @internal */
export interface NativeRegion {
  handle: number;
  addr: number;
  length: number;
  lkey: number;
  rkey: number;
}
