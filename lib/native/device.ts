/** What the addon exports for devices. Handles are 31-bit numbers that name native objects of this thread. */

/** @internal */
export interface DeviceAddon {
  listDevices(): { name: string; guid: bigint; transport: string }[];
  openDevice(name: string, onEvent: (type: number, port: number, object: number) => void): number;
  queryDevice(device: number): Record<string, string | number>;
  queryPort(device: number, port: number): Record<string, number>;
  allocPd(device: number): number;
  deviceQuirks(device: number): { name: string; reason: string; source: string }[];
}
