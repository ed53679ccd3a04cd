// Input memory: anything a caller may hand over, checked and reduced to pieces. Nothing here changes its input.

import { types } from 'node:util';
import { invalidArgument, RdmaError } from '../errors.ts';
import { ArenaBuffer, type ArenaSlab, slabOf } from './arena.ts';
import type { DmaPd } from './types.ts';

/** A range of another device's memory, by the file descriptor of its dma-buf. The device reaches it, the CPU does not. */
export class DmabufFragment {
  /** File descriptor of the dma-buf; the caller keeps it open until the operation has ended. */
  readonly fd: number;
  /** Bytes from its start. */
  readonly offset: number;
  /** Bytes. */
  readonly length: number;

  /** @throws RdmaError ERR_OUT_OF_RANGE for what is not a descriptor or a range */
  constructor(fd: number, offset: number, length: number) {
    for (const [name, value, most] of [
      ['fd', fd, 2 ** 31 - 1],
      ['offset', offset, Number.MAX_SAFE_INTEGER],
      ['length', length, Number.MAX_SAFE_INTEGER],
    ] as const) {
      if (!Number.isInteger(value) || value < 0 || value > most) {
        throw invalidArgument(
          'ERR_OUT_OF_RANGE',
          `${name} must be an integer from 0 to ${most}, got ${value}`,
        );
      }
    }
    this.fd = fd;
    this.offset = offset;
    this.length = length;
  }
}

/** One piece of memory as the caller has it. */
export type Fragment = ArrayBufferView | ArrayBufferLike | ArenaBuffer | DmabufFragment;

/** A fragment, or any iterable of fragments, in transfer order. */
export type Fragments = Fragment | Iterable<Fragment>;

/**
 * What a piece of memory is to the device:
 * - `arena`: registered memory of this protection domain; usable at once by its local key.
 * - `foreign`: memory from V8; it may be registered for one operation or copied.
 * - `pool`: a slice of a small shared ArrayBuffer (Node's Buffer pool). Its page holds other owners' data, so it is
 *   always copied, never registered.
 * - `dmabuf`: memory of another device: registered, never copied.
 */
export type PieceKind = 'arena' | 'foreign' | 'pool' | 'dmabuf';

/**
 * A view of part of an ArrayBuffer no larger than this counts as a pool slice: Node's `Buffer.poolSize` is 8 KiB up to
 * Node 22 and 64 KiB later, and copying so little is always cheaper than registering it.
 */
export const POOL_MAX_BYTES = 64 * 1024;

/** A stretch of memory of one kind: one fragment, or several neighbours merged. */
export class Piece {
  readonly kind: PieceKind;
  /** Index of the first fragment in it. */
  readonly index: number;
  /** Where its bytes stand in the transfer. */
  readonly position: number;
  /** The memory as bytes (for arena memory: the slab's buffer, from {@link offset}). */
  readonly buffer: ArrayBufferLike;
  /** Bytes from the start of {@link buffer}. */
  readonly offset: number;
  length: number;
  /** The slab behind arena memory; also set for a slab of another protection domain, whose key is of no use here. */
  readonly slab: ArenaSlab | undefined;
  /** Set for `dmabuf` memory. */
  readonly dmabuf: DmabufFragment | undefined;

  constructor(
    kind: PieceKind,
    index: number,
    position: number,
    buffer: ArrayBufferLike,
    offset: number,
    length: number,
    slab: ArenaSlab | undefined,
    dmabuf?: DmabufFragment,
  ) {
    this.kind = kind;
    this.index = index;
    this.position = position;
    this.buffer = buffer;
    this.offset = offset;
    this.length = length;
    this.slab = slab;
    this.dmabuf = dmabuf;
  }

  /** The part of the piece from byte [at], [length] bytes long. */
  part(at: number, length: number): Piece {
    const { kind, index, position, buffer, offset, slab } = this;
    return new Piece(kind, index, position + at, buffer, offset + at, length, slab);
  }

