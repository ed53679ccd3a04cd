/**
 * Messages, little-endian. A request begins with 24 bytes: 0 tag, 4 operation, 5 bytes of the key, 8 bytes of the value or
 * of the memory, 12 rkey, 16 address; then the key, and the value of a PUT that fits. A response: 0 tag, 4 status, 8 bytes of
 * the value, 16 version; then the value, a text or a {@link Description}. Pure.
 */
import { KvError, Status } from './errors.ts';
import { BUCKET_BYTES, MAX_VALUE_BYTES } from './layout.ts';

/** Bytes of the longest message. */
export const MESSAGE_BYTES = 8192;
/** Requests that a client may have in flight, besides one RENEW. */
export const DEPTH = 32;
const HEADER_BYTES = 24;
const HIGH = 2 ** 32;
const MAGIC = 0x6b76_726e;
const VERSION = 1;

/** Bytes of a value that fit into a response. */
export const MAX_INLINE_GET = MESSAGE_BYTES - HEADER_BYTES;

/** Operations of a request. */
export const Op = { GET: 1, PUT: 2, PUT_FROM: 3, DELETE: 4, LIST: 5, RENEW: 6 } as const;

/** Memory of the client. */
export interface Memory {
  readonly addr: number;
  readonly rkey: number;
  readonly length: number;
}

/** What a client asks. */
export interface Request {
  readonly tag: number;
  readonly op: number;
  readonly key: Buffer;
  /** Of a PUT. */
  readonly value: Buffer;
  /** GET: where a value that does not fit into the response may be written; PUT_FROM: where the value is read. */
  readonly memory: Memory | undefined;
  /** LIST: number of the first key. */
  readonly from: number;
}

/** The answer. */
export interface Response {
  readonly tag: number;
  readonly status: number;
  /** Bytes of the value; of a LIST: how many keys there are. */
  readonly length: number;
  readonly version: number;
  readonly body: Buffer;
}

/** What a client may read for the time of its lease. */
export interface Description {
  /** Milliseconds from the request that it was given for. */
  readonly leaseMs: number;
  readonly generation: number;
  readonly seed: number;
  readonly table: Memory;
  readonly segments: readonly Memory[];
}

const nothing = Buffer.alloc(0);

function protocolError(message: string): KvError {
  return new KvError('ERR_KV_PROTOCOL', message);
}

/** Encodes a request; what is left out is empty. */
export function encodeRequest(request: Partial<Request> & Pick<Request, 'tag' | 'op'>): Buffer {
  const { tag, op, key = nothing, value = nothing, memory, from = 0 } = request;
  const bytes = Buffer.alloc(HEADER_BYTES + key.length + value.length);
  bytes.writeUInt32LE(tag, 0);
  bytes.writeUInt8(op, 4);
  bytes.writeUInt8(key.length, 5);
  bytes.writeUInt32LE(op === Op.LIST ? from : (memory?.length ?? value.length), 8);
  bytes.writeUInt32LE(memory?.rkey ?? 0, 12);
  writeAddress(bytes, 16, memory?.addr ?? 0);
  bytes.set(key, HEADER_BYTES);
  bytes.set(value, HEADER_BYTES + key.length);
  return bytes;
}

/** Decodes and checks a request; its key and value are views. Throws ERR_KV_PROTOCOL and nothing else. */
export function decodeRequest(bytes: Buffer): Request {
  if (bytes.length < HEADER_BYTES) {
    throw protocolError(`a request of ${bytes.length} bytes is shorter than its header`);
  }
  const op = bytes.readUInt8(4);
  const keyEnd = HEADER_BYTES + bytes.readUInt8(5);
  const length = bytes.readUInt32LE(8);
  const takesValue = op === Op.PUT;
  const end = keyEnd + (takesValue ? length : 0);
  if (op < Op.GET || op > Op.RENEW) throw protocolError(`there is no operation ${op}`);
  if (bytes.length !== end)
    throw protocolError(`a request of ${end} bytes came in a message of ${bytes.length}`);
  if (op !== Op.LIST && length > MAX_VALUE_BYTES) {
    throw protocolError(`a value of ${length} bytes; at most ${MAX_VALUE_BYTES} are possible`);
  }
  if (op === Op.PUT_FROM && length === 0) throw protocolError('a value without bytes comes in the message');
  const takesMemory = op === Op.PUT_FROM || (op === Op.GET && length > 0);
  return {
    tag: bytes.readUInt32LE(0),
    op,
    key: bytes.subarray(HEADER_BYTES, keyEnd),
    value: bytes.subarray(keyEnd, end),
    memory: takesMemory ? { addr: readAddress(bytes, 16), rkey: bytes.readUInt32LE(12), length } : undefined,
    from: op === Op.LIST ? length : 0,
  };
}

/** Encodes a response; what is left out is empty, and the status OK. */
export function encodeResponse(response: Partial<Response> & Pick<Response, 'tag'>): Buffer {
  const { tag, status = Status.OK, body = nothing, length = body.length, version = 0 } = response;
  const bytes = Buffer.alloc(HEADER_BYTES + body.length);
  bytes.writeUInt32LE(tag, 0);
  bytes.writeUInt8(status, 4);
  bytes.writeUInt32LE(length, 8);
  writeAddress(bytes, 16, version);
  bytes.set(body, HEADER_BYTES);
  return bytes;
}

