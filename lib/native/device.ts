/** What the addon exports for devices. Handles are 31-bit numbers that name native objects of this thread. */

/** @internal */
export interface DeviceAddon {
  listDevices(): { name: string; guid: bigint; transport: string }[];
  openDevice(name: string, onEvent: (type: number, port: number, object: number) => void): number;
  queryDevice(device: number): {
    name: string;
    provider: string;
    transport: string;
    attr: Record<string, unknown>;
    attrEx: Record<string, unknown>;
  };
  queryPort(device: number, port: number): Record<string, number>;
  queryGids(device: number): NativeGid[];
  queryGid(device: number, port: number, index: number): NativeGid | undefined;
  queryPkey(device: number, port: number, index: number): number;
  queryRawClock(device: number): bigint;
  deviceOpcodes(device: number, qpType: number): number;
  probeDevice(device: number, what: string, qpType: number): number;
  allocPd(device: number): number;
  deviceQuirks(device: number): { name: string; reason: string; source: string }[];
}

/** An entry of a GID table. @internal */
export interface NativeGid {
  readonly port: number;
  readonly index: number;
  readonly gid: Uint8Array;
  readonly type: number;
  readonly netdev: string;
}
