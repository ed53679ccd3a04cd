/** What the addon exports for memory windows. */

/** @internal */
export interface MemoryWindowAddon {
  allocMw(pd: number, type: 1 | 2): number;
  mwRkey(mw: number): number;
  mwBinding(mw: number): NativeBinding | undefined;
}

/** @internal */
export interface NativeBinding {
  addr: bigint;
  length: bigint;
  access: number;
  lkey: number;
  confirmed: boolean;
}
