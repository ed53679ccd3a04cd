/**
 * The wire format of the file-transfer example: what the two ends say to each other, and the checks that every
 * message of a peer passes before anything uses it.
 *
 * All integers are little-endian. A message is a 16-byte header and a body of fixed layout, at most
 * {@link MESSAGE_BYTES} long; it says its own length, and the length must be exact. File data never travels in
 * messages: a chunk request names memory of the client (`addr`, `rkey`, `length`), and the server reads or writes it.
 */

/** First field of every message and of the private data: the letters "NRFT". */
export const MAGIC = 0x5446524e;
/** Version of this format. Both ends must speak the same. */
export const VERSION = 1;
/** Size of a message buffer in bytes; no message is longer. */
export const MESSAGE_BYTES = 2048;
/** Longest file name in bytes of UTF-8. */
export const MAX_NAME_BYTES = 1024;
/** Longest text of a response in bytes of UTF-8. */
export const MAX_TEXT_BYTES = 512;
/** Limits of what a hello may propose. 8 MiB is the longest message of the rxe device. */
export const MAX_CHUNK_BYTES = 8 * 1024 * 1024;
/** Most chunks in flight on one connection. */
export const MAX_DEPTH = 128;
/** Requests that may be outstanding beside the chunks: one open/close/abort and one keep-alive. */
export const CONTROL_CREDITS = 2;

/** Outcome of a request. The numbers are on the wire. */
export const Status = {
  OK: 0,
  PROTOCOL: 1,
  NAME: 2,
  NOT_FOUND: 3,
  NOT_A_FILE: 4,
  IO: 5,
  CHANGED: 6,
  HASH: 7,
  STATE: 8,
  BUSY: 9,
  ACCESS: 10,
} as const;

const STATUS_NAMES = new Map<number, string>(Object.entries(Status).map(([name, value]) => [value, name]));

/** An error of a transfer, on either end. `code` is `ERR_TRANSFER_` and the name of the status. */
export class TransferError extends Error {
  readonly status: number;
  readonly code: string;

  constructor(status: number, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'TransferError';
    this.status = status;
    this.code = `ERR_TRANSFER_${STATUS_NAMES.get(status) ?? status}`;
  }
}

/** A message that breaks this format. `tag` is the request it belongs to, or 0 when even that could not be read. */
export class ProtocolError extends TransferError {
  readonly tag: number;

  constructor(message: string, tag = 0) {
    super(Status.PROTOCOL, message);
    this.name = 'ProtocolError';
    this.tag = tag;
  }
}

const Kind = {
  OPEN_GET: 1,
  OPEN_PUT: 2,
  OPEN_LIST: 3,
  GET_CHUNK: 4,
  PUT_CHUNK: 5,
  CLOSE: 6,
  ABORT: 7,
  KEEP_ALIVE: 8,
  RESPONSE: 128,
} as const;

/** When the two ends compute the SHA-256: chunk by chunk during the transfer, or from the file after it. */
export type HashTime = 'during' | 'after';

/** Starts sending a file to the client. The response says its size. */
export interface OpenGet {
  kind: 'openGet';
  tag: number;
  hash: HashTime;
  name: string;
}
/** Starts receiving a file of `size` bytes from the client. */
export interface OpenPut {
  kind: 'openPut';
  tag: number;
  hash: HashTime;
  name: string;
  size: number;
}
/** Starts sending the list of files, as if it were a file. */
export interface OpenList {
  kind: 'openList';
  tag: number;
}
/** Asks the server to RDMA WRITE (get) or RDMA READ (put) one chunk at the client's memory. */
export interface Chunk {
  kind: 'getChunk' | 'putChunk';
  tag: number;
  /** Where in the file, bytes. Chunks are asked for in order, without gaps. */
  offset: number;
  /** Bytes, at least 1. */
  length: number;
  /** The client's memory. */
  addr: number;
  rkey: number;
}
/** Ends a transfer: the client's SHA-256 of the whole file. The response carries the server's. */
export interface Close {
  kind: 'close';
  tag: number;
  sha256: Buffer;
}
/** Gives up the open transfer; without one it does nothing. */
export interface Abort {
  kind: 'abort';
  tag: number;
}
/** Shows that the client lives; the response shows that the server does. */
export interface KeepAlive {
  kind: 'keepAlive';
  tag: number;
}
/** Whatever a client may send. */
export type Request = OpenGet | OpenPut | OpenList | Chunk | Close | Abort | KeepAlive;

/** What a server answers. */
export interface Response {
  tag: number;
  status: number;
  /** Why, for a person, when status is not OK. */
  text: string;
  /** Size of the file in bytes (response to an open). */
  size: number;
  /** The server's SHA-256 (response to a close), or zeros. */
  sha256: Buffer;
}

const HEADER_BYTES = 16;
const HASH_BYTES = 32;
const NO_HASH = Buffer.alloc(HASH_BYTES);
const FLAG_HASH_AFTER = 1;

