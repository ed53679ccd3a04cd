/** What both sides tell each other when they connect, as private data of rdma_cm (librdmacm docs/rsocket, rs_conn_data). */
import { protocolError } from './errors.ts';
import { SGE_BYTES } from './sge.ts';

/** Bytes of the connection data. */
export const CONN_DATA_BYTES = 40;

/** The only version there is. */
export const CONN_VERSION = 1;

/** Entries of a target SGL: this side's, and the least that a peer's must have. */
export const SGL_ENTRIES = 2;

/** More than any known peer has (2); what is beyond says that the data are not connection data. */
const MAX_SGL_ENTRIES = 1024;

const FLAG_BIG_ENDIAN = 1;
const FLAG_IOMAP = 2;
const KNOWN_FLAGS = FLAG_BIG_ENDIAN | FLAG_IOMAP;

/** Sizes of iomaps above this are written as multiples of 256. */
const MAX_EXACT_IOMAP = 128;

/** Memory of the peer. [length] is in bytes, or in entries for a target SGL. */
export interface RemoteMemoryRange {
  /** Virtual address, at most 2^53 - 1. */
  readonly addr: number;
  readonly key: number;
  readonly length: number;
}

/** The connection data of one side. */
export interface ConnData {
  /** The byte order of its memory, and so of what peers write there. */
  readonly bigEndian: boolean;
  /** Messages that it can take before it grants more, 1 … 65535. */
  readonly credits: number;
  /** Entries of the iomap that follows its target SGL; 0 when it has none. */
  readonly iomapEntries: number;
  /** Where the peer writes which receive buffers it has: [length] entries of 16 bytes. */
  readonly targetSgl: RemoteMemoryRange;
  /** Its first receive buffer. */
  readonly dataBuffer: RemoteMemoryRange;
}

/** Rounds down to a size that one byte can carry: 0 … 128, or a multiple of 256 up to 32512. */
export function iomapSize(entries: number): number {
  return entries <= MAX_EXACT_IOMAP ? entries : Math.min(entries >>> 8, 0x7f) << 8;
}

function iomapToScale(entries: number): number {
  return entries <= MAX_EXACT_IOMAP ? entries : 0x80 | (entries >>> 8);
}

function iomapFromScale(scale: number): number {
  return scale <= MAX_EXACT_IOMAP ? scale : (scale & 0x7f) << 8;
}

function putRange(view: DataView, offset: number, { addr, key, length }: RemoteMemoryRange): void {
  view.setBigUint64(offset, BigInt(addr));
  view.setUint32(offset + 8, key);
  view.setUint32(offset + 12, length);
}

/** The range at [offset]; its [bytes] must be addresses. */
function takeRange(view: DataView, offset: number, name: string, unit: number): RemoteMemoryRange {
  const wide = view.getBigUint64(offset);
  const addr = Number(wide);
  const length = view.getUint32(offset + 12);
  if (!Number.isSafeInteger(addr) || addr + length * unit > Number.MAX_SAFE_INTEGER) {
    throw protocolError(`connection data: ${name} at 0x${wide.toString(16)} is beyond all addresses`);
  }
  return { addr, key: view.getUint32(offset + 8), length };
}

/** The bytes of [data]; numbers are in network byte order, whatever the host's is. */
export function encodeConnData(data: ConnData): Uint8Array {
  const bytes = new Uint8Array(CONN_DATA_BYTES);
  const view = new DataView(bytes.buffer);
  bytes[0] = CONN_VERSION;
  bytes[1] = FLAG_IOMAP | (data.bigEndian ? FLAG_BIG_ENDIAN : 0);
  view.setUint16(2, data.credits);
  bytes[7] = iomapToScale(data.iomapEntries);
  putRange(view, 8, data.targetSgl);
  putRange(view, 24, data.dataBuffer);
  return bytes;
}

/**
 * What the peer says; bytes after the connection data are ignored, because transports add zeros.
 *
 * @throws RdmaError EPROTO unless they are connection data of a peer that this side can talk to
 */
export function parseConnData(bytes: Uint8Array): ConnData {
  if (bytes.length < CONN_DATA_BYTES) {
    throw protocolError(`connection data of ${bytes.length} bytes, instead of ${CONN_DATA_BYTES}`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, CONN_DATA_BYTES);
  const version = view.getUint8(0);
  const flags = view.getUint8(1);
  const credits = view.getUint16(2);
  if (version !== CONN_VERSION) throw protocolError(`version ${version}, instead of ${CONN_VERSION}`);
  if ((flags & ~KNOWN_FLAGS) !== 0) throw protocolError(`connection data: flags 0x${flags.toString(16)}`);
  if (credits === 0) throw protocolError('connection data: no credits, so nothing could ever be sent');
  const targetSgl = takeRange(view, 8, 'target SGL', SGE_BYTES);
  if (targetSgl.length < SGL_ENTRIES || targetSgl.length > MAX_SGL_ENTRIES) {
    throw protocolError(
      `connection data: a target SGL of ${targetSgl.length} entries, not ${SGL_ENTRIES} to ${MAX_SGL_ENTRIES}`,
    );
  }
  const dataBuffer = takeRange(view, 24, 'receive buffer', 1);
  if (dataBuffer.length === 0) throw protocolError('connection data: a receive buffer of 0 bytes');
  const iomapEntries = (flags & FLAG_IOMAP) === 0 ? 0 : iomapFromScale(view.getUint8(7));
  return { bigEndian: (flags & FLAG_BIG_ENDIAN) !== 0, credits, iomapEntries, targetSgl, dataBuffer };
}
