/** Entries of target SGLs and iomaps: what one side writes into the other's memory (struct rs_sge, struct rs_iomap). */
import { protocolError } from './errors.ts';

/** Bytes of an entry of a target SGL: address (8), key (4), length (4). */
export const SGE_BYTES = 16;

/** Bytes of an entry of an iomap: offset (8), then as in a target SGL. */
export const IOMAP_BYTES = 24;

const TWO_32 = 0x1_0000_0000;

/** An entry, to be filled again and again. */
export interface SgeFields {
  addr: number;
  key: number;
  length: number;
}

/** Writes an entry in the byte order of the memory that it is for. */
export function putSge(
  view: DataView,
  offset: number,
  littleEndian: boolean,
  addr: number,
  key: number,
  length: number,
): void {
  putAddr(view, offset, littleEndian, addr);
  view.setUint32(offset + 8, key, littleEndian);
  view.setUint32(offset + 12, length, littleEndian);
}

/** Writes an entry of an iomap. */
export function putIomap(
  view: DataView,
  offset: number,
  littleEndian: boolean,
  start: number,
  addr: number,
  key: number,
  length: number,
): void {
  putAddr(view, offset, littleEndian, start);
  putSge(view, offset + 8, littleEndian, addr, key, length);
}

/** Length of the entry at [offset]: 0 says that there is none. */
export function sgeLength(view: DataView, offset: number, littleEndian: boolean): number {
  return view.getUint32(offset + 12, littleEndian);
}

/**
 * Copies the entry at [offset], which the peer has written, into [entry].
 *
 * @throws RdmaError EPROTO when it is beyond all addresses
 */
export function takeSge(view: DataView, offset: number, littleEndian: boolean, entry: SgeFields): void {
  const addr = takeAddr(view, offset, littleEndian);
  const length = sgeLength(view, offset, littleEndian);
  if (addr + length > Number.MAX_SAFE_INTEGER) {
    throw protocolError(
      `a receive buffer of ${length} bytes at 0x${addr.toString(16)} is beyond all addresses`,
    );
  }
  entry.addr = addr;
  entry.key = view.getUint32(offset + 8, littleEndian);
  entry.length = length;
}

/** The 64-bit number at [offset]; above 2^53 it is not exact, and of no use. */
export function takeAddr(view: DataView, offset: number, littleEndian: boolean): number {
  const low = view.getUint32(offset + (littleEndian ? 0 : 4), littleEndian);
  const high = view.getUint32(offset + (littleEndian ? 4 : 0), littleEndian);
  return high * TWO_32 + low;
}

function putAddr(view: DataView, offset: number, littleEndian: boolean, addr: number): void {
  view.setUint32(offset + (littleEndian ? 0 : 4), addr >>> 0, littleEndian);
  view.setUint32(offset + (littleEndian ? 4 : 0), (addr / TWO_32) >>> 0, littleEndian);
}
