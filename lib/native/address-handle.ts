/** What the addon exports for address handles. Handles are 31-bit numbers that name native objects of this thread. */

/** @internal */
export interface AddressHandleAddon {
  createAh(pd: number, attr: NativeAhAttr): NativeAh;
  createAhFromWc(
    pd: number,
    port: number,
    wcFlags: number,
    srcQp: number,
    slid: number,
    sl: number,
    dlidPathBits: number,
    grh: Uint8Array,
  ): NativeAh;
  openXrcd(device: number, fd: number, oflags: number): number;
}

/** @internal */
export interface NativeAh {
  handle: number;
  attr: NativeAhAttr;
}

/** @internal */
export interface NativeAhAttr {
  dlid: number;
  sl: number;
  srcPathBits: number;
  staticRate: number;
  port: number;
  grh?: { dgid: string; sgidIndex: number; hopLimit: number; flowLabel: number; trafficClass: number };
}