/** Decodes a response; its body is a view. Throws ERR_KV_PROTOCOL and nothing else. */
export function decodeResponse(bytes: Buffer): Response {
  if (bytes.length < HEADER_BYTES) {
    throw protocolError(`a response of ${bytes.length} bytes is shorter than its header`);
  }
  return {
    tag: bytes.readUInt32LE(0),
    status: bytes.readUInt8(4),
    length: bytes.readUInt32LE(8),
    version: readAddress(bytes, 16),
    body: bytes.subarray(HEADER_BYTES),
  };
}

/** Encodes keys, each with its length before it, as many as fit from [from] on. */
export function encodeKeys(keys: readonly Buffer[], from: number): Buffer {
  const parts: Buffer[] = [];
  let left = MESSAGE_BYTES - HEADER_BYTES;
  for (let at = from; at < keys.length; at++) {
    const key = keys[at]!;
    left -= 1 + key.length;
    if (left < 0) break;
    parts.push(Buffer.of(key.length), key);
  }
  return Buffer.concat(parts);
}

/** Decodes what {@link encodeKeys} has encoded. */
export function decodeKeys(bytes: Buffer): Buffer[] {
  const keys: Buffer[] = [];
  for (let at = 0; at < bytes.length; ) {
    const end = at + 1 + bytes[at]!;
    if (end > bytes.length) throw protocolError('a list ends within a key');
    keys.push(Buffer.from(bytes.subarray(at + 1, end)));
    at = end;
  }
  return keys;
}

const DESCRIPTION_BYTES = 16;
const MEMORY_BYTES = 16;

/** Encodes what a client may read. */
export function encodeDescription({ leaseMs, generation, seed, table, segments }: Description): Buffer {
  const bytes = Buffer.alloc(DESCRIPTION_BYTES + MEMORY_BYTES * (1 + segments.length));
  bytes.writeUInt32LE(leaseMs, 0);
  bytes.writeUInt32LE(generation, 4);
  bytes.writeUInt32LE(seed, 8);
  bytes.writeUInt32LE(segments.length, 12);
  for (const [index, { addr, rkey, length }] of [table, ...segments].entries()) {
    const at = DESCRIPTION_BYTES + index * MEMORY_BYTES;
    writeAddress(bytes, at, addr);
    bytes.writeUInt32LE(rkey, at + 8);
    bytes.writeUInt32LE(length, at + 12);
  }
  return bytes;
}

/** Decodes and checks what {@link encodeDescription} has encoded. */
export function decodeDescription(bytes: Buffer): Description {
  const count = bytes.length < DESCRIPTION_BYTES ? -1 : bytes.readUInt32LE(12);
  if (bytes.length !== DESCRIPTION_BYTES + MEMORY_BYTES * (1 + count)) {
    throw protocolError(`a description of ${bytes.length} bytes has not the length that it says`);
  }
  const [table, ...segments] = Array.from({ length: count + 1 }, (_, index) => {
    const at = DESCRIPTION_BYTES + index * MEMORY_BYTES;
    return {
      addr: readAddress(bytes, at),
      rkey: bytes.readUInt32LE(at + 8),
      length: bytes.readUInt32LE(at + 12),
    };
  });
  if (!Number.isInteger(Math.log2(table!.length / BUCKET_BYTES))) {
    throw protocolError(`a table of ${table!.length} bytes is no power of two of buckets`);
  }
  return {
    leaseMs: bytes.readUInt32LE(0),
    generation: bytes.readUInt32LE(4),
    seed: bytes.readUInt32LE(8),
    table: table!,
    segments,
  };
}

/** Private data of a connection request and of its acceptance. */
export function encodeHello(): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt32LE(MAGIC, 0);
  bytes.writeUInt32LE(VERSION, 4);
  return bytes;
}

/** Throws ERR_KV_PROTOCOL unless the private data are those of this protocol. */
export function checkHello(bytes: Uint8Array): void {
  const data = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (data.length < 8 || data.readUInt32LE(0) !== MAGIC) {
    throw protocolError('the private data are not those of this store; is the peer another program?');
  }
  if (data.readUInt32LE(4) !== VERSION) {
    throw protocolError(
      `the peer speaks version ${data.readUInt32LE(4)}; this end speaks version ${VERSION}`,
    );
  }
}

function writeAddress(bytes: Buffer, at: number, value: number): void {
  bytes.writeUInt32LE(value % HIGH, at);
  bytes.writeUInt32LE(Math.floor(value / HIGH), at + 4);
}

function readAddress(bytes: Buffer, at: number): number {
  const value = bytes.readUInt32LE(at) + bytes.readUInt32LE(at + 4) * HIGH;
  if (!Number.isSafeInteger(value)) throw protocolError('an address or a version above 2^53 - 1');
  return value;
}