function message(kind: number, tag: number, bodyBytes: number): Buffer {
  const bytes = Buffer.alloc(HEADER_BYTES + bodyBytes);
  bytes.writeUInt32LE(MAGIC, 0);
  bytes.writeUInt8(VERSION, 4);
  bytes.writeUInt8(kind, 5);
  bytes.writeUInt16LE(bytes.length, 6);
  bytes.writeUInt32LE(tag, 8);
  return bytes;
}

function encodeOpen(kind: number, tag: number, flags: number, size: number, name: string): Buffer {
  const text = Buffer.from(name, 'utf8');
  if (text.length > MAX_NAME_BYTES) {
    throw new TransferError(
      Status.NAME,
      `name is ${text.length} bytes long; the limit is ${MAX_NAME_BYTES}. Choose a shorter name.`,
    );
  }
  const bytes = message(kind, tag, 16 + text.length);
  bytes.writeUInt16LE(flags, 16);
  bytes.writeUInt16LE(text.length, 18);
  bytes.writeBigUInt64LE(BigInt(size), 24);
  text.copy(bytes, 32);
  return bytes;
}

/** Encodes a request. Throws TransferError when the name is too long. */
export function encodeRequest(request: Request): Buffer {
  switch (request.kind) {
    case 'openGet':
      return encodeOpen(Kind.OPEN_GET, request.tag, hashFlag(request.hash), 0, request.name);
    case 'openPut':
      return encodeOpen(Kind.OPEN_PUT, request.tag, hashFlag(request.hash), request.size, request.name);
    case 'openList':
      return message(Kind.OPEN_LIST, request.tag, 0);
    case 'getChunk':
    case 'putChunk': {
      const bytes = message(request.kind === 'getChunk' ? Kind.GET_CHUNK : Kind.PUT_CHUNK, request.tag, 24);
      bytes.writeBigUInt64LE(BigInt(request.offset), 16);
      bytes.writeBigUInt64LE(BigInt(request.addr), 24);
      bytes.writeUInt32LE(request.length, 32);
      bytes.writeUInt32LE(request.rkey, 36);
      return bytes;
    }
    case 'close': {
      const bytes = message(Kind.CLOSE, request.tag, HASH_BYTES);
      request.sha256.copy(bytes, HEADER_BYTES, 0, HASH_BYTES);
      return bytes;
    }
    case 'abort':
      return message(Kind.ABORT, request.tag, 0);
    case 'keepAlive':
      return message(Kind.KEEP_ALIVE, request.tag, 0);
  }
}

function hashFlag(hash: HashTime): number {
  return hash === 'after' ? FLAG_HASH_AFTER : 0;
}

/** Checks the header and returns the kind and tag. */
function decodeHeader(bytes: Buffer): { kind: number; tag: number } {
  if (bytes.length < HEADER_BYTES) {
    throw new ProtocolError(`message of ${bytes.length} bytes; a header alone has ${HEADER_BYTES}`);
  }
  if (bytes.readUInt32LE(0) !== MAGIC) {
    throw new ProtocolError(`message starts with 0x${bytes.readUInt32LE(0).toString(16)}, not "NRFT"`);
  }
  const tag = bytes.readUInt32LE(8);
  if (bytes.readUInt8(4) !== VERSION) {
    throw new ProtocolError(`version ${bytes.readUInt8(4)}; this end speaks version ${VERSION}`, tag);
  }
  if (bytes.readUInt16LE(6) !== bytes.length) {
    throw new ProtocolError(
      `message says it has ${bytes.readUInt16LE(6)} bytes, but ${bytes.length} arrived`,
      tag,
    );
  }
  if (bytes.readUInt32LE(12) !== 0) throw new ProtocolError('reserved field of the header is not 0', tag);
  return { kind: bytes.readUInt8(5), tag };
}

function expectBody(bytes: Buffer, expected: number, tag: number): void {
  const actual = bytes.length - HEADER_BYTES;
  if (actual !== expected) {
    throw new ProtocolError(`message body of ${actual} bytes where ${expected} belong`, tag);
  }
}

function safeU64(bytes: Buffer, at: number, field: string, tag: number): number {
  const value = bytes.readBigUInt64LE(at);
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw new ProtocolError(`${field} is ${value}; the limit is 2^53 - 1`, tag);
  }
  return Number(value);
}

function decodeText(bytes: Buffer, start: number, length: number, field: string, tag: number): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(
      bytes.subarray(start, start + length),
    );
  } catch {
    throw new ProtocolError(`${field} is not valid UTF-8`, tag);
  }
}

