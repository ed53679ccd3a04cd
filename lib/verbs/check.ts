/** Checks of arguments. Each names the argument, its value and its limit. */
import { inspect } from 'node:util';
import { invalidArgument } from '../errors.ts';

/** Throws unless [value] is an integer in [min, max]. */
export function checkInteger(
  name: string,
  value: unknown,
  min: number,
  max: number,
): asserts value is number {
  if (typeof value !== 'number') {
    throw invalidArgument('ERR_INVALID_ARG_TYPE', `${name} must be a number, not ${inspect(value)}`);
  }
  if (!Number.isInteger(value) || value < min || value > max) {
    throw invalidArgument(
      'ERR_OUT_OF_RANGE',
      `${name} must be an integer from ${min} to ${max}, not ${value}`,
    );
  }
}

/** Throws unless [value] is a string that is not empty. */
export function checkText(name: string, value: unknown): asserts value is string {
  if (typeof value !== 'string' || value === '') {
    throw invalidArgument(
      'ERR_INVALID_ARG_TYPE',
      `${name} must be a non-empty string, not ${inspect(value)}`,
    );
  }
}

interface MaybeResizable {
  readonly resizable?: boolean;
  readonly growable?: boolean;
  readonly detached?: boolean;
}

/**
 * The bytes of [memory], for the device. Memory that can move or go is refused: detached, resizable and growable
 * buffers, and WebAssembly memory that a `grow` would detach is the caller's to keep.
 *
 * @throws RdmaError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE
 */
export function bytesOf(name: string, memory: unknown): Uint8Array {
  const view = ArrayBuffer.isView(memory);
  const isBuffer =
    view || memory instanceof ArrayBuffer || memory instanceof SharedArrayBuffer || isForeignBuffer(memory);
  if (!isBuffer) {
    throw invalidArgument(
      'ERR_INVALID_ARG_TYPE',
      `${name} must be a Buffer, typed array, DataView, ArrayBuffer or SharedArrayBuffer, not ${inspect(memory)}`,
    );
  }
  const buffer = (view ? memory.buffer : memory) as ArrayBufferLike & MaybeResizable;
  if (buffer.resizable === true || buffer.growable === true) {
    throw invalidArgument(
      'ERR_INVALID_ARG_VALUE',
      `${name} lies in a resizable buffer: its pages can change under the device; copy it to a fixed-length one`,
    );
  }
  if (isDetached(buffer)) {
    throw invalidArgument(
      'ERR_INVALID_ARG_VALUE',
      `${name} lies in a detached buffer: its memory has been transferred away`,
    );
  }
  return view
    ? new Uint8Array(memory.buffer, memory.byteOffset, memory.byteLength)
    : new Uint8Array(memory as ArrayBuffer);
}

/** The bytes of [memory], of which there is one at least. @internal */
export function checkMemory(memory: unknown): Uint8Array {
  const bytes = bytesOf('memory', memory);
  if (bytes.length === 0)
    throw invalidArgument('ERR_INVALID_ARG_VALUE', 'memory is empty: at least 1 byte is needed');
  return bytes;
}

/** A buffer of another realm (node:vm) fails `instanceof`. */
function isForeignBuffer(memory: unknown): boolean {
  const tag = Object.prototype.toString.call(memory);
  return tag === '[object ArrayBuffer]' || tag === '[object SharedArrayBuffer]';
}

/** True when [buffer] has been transferred. Node 20 has no `detached`; there a zero length gives it away. */
export function isDetached(buffer: ArrayBufferLike): boolean {
  const known = (buffer as MaybeResizable).detached;
  if (known !== undefined) return known;
  if (buffer.byteLength !== 0 || buffer instanceof SharedArrayBuffer) return false;
  try {
    new Uint8Array(buffer);
    return false;
  } catch {
    return true;
  }
}
