// Memory for a peer's one-sided operations: the only place that hands out remote keys of mapped fragments.

import { invalidArgument, RdmaError } from '../errors.ts';
import { Access } from '../verbs/constants.ts';
import { type Fragments, type Piece, toPieces, unmappable } from './fragments.ts';
import type { MrCache } from './mr-cache.ts';
import type { DmaOps } from './ops.ts';
import type { DmaMr, DmaPd } from './types.ts';
import { notLinear, type WindowPool } from './window.ts';

/** What to send to a peer: one stretch of memory that it may read or write. */
export interface RemoteDescriptor {
  /** Address of the first byte. */
  readonly addr: number;
  /** u32. */
  readonly rkey: number;
  /** Bytes. */
  readonly length: number;
}

/** Memory that a peer may reach until {@link revoke}. */
export class Exposure {
  /** In the order of the fragments: one when they are, or can be made, contiguous; otherwise one for each piece. */
  readonly descriptors: readonly RemoteDescriptor[];
  /** Bytes. */
  readonly length: number;
  readonly #end: () => Promise<void>;
  #revoked: Promise<void> | undefined;

  /** @internal Made by {@link SgeBuilder.expose}. */
  constructor(descriptors: readonly RemoteDescriptor[], end: () => Promise<void>) {
    this.descriptors = descriptors;
    this.length = descriptors.reduce((sum, { length }) => sum + length, 0);
    this.#end = end;
  }

  /** The descriptor, when there is one. @throws RdmaError ERR_INVALID_STATE when there are several */
  get descriptor(): RemoteDescriptor {
    const [only] = this.descriptors;
    if (only === undefined || this.descriptors.length > 1) {
      throw invalidArgument(
        'ERR_INVALID_STATE',
        `the memory has ${this.descriptors.length} descriptors: send them all, or expose memory that is contiguous or page-aligned arena memory`,
      );
    }
    return only;
  }

  /**
   * Takes the keys away; a peer's operation that comes later fails on its side. Resolves when they have gone: from then
   * on the memory is this side's alone. Idempotent.
   */
  revoke(): Promise<void> {
    this.#revoked ??= this.#end();
    return this.#revoked;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.revoke();
  }
}

const REMOTE = Access.REMOTE_READ | Access.REMOTE_WRITE | Access.REMOTE_ATOMIC;

/**
 * Exposes [fragments]: a region of exactly their range, each; or of a window in which their pages stand side by side.
 * Never the arena's key, which would open its whole slab, and never a memory window, which does not confine on rxe.
 * @internal
 */
export async function expose(
  source: {
    readonly pd: DmaPd;
    readonly ops: DmaOps;
    readonly cache: MrCache;
    readonly windows: WindowPool | undefined;
  },
  fragments: Fragments,
  access: number,
): Promise<Exposure> {
  if (!Number.isInteger(access) || (access & REMOTE) === 0) {
    throw invalidArgument(
      'ERR_INVALID_ARG_VALUE',
      `access ${Number.isInteger(access) ? `0x${access.toString(16)}` : String(access)} gives a peer nothing: add REMOTE_READ, REMOTE_WRITE or REMOTE_ATOMIC`,
    );
  }
  const { pieces, total } = toPieces(fragments, source.pd);
  if (total === 0) throw invalidArgument('ERR_INVALID_ARG_VALUE', 'there are no bytes to expose');
  const needed =
    (access & (Access.REMOTE_WRITE | Access.REMOTE_ATOMIC)) !== 0 ? access | Access.LOCAL_WRITE : access;
  const { ops, cache, windows } = source;
  const withRoom = <T>(obtain: () => Promise<T>) =>
    cache.withRoom(obtain, (error) => ops.mappingError(error));
  const release = hold(pieces);
  try {
    if (pieces.length > 1 && windows !== undefined && notLinear(pieces) === undefined) {
      const { addr, rkey, release: unlink } = await withRoom(() => windows.link(pieces, { access: needed }));
      return new Exposure([{ addr, rkey, length: total }], () => unlink().finally(release));
    }
    for (const piece of pieces) checkExposable(piece);
    const mrs = await withRoom(() => ops.mapSg(pieces, needed));
    const descriptors = mrs.map(({ addr, rkey, length }: DmaMr) => ({ addr, rkey, length }));
    return new Exposure(descriptors, () => ops.unmapSg(mrs).finally(release));
  } catch (error) {
    release();
    throw unmappable(pieces, error);
  }
}

function checkExposable({ kind, index }: Piece): void {
  if (kind === 'pool') {
    throw invalidArgument(
      'ERR_INVALID_ARG_VALUE',
      `fragment ${index} is a slice of a shared pool, whose page holds other owners' data: ` +
        'expose memory of its own ArrayBuffer, or of the arena',
      { fragment: index },
    );
  }
  if (kind === 'dmabuf') {
    throw new RdmaError(
      'EOPNOTSUPP',
      `fragment ${index} is dma-buf memory: register it with pd.regDmabufMr()`,
      {
        errno: -95,
        fragment: index,
      },
    );
  }
}

/** Holds arena memory; returns what lets go of it. */
function hold(pieces: readonly Piece[]): () => void {
  const held: Piece[] = [];
  const release = (): void => {
    for (const { slab, offset, length } of held.splice(0)) slab?.blocks.release(offset, length);
  };
  for (const piece of pieces) {
    if (piece.slab?.blocks.hold(piece.offset, piece.length) === false) {
      release();
      throw invalidArgument(
        'ERR_INVALID_STATE',
        `fragment ${piece.index} is a view of arena memory that was freed`,
        { fragment: piece.index },
      );
    }
    held.push(piece);
  }
  return release;
}