function decodeOpen(bytes: Buffer, kind: 'openGet' | 'openPut', tag: number): OpenGet | OpenPut {
  if (bytes.length < 32)
    throw new ProtocolError(`message body of ${bytes.length - 16} bytes; an open has 16 or more`, tag);
  const flags = bytes.readUInt16LE(16);
  if ((flags & ~FLAG_HASH_AFTER) !== 0) throw new ProtocolError(`unknown flags 0x${flags.toString(16)}`, tag);
  if (bytes.readUInt32LE(20) !== 0) throw new ProtocolError('reserved field of the open is not 0', tag);
  const nameBytes = bytes.readUInt16LE(18);
  if (nameBytes > MAX_NAME_BYTES) {
    throw new ProtocolError(`name of ${nameBytes} bytes; the limit is ${MAX_NAME_BYTES}`, tag);
  }
  expectBody(bytes, 16 + nameBytes, tag);
  const name = decodeText(bytes, 32, nameBytes, 'name', tag);
  const hash = flags & FLAG_HASH_AFTER ? 'after' : 'during';
  const size = safeU64(bytes, 24, 'size', tag);
  if (kind === 'openPut') return { kind, tag, hash, name, size };
  if (size !== 0) throw new ProtocolError(`size is ${size} in a get; it must be 0`, tag);
  return { kind, tag, hash, name };
}

function decodeChunk(bytes: Buffer, kind: Chunk['kind'], tag: number): Chunk {
  expectBody(bytes, 24, tag);
  const offset = safeU64(bytes, 16, 'offset', tag);
  const addr = safeU64(bytes, 24, 'addr', tag);
  const length = bytes.readUInt32LE(32);
  if (length < 1 || length > MAX_CHUNK_BYTES) {
    throw new ProtocolError(`length is ${length}; a chunk has 1 to ${MAX_CHUNK_BYTES} bytes`, tag);
  }
  if (!Number.isSafeInteger(offset + length))
    throw new ProtocolError('offset + length is beyond 2^53 - 1', tag);
  if (!Number.isSafeInteger(addr + length)) throw new ProtocolError('addr + length is beyond 2^53 - 1', tag);
  return { kind, tag, offset, length, addr, rkey: bytes.readUInt32LE(36) };
}

/** Decodes and checks a client's message. Throws {@link ProtocolError} and nothing else. */
export function decodeRequest(bytes: Buffer): Request {
  const { kind, tag } = decodeHeader(bytes);
  switch (kind) {
    case Kind.OPEN_GET:
      return decodeOpen(bytes, 'openGet', tag);
    case Kind.OPEN_PUT:
      return decodeOpen(bytes, 'openPut', tag);
    case Kind.OPEN_LIST:
      expectBody(bytes, 0, tag);
      return { kind: 'openList', tag };
    case Kind.GET_CHUNK:
      return decodeChunk(bytes, 'getChunk', tag);
    case Kind.PUT_CHUNK:
      return decodeChunk(bytes, 'putChunk', tag);
    case Kind.CLOSE:
      expectBody(bytes, HASH_BYTES, tag);
      return { kind: 'close', tag, sha256: Buffer.from(bytes.subarray(HEADER_BYTES)) };
    case Kind.ABORT:
      expectBody(bytes, 0, tag);
      return { kind: 'abort', tag };
    case Kind.KEEP_ALIVE:
      expectBody(bytes, 0, tag);
      return { kind: 'keepAlive', tag };
    default:
      throw new ProtocolError(`unknown kind of message ${kind}`, tag);
  }
}

/** Encodes a response; a text too long for the message is cut. */
export function encodeResponse(response: Partial<Response> & { tag: number; status: number }): Buffer {
  const text = cutText(response.text ?? '', MAX_TEXT_BYTES);
  const bytes = message(Kind.RESPONSE, response.tag, 48 + text.length);
  bytes.writeUInt16LE(response.status, 16);
  bytes.writeUInt16LE(text.length, 18);
  bytes.writeBigUInt64LE(BigInt(response.size ?? 0), 24);
  (response.sha256 ?? NO_HASH).copy(bytes, 32, 0, HASH_BYTES);
  text.copy(bytes, 64);
  return bytes;
}

/** UTF-8 of the text, cut between characters to at most `limit` bytes. */
function cutText(text: string, limit: number): Buffer {
  const bytes = Buffer.from(text, 'utf8');
  let end = Math.min(bytes.length, limit);
  while (end > 0 && end < bytes.length && (bytes[end]! & 0xc0) === 0x80) end--;
  return bytes.subarray(0, end);
}

/** Decodes and checks a server's message. Throws {@link ProtocolError} and nothing else. */
export function decodeResponse(bytes: Buffer): Response {
  const { kind, tag } = decodeHeader(bytes);
  if (kind !== Kind.RESPONSE)
    throw new ProtocolError(`message of kind ${kind} where a response belongs`, tag);
  if (bytes.length < 64)
    throw new ProtocolError(`message body of ${bytes.length - 16} bytes; a response has 48 or more`, tag);
  const textBytes = bytes.readUInt16LE(18);
  if (textBytes > MAX_TEXT_BYTES)
    throw new ProtocolError(`text of ${textBytes} bytes; the limit is ${MAX_TEXT_BYTES}`, tag);
  if (bytes.readUInt32LE(20) !== 0) throw new ProtocolError('reserved field of the response is not 0', tag);
  expectBody(bytes, 48 + textBytes, tag);
  return {
    tag,
    status: bytes.readUInt16LE(16),
    text: decodeText(bytes, 64, textBytes, 'text', tag),
    size: safeU64(bytes, 24, 'size', tag),
    sha256: Buffer.from(bytes.subarray(32, 64)),
  };
}
