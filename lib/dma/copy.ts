/** Copies of what has come, in memory that is used again. */
import { addon } from '../addon.ts';

/** Bytes of a chunk: the longest copy that can be in one. @internal */
export const CHUNK_BYTES = 65536;

/** From here on a copy takes a chunk: less would leave most of it unused. */
const CHUNK_FROM = 32768;

/**
 * A copy of [bytes] that is the caller's. Larger ones are in chunks, which go back to their pool when the ArrayBuffer has
 * been collected: a page that the kernel gives anew costs more than the copy itself.
 *
 * @internal
 */
export function copyOf(bytes: Uint8Array): Buffer {
  const { length } = bytes;
  const chunk = length >= CHUNK_FROM && length <= CHUNK_BYTES ? addon.takeChunk() : undefined;
  if (chunk === undefined) return Buffer.from(bytes);
  const copy = Buffer.from(chunk, 0, length);
  copy.set(bytes);
  return copy;
}
