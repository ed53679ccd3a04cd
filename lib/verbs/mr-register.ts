/** Registrations: their arguments, checked. The methods are those of ProtectionDomain. */
import { addon, type NativeRegion } from '../addon.ts';
import { invalidArgument } from '../errors.ts';
import { checkAccess } from './access.ts';
import { checkInteger, checkMemory } from './check.ts';
import { Access } from './constants.ts';
import { MemoryRegion } from './memory-region.ts';
import type { ProtectionDomain } from './protection-domain.ts';

/** Below this, a registration is made on the event loop: a trip to the thread pool costs more. */
const SYNC_BYTES = 64 * 1024;

/** The kernel wants memory and iova at the same offset in their pages (uverbs_cmd.c ib_uverbs_reg_mr). */
const PAGE = 4096;

/** How memory with ON_DEMAND access will be used. */
export interface OnDemandOptions {
  /**
   * A promise that every access to the ON_DEMAND region, local and of peers, will begin with a page. rxe needs it: it takes
   * every address in an on-demand page for its first (quirk on-demand-offset of `device.quirks`). Default: false
   */
  readonly wholePages?: boolean;
}

/** How a region is addressed. */
export interface MrOptions extends OnDemandOptions {
  /**
   * Address of the region's first byte in work requests, instead of the memory's own: 0 … 2^53 - 1, with the memory's
   * offset in its page (ibv_reg_mr_iova(3)). Pages of {@link ProtectionDomain.allocSlab} have offset 0; an ArrayBuffer of
   * V8 seldom.
   */
  readonly iova?: number | bigint;
}

/** Memory that is not JavaScript's, for {@link ProtectionDomain.regMrFromAddress}. */
export interface AddressRange extends MrOptions {
  /** Of this process. */
  readonly address: number | bigint;
  /** Bytes. */
  readonly length: number | bigint;
  /** Flags of {@link Access}. */
  readonly access: number;
  /** Held until the region has gone: whatever keeps the memory mapped. */
  readonly keep?: object;
}

/** A part of a dma-buf, for {@link ProtectionDomain.regDmabufMr}. */
export interface DmabufRange {
  /** File descriptor of the dma-buf; it may be closed when the region has been made. */
  readonly fd: number;
  /** First byte of the dma-buf. Default: 0 */
  readonly offset?: number | bigint;
  /** Bytes. */
  readonly length: number | bigint;
  /** Address of the first byte in work requests, at the page offset of `offset`. Default: `offset` */
  readonly iova?: number | bigint;
  /** Of LOCAL_WRITE, REMOTE_READ, REMOTE_WRITE, REMOTE_ATOMIC and RELAXED_ORDERING. */
  readonly access: number;
}

/** An integer that may be a bigint, as the number it is. */
function wholeNumber(name: string, value: unknown, min: number): number {
  const number = typeof value === 'bigint' ? Number(value) : value;
  checkInteger(name, number, min, Number.MAX_SAFE_INTEGER);
  return number;
}

function checkEnd(name: string, start: number, length: number): void {
  if (start + length > Number.MAX_SAFE_INTEGER) {
    throw invalidArgument(
      'ERR_OUT_OF_RANGE',
      `${name} 0x${start.toString(16)}: ${length} bytes end beyond 2^53 - 1`,
    );
  }
}

function checkPageOffset(iova: number, what: string, start: number): void {
  if (iova % PAGE === start % PAGE) return;
  throw invalidArgument(
    'ERR_INVALID_ARG_VALUE',
    `iova 0x${iova.toString(16)} has offset ${iova % PAGE} in its page, ${what} 0x${start.toString(16)} has ` +
      `${start % PAGE}: they must be the same${what === 'memory at' ? '; pd.allocSlab() gives pages' : ''}`,
  );
}

/** The iova that [options] and ZERO_BASED ask for; undefined for the memory's own address. */
function iovaOf(options: MrOptions, access: number, start: number, length: number): number | undefined {
  const zero = (access & Access.ZERO_BASED) !== 0;
  if (options.iova === undefined && !zero) return undefined;
  const iova = wholeNumber('iova', options.iova ?? 0, 0);
  if (zero && iova !== 0) {
    throw invalidArgument(
      'ERR_INVALID_ARG_VALUE',
      `iova 0x${iova.toString(16)} with ZERO_BASED, which is iova 0: leave one out`,
    );
  }
  checkEnd('iova', iova, length);
  checkPageOffset(iova, 'memory at', start);
  return iova;
}

