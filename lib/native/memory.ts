/** What the addon exports for memory. Handles are 31-bit numbers that name native objects of this thread. */

/** @internal */
export interface MemoryAddon {
  /** [iova] undefined: the memory's own address. */
  regMr(
    pd: number,
    view: Uint8Array,
    access: number,
    iova: number | undefined,
    wholePages: boolean,
  ): Promise<NativeRegion>;
  regMrSync(
    pd: number,
    view: Uint8Array,
    access: number,
    iova: number | undefined,
    wholePages: boolean,
  ): NativeRegion;
  regMrFromAddress(
    pd: number,
    address: number,
    length: number,
    access: number,
    iova: number,
    wholePages: boolean,
    keep: object | undefined,
  ): Promise<NativeRegion>;
  regDmabufMr(
    pd: number,
    fd: number,
    offset: number,
    length: number,
    iova: number,
    access: number,
  ): Promise<NativeRegion>;
  regImplicitOdp(pd: number, access: number): Promise<NativeRegion>;
  allocNullMr(pd: number): NativeRegion;
  allocSlab(
    pd: number,
    length: number,
    access: number,
    hugePages: boolean,
    wholePages: boolean,
  ): Promise<NativeRegion & { buffer: ArrayBuffer }>;
  /** Leaves alone what is undefined, and the protection domain when [pd] is 0. */
  reregMr(
    mr: number,
    pd: number,
    view: Uint8Array | undefined,
    access: number | undefined,
  ): Promise<NativeRereg>;
  /** [ranges] is lkey, address, length for each. */
  adviseMr(pd: number, advice: number, flags: number, ranges: number[]): Promise<void>;
  whenMrGone(mr: number): Promise<void>;
  /** Closes regions by their handles: [handles of all that has gone, promise for the end of the registrations]. */
  closeRegions(handles: Uint32Array): [number[], Promise<void>];
  addressOf(view: Uint8Array): number;
  /** enum ibv_fork_status */
  forkStatus(): number;
}

/** @internal */
export interface NativeRegion {
  handle: number;
  addr: number;
  length: number;
  lkey: number;
  rkey: number;
}

/** What ibv_rereg_mr(3) has done. @internal */
export interface NativeRereg {
  /** Negative; 0 for success. */
  errno: number;
  detail: string;
  valid: boolean;
  /** The changed region. */
  region: NativeRegion | undefined;
}
