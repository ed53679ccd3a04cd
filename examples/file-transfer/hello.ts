/**
 * What the two ends agree on before the first message, in the private data of the connection request, of its
 * acceptance, or of its refusal. The transport may pad private data, so each carries its own length.
 */
import { MAGIC, MAX_CHUNK_BYTES, MAX_DEPTH, ProtocolError, TransferError, VERSION } from './protocol.ts';

/** The limits of one end: what it proposes, or what both agreed on. */
export interface Limits {
  /** Largest chunk in bytes. */
  chunkBytes: number;
  /** Most chunks in flight. */
  depth: number;
}

const HELLO_BYTES = 16;
const REFUSAL_HEADER_BYTES = 12;
/** A rejection carries 148 bytes of private data on InfiniBand. */
const REFUSAL_MAX_BYTES = 148;
const HELLO = 1;
const REFUSAL = 2;

/** Throws RangeError unless the limits are within what the protocol allows. */
export function checkLimits({ chunkBytes, depth }: Limits): void {
  if (!Number.isInteger(chunkBytes) || chunkBytes < 4096 || chunkBytes > MAX_CHUNK_BYTES) {
    throw new RangeError(`chunkBytes is ${chunkBytes}; give a whole number from 4096 to ${MAX_CHUNK_BYTES}`);
  }
  if (!Number.isInteger(depth) || depth < 1 || depth > MAX_DEPTH) {
    throw new RangeError(`depth is ${depth}; give a whole number from 1 to ${MAX_DEPTH}`);
  }
}

/** What both ends can do. */
export function agree(a: Limits, b: Limits): Limits {
  return { chunkBytes: Math.min(a.chunkBytes, b.chunkBytes), depth: Math.min(a.depth, b.depth) };
}

/** Encodes the limits as private data (16 bytes; 56 fit in every transport). */
export function encodeHello({ chunkBytes, depth }: Limits): Buffer {
  const bytes = Buffer.alloc(HELLO_BYTES);
  bytes.writeUInt32LE(MAGIC, 0);
  bytes.writeUInt8(VERSION, 4);
  bytes.writeUInt8(HELLO, 5);
  bytes.writeUInt16LE(HELLO_BYTES, 6);
  bytes.writeUInt32LE(chunkBytes, 8);
  bytes.writeUInt32LE(depth, 12);
  return bytes;
}

/** Decodes and checks a peer's limits. Throws {@link ProtocolError} and nothing else. */
export function decodeHello(bytes: Buffer): Limits {
  const { kind, length } = decodePrefix(bytes);
  if (kind !== HELLO || length !== HELLO_BYTES) {
    throw new ProtocolError(`private data of kind ${kind} and ${length} bytes is not a hello`);
  }
  const limits = { chunkBytes: bytes.readUInt32LE(8), depth: bytes.readUInt32LE(12) };
  try {
    checkLimits(limits);
  } catch (error) {
    throw new ProtocolError(`hello: ${(error as Error).message}`);
  }
  return limits;
}

/** Encodes why a connection is refused. */
export function encodeRefusal(error: TransferError): Buffer {
  const text = Buffer.from(error.message, 'utf8').subarray(0, REFUSAL_MAX_BYTES - REFUSAL_HEADER_BYTES);
  const bytes = Buffer.alloc(REFUSAL_HEADER_BYTES + text.length);
  bytes.writeUInt32LE(MAGIC, 0);
  bytes.writeUInt8(VERSION, 4);
  bytes.writeUInt8(REFUSAL, 5);
  bytes.writeUInt16LE(bytes.length, 6);
  bytes.writeUInt16LE(error.status, 8);
  text.copy(bytes, REFUSAL_HEADER_BYTES);
  return bytes;
}

/** The reason in a refusal's private data, or undefined when it is not one of ours. */
export function decodeRefusal(bytes: Uint8Array | undefined): TransferError | undefined {
  if (!bytes) return undefined;
  const data = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  try {
    const { kind, length } = decodePrefix(data);
    if (kind !== REFUSAL || length < REFUSAL_HEADER_BYTES) return undefined;
    return new TransferError(data.readUInt16LE(8), data.toString('utf8', REFUSAL_HEADER_BYTES, length));
  } catch {
    return undefined;
  }
}

function decodePrefix(bytes: Buffer): { kind: number; length: number } {
  if (bytes.length < 8 || bytes.readUInt32LE(0) !== MAGIC) {
    throw new ProtocolError(
      'private data is not that of the file-transfer protocol; is the peer another program?',
    );
  }
  if (bytes.readUInt8(4) !== VERSION) {
    throw new ProtocolError(`peer speaks version ${bytes.readUInt8(4)}; this end speaks version ${VERSION}`);
  }
  const length = bytes.readUInt16LE(6);
  if (length < 8 || length > bytes.length) {
    throw new ProtocolError(`private data says it has ${length} bytes, but ${bytes.length} arrived`);
  }
  return { kind: bytes.readUInt8(5), length };
}
