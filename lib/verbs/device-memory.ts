import { addon } from '../addon.ts';
import { invalidArgument } from '../errors.ts';
import { checkAccess } from './access.ts';
import { bytesOf, checkInteger } from './check.ts';
import type { Device } from './device.ts';
import { MemoryRegion } from './memory-region.ts';
import { Owned } from './owned.ts';
import type { ProtectionDomain } from './protection-domain.ts';

/** Options of {@link Device.allocDm}. */
export interface DmOptions {
  /** The memory begins at a multiple of 2^logAlign, as atomic operations on it may need: 0 … 31. Default: 0 */
  readonly logAlign?: number;
}

/** The part of device memory that {@link ProtectionDomain.regDmMr} registers; by default all of it. */
export interface DmRange {
  /** First byte. Default: 0 */
  readonly offset?: number;
  /** Bytes. Default: up to the end */
  readonly length?: number;
}

/**
 * Memory of the device itself (ibv_alloc_dm(3)); made by {@link Device.allocDm}. Work requests use it through a region of
 * {@link ProtectionDomain.regDmMr}. Closing it closes its regions.
 */
export class DeviceMemory extends Owned {
  readonly device: Device;
  /** Bytes. */
  readonly length: number;

  /** @internal */
  constructor(device: Device, length: number, options: DmOptions = {}) {
    const { logAlign = 0 } = options;
    checkInteger('length', length, 1, Number.MAX_SAFE_INTEGER);
    checkInteger('logAlign', logAlign, 0, 31);
    super('device memory', addon.allocDm(device._handle, length, logAlign));
    this.device = device;
    this.length = length;
  }

  /**
   * Copies `source` to the device memory at `dmOffset` (ibv_memcpy_to_dm(3)). Some devices want offset and length to be
   * multiples of 4 bytes.
   *
   * @throws RdmaError ERR_OUT_OF_RANGE beyond the end; what the device says
   */
  memcpyTo(dmOffset: number, source: ArrayBufferView | ArrayBufferLike): void {
    const bytes = bytesOf('source', source);
    this.#checkCopy(dmOffset, bytes.length);
    addon.memcpyToDm(this._handle, dmOffset, bytes);
  }

  /** Fills `target` from the device memory at `dmOffset` (ibv_memcpy_from_dm(3)). @throws RdmaError as {@link memcpyTo} */
  memcpyFrom(target: ArrayBufferView | ArrayBufferLike, dmOffset: number): void {
    const bytes = bytesOf('target', target);
    this.#checkCopy(dmOffset, bytes.length);
    addon.memcpyFromDm(bytes, this._handle, dmOffset);
  }

  #checkCopy(dmOffset: number, bytes: number): void {
    checkInteger('dmOffset', dmOffset, 0, this.length);
    if (bytes <= this.length - dmOffset) return;
    throw invalidArgument(
      'ERR_OUT_OF_RANGE',
      `${bytes} bytes at dmOffset ${dmOffset} end beyond the ${this.length} bytes of the device memory`,
    );
  }
}

/** @internal */
export function regDmMr(
  pd: ProtectionDomain,
  dm: DeviceMemory,
  access: number,
  range: DmRange,
): MemoryRegion {
  if (!(dm instanceof DeviceMemory)) {
    throw invalidArgument('ERR_INVALID_ARG_TYPE', 'dm must be a DeviceMemory, made by device.allocDm()');
  }
  checkAccess(access, 'deviceMemory');
  const { offset = 0, length = dm.length - offset } = range;
  checkInteger('offset', offset, 0, dm.length - 1);
  checkInteger('length', length, 1, dm.length - offset);
  return new MemoryRegion(pd, addon.regDmMr(pd._handle, dm._handle, offset, length, access), access);
}
