// Bytes of tests, and what can happen to them.

/** Bytes that tell their place. */
export function pattern(length: number, seed = 1): Buffer {
  const bytes = Buffer.alloc(length);
  for (let i = 0; i < length; i++) bytes[i] = (i * 31 + (i >>> 8) * 7 + seed) & 0xff;
  return bytes;
}

/** Memory of its own ArrayBuffer: foreign, and not a slice of Node's pool. */
export function foreign(bytes: Uint8Array | number): Uint8Array<ArrayBuffer> {
  return typeof bytes === 'number' ? new Uint8Array(bytes) : new Uint8Array(bytes);
}

/** Detaches the memory of [view]. */
export function detach(view: ArrayBufferView): void {
  structuredClone(view.buffer, { transfer: [view.buffer as ArrayBuffer] });
}