  /** True when memory of [kind] that starts at byte [offset] of [buffer] goes on where this piece ends. */
  precedes(kind: PieceKind, buffer: ArrayBufferLike, offset: number): boolean {
    return (
      this.kind === kind &&
      kind !== 'dmabuf' &&
      this.buffer === buffer &&
      this.offset + this.length === offset
    );
  }

  /** The same memory as another fragment of another transfer. */
  at(index: number, position: number): Piece {
    const { kind, buffer, offset, length, slab, dmabuf } = this;
    return new Piece(kind, index, position, buffer, offset, length, slab, dmabuf);
  }

  /** A byte view of the piece. Throws ERR_INVALID_STATE when the memory was detached since it was handed over. */
  view(): Uint8Array {
    if (this.gone) {
      throw invalidArgument(
        'ERR_INVALID_STATE',
        `fragment ${this.index} was detached (transferred or its WebAssembly.Memory grew) before the operation on it ended`,
        { fragment: this.index },
      );
    }
    return new Uint8Array(this.buffer, this.offset, this.length);
  }

  /** True once the memory was detached. */
  get gone(): boolean {
    return this.buffer.byteLength === 0;
  }
}

const noBuffer = new ArrayBuffer(0);

/** Fragments reduced to pieces. */
export interface PieceList {
  readonly pieces: readonly Piece[];
  /** Bytes. */
  readonly total: number;
}

/** The piece that byte [position] of the transfer is in. @internal */
export function pieceAt(pieces: readonly Piece[], position: number): Piece | undefined {
  let found: Piece | undefined;
  for (const piece of pieces) if (piece.position <= position) found = piece;
  return found;
}

/** [error] as the error of mapping [pieces], which names the first. @internal */
export function unmappable(pieces: readonly Piece[], error: unknown): unknown {
  if (!(error instanceof RdmaError) || error.fragment !== undefined) return error;
  const first = pieces[0]!.index;
  const last = pieces[pieces.length - 1]!.index;
  const bytes = pieces.reduce((sum, { length }) => sum + length, 0);
  const which = first === last ? `fragment ${first}` : `fragments ${first} to ${last}`;
  const { code, message, errno, syscall } = error;
  return new RdmaError(code, `${which} (${bytes} bytes) could not be mapped: ${message}`, {
    errno,
    syscall,
    fragment: first,
    cause: error,
  });
}

type MaybeResizable = { readonly resizable?: boolean; readonly growable?: boolean };

/**
 * Checks [fragments] and reduces them: empty ones are dropped (a zero-length SGE crashes siw), neighbours in memory that
 * share a key are merged. Synchronous, and without effect on the input. Errors have
 * the fragment's index in `fragment`.
 *
 * @throws ERR_INVALID_ARG_TYPE for anything that is not memory; ERR_INVALID_ARG_VALUE, naming the fragment's index, for
 *   detached, resizable or growable memory; ERR_INVALID_STATE for arena memory that was freed.
 */
export function toPieces(fragments: Fragments, pd: DmaPd): PieceList {
  const pieces: Piece[] = [];
  let total = 0;
  if (isFragment(fragments)) {
    total = addFragment(pieces, fragments, 0, 0, pd);
  } else {
    if (!isIterable(fragments)) throw notMemory(fragments, 'fragments');
    let index = 0;
    for (const fragment of fragments) {
      if (!isFragment(fragment)) throw notMemory(fragment, `fragments[${index}]`, index);
      total += addFragment(pieces, fragment, index, total, pd);
      index++;
    }
  }
  return { pieces, total };
}

/**
 * The piece that one [fragment] is; undefined for an empty one. A list is refused: the rest of it would be lost.
 *
 * @throws as {@link toPieces}
 */
export function toPiece(fragment: Fragment, pd: DmaPd): Piece | undefined {
  if (!isFragment(fragment)) throw notMemory(fragment, 'fragment', undefined, '');
  const pieces: Piece[] = [];
  addFragment(pieces, fragment, 0, 0, pd);
  return pieces[0];
}