/** The provider is not told of ZERO_BASED: some drop it, and an iova of 0 is the same (ibv_reg_mr(3)). */
const nativeAccess = (access: number): number => access & ~Access.ZERO_BASED;

interface Checked {
  readonly bytes: Uint8Array;
  readonly iova: number | undefined;
  readonly wholePages: boolean;
}

function checkView(memory: unknown, access: unknown, options: MrOptions): Checked {
  checkAccess(access);
  const bytes = checkMemory(memory);
  const addressed = options.iova !== undefined || (access & Access.ZERO_BASED) !== 0;
  const iova = addressed ? iovaOf(options, access, addon.addressOf(bytes), bytes.length) : undefined;
  return { bytes, iova, wholePages: options.wholePages === true };
}

/** @internal */
export function regMrSync(
  pd: ProtectionDomain,
  memory: ArrayBufferView | ArrayBufferLike,
  access: number,
  options: MrOptions,
): MemoryRegion {
  const { bytes, iova, wholePages } = checkView(memory, access, options);
  return new MemoryRegion(
    pd,
    addon.regMrSync(pd._handle, bytes, nativeAccess(access), iova, wholePages),
    access,
  );
}

/** @internal */
export function regMr(
  pd: ProtectionDomain,
  memory: ArrayBufferView | ArrayBufferLike,
  access: number,
  options: MrOptions,
): Promise<MemoryRegion> {
  const { bytes, iova, wholePages } = checkView(memory, access, options);
  const handle = pd._handle;
  return register(pd, access, () =>
    bytes.length <= SYNC_BYTES
      ? addon.regMrSync(handle, bytes, nativeAccess(access), iova, wholePages)
      : addon.regMr(handle, bytes, nativeAccess(access), iova, wholePages),
  );
}

/** What the device refuses is a rejection; what is wrong with the arguments has been thrown before. */
async function register(
  pd: ProtectionDomain,
  access: number,
  call: () => NativeRegion | Promise<NativeRegion>,
): Promise<MemoryRegion> {
  return new MemoryRegion(pd, await call(), access);
}

/** @internal */
export function regMrFromAddress(pd: ProtectionDomain, range: AddressRange): Promise<MemoryRegion> {
  const { access, keep } = range;
  checkAccess(access);
  const address = wholeNumber('address', range.address, 1);
  const length = wholeNumber('length', range.length, 1);
  checkEnd('address', address, length);
  const iova = iovaOf(range, access, address, length) ?? address;
  if (keep !== undefined && (typeof keep !== 'object' || keep === null)) {
    throw invalidArgument('ERR_INVALID_ARG_TYPE', 'keep must be an object');
  }
  const handle = pd._handle;
  return register(pd, access, () =>
    addon.regMrFromAddress(
      handle,
      address,
      length,
      nativeAccess(access),
      iova,
      range.wholePages === true,
      keep,
    ),
  );
}

/** @internal */
export function regDmabufMr(pd: ProtectionDomain, range: DmabufRange): Promise<MemoryRegion> {
  const { fd, access } = range;
  checkInteger('fd', fd, 0, 0x7fff_ffff);
  checkAccess(access, 'dmabuf');
  const offset = wholeNumber('offset', range.offset ?? 0, 0);
  const length = wholeNumber('length', range.length, 1);
  const iova = wholeNumber('iova', range.iova ?? offset, 0);
  checkEnd('offset', offset, length);
  checkEnd('iova', iova, length);
  checkPageOffset(iova, 'offset', offset);
  const handle = pd._handle;
  return register(pd, access, () => addon.regDmabufMr(handle, fd, offset, length, iova, access));
}

/** @internal */
export function regImplicitOdp(pd: ProtectionDomain, access: number): Promise<MemoryRegion> {
  checkAccess(access, 'implicit');
  const handle = pd._handle;
  return register(pd, access | Access.ON_DEMAND, () => addon.regImplicitOdp(handle, access));
}
