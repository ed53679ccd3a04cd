/**
 * What rping says: in both directions 16-byte messages, big-endian. From the client they name its memory, from the
 * server they only say "go ahead" and their content is ignored.
 *
 * One ping: the client names its source buffer, the server RDMA READs it and says go ahead; the client names its
 * sink buffer, the server RDMA WRITEs the text there and says go ahead.
 *
 * @see rping(1)
 */

/** Port of rping. */
export const DEFAULT_PORT = 7174;
/** Bytes of a message. */
export const MESSAGE_BYTES = 16;
/** Sizes of ping data that rping accepts, bytes. */
export const MIN_SIZE = 23;
export const MAX_SIZE = 65535;

/** Memory of the client. */
export interface Advertisement {
  addr: number;
  rkey: number;
  /** Bytes. */
  size: number;
}

/** Encodes where a buffer is. */
export function encodeAdvertisement({ addr, rkey, size }: Advertisement): Buffer {
  const bytes = Buffer.alloc(MESSAGE_BYTES);
  bytes.writeBigUInt64BE(BigInt(addr), 0);
  bytes.writeUInt32BE(rkey, 8);
  bytes.writeUInt32BE(size, 12);
  return bytes;
}

/** Decodes and checks where a peer's buffer is. Throws RangeError. */
export function decodeAdvertisement(bytes: Buffer): Advertisement {
  if (bytes.length !== MESSAGE_BYTES) {
    throw new RangeError(`message of ${bytes.length} bytes; rping's have ${MESSAGE_BYTES}`);
  }
  const addr = bytes.readBigUInt64BE(0);
  const size = bytes.readUInt32BE(12);
  if (size < 1 || size > MAX_SIZE)
    throw new RangeError(`peer's buffer has ${size} bytes; 1 to ${MAX_SIZE} are accepted`);
  if (addr > BigInt(Number.MAX_SAFE_INTEGER))
    throw new RangeError(`peer's address ${addr} is beyond 2^53 - 1`);
  return { addr: Number(addr), rkey: bytes.readUInt32BE(8), size };
}

const FIRST_LETTER = 65;
const LETTERS = 122 - FIRST_LETTER + 1;

/** Fills `into` with the text of ping number `ping`: `rdma-ping-N: `, then letters that shift with N, then NUL. */
export function fillPing(into: Buffer, ping: number): void {
  const start = into.write(`rdma-ping-${ping}: `, 'latin1');
  for (let i = start; i < into.length; i++) into[i] = FIRST_LETTER + ((ping + i - start) % LETTERS);
  into[into.length - 1] = 0;
}

/** The text up to its NUL. */
export function pingText(bytes: Buffer): string {
  const end = bytes.indexOf(0);
  return bytes.toString('latin1', 0, end === -1 ? bytes.length : end);
}