function addFragment(
  pieces: Piece[],
  fragment: Fragment,
  index: number,
  position: number,
  pd: DmaPd,
): number {
  let buffer: ArrayBufferLike;
  let offset: number;
  let length: number;
  if (fragment instanceof DmabufFragment) {
    if (fragment.length > 0) {
      pieces.push(
        new Piece('dmabuf', index, position, noBuffer, fragment.offset, fragment.length, undefined, fragment),
      );
    }
    return fragment.length;
  }
  if (fragment instanceof ArenaBuffer) {
    if (fragment.freed) {
      throw invalidArgument('ERR_INVALID_STATE', `fragment ${index} is an ArenaBuffer that was freed`, {
        fragment: index,
      });
    }
    ({ offset, length } = fragment);
    buffer = fragment.slab.buffer;
  } else if (ArrayBuffer.isView(fragment)) {
    buffer = fragment.buffer;
    offset = fragment.byteOffset;
    length = fragment.byteLength;
  } else {
    buffer = fragment;
    offset = 0;
    length = fragment.byteLength;
  }

  const slab = slabOf(buffer);
  if (slab !== undefined && !slab.usable) {
    throw invalidArgument('ERR_INVALID_STATE', `fragment ${index} lies in an arena slab ${slab.trouble}`, {
      fragment: index,
    });
  }
  if (slab === undefined) checkForeign(buffer, index);
  if (length === 0) return 0;

  const kind = kindOf(buffer, length, slab, pd);
  const last = pieces[pieces.length - 1];
  if (last?.precedes(kind, buffer, offset) === true) {
    last.length += length;
  } else {
    pieces.push(new Piece(kind, index, position, buffer, offset, length, slab));
  }
  return length;
}

function kindOf(buffer: ArrayBufferLike, length: number, slab: ArenaSlab | undefined, pd: DmaPd): PieceKind {
  if (slab !== undefined) return slab.arena.pd === pd ? 'arena' : 'foreign';
  return buffer.byteLength !== length && buffer.byteLength <= POOL_MAX_BYTES ? 'pool' : 'foreign';
}

function checkForeign(buffer: ArrayBufferLike, index: number): void {
  const { resizable, growable } = buffer as MaybeResizable;
  if (resizable === true || growable === true) {
    const what = resizable === true ? 'a resizable ArrayBuffer' : 'a growable SharedArrayBuffer';
    throw invalidArgument(
      'ERR_INVALID_ARG_VALUE',
      `fragment ${index} is a view of ${what}, whose pages can change under the device; ` +
        'copy it into fixed-length memory',
      { fragment: index },
    );
  }
  if (buffer.byteLength === 0 && isDetached(buffer)) {
    throw invalidArgument(
      'ERR_INVALID_ARG_VALUE',
      `fragment ${index} is detached: its ArrayBuffer was transferred, or its WebAssembly.Memory grew`,
      { fragment: index },
    );
  }
}

/** Only asked of buffers of length zero: a detached one refuses a view, an empty one does not. */
function isDetached(buffer: ArrayBufferLike): boolean {
  try {
    new Uint8Array(buffer);
    return false;
  } catch {
    return true;
  }
}

function isFragment(value: unknown): value is Fragment {
  return (
    ArrayBuffer.isView(value) ||
    value instanceof ArenaBuffer ||
    types.isAnyArrayBuffer(value) ||
    value instanceof DmabufFragment
  );
}

function isIterable(value: unknown): value is Iterable<unknown> {
  return typeof value === 'object' && value !== null && Symbol.iterator in value;
}

function notMemory(
  value: unknown,
  name: string,
  fragment?: number,
  lists = ' (or an iterable of them)',
): Error {
  const got = value === null ? 'null' : typeof value === 'object' ? value.constructor?.name : typeof value;
  return invalidArgument(
    'ERR_INVALID_ARG_TYPE',
    `${name} must be a Buffer, typed array, DataView, ArrayBuffer, SharedArrayBuffer, ArenaBuffer or ` +
      `DmabufFragment${lists}, got ${got}`,
    { fragment },
  );
}
