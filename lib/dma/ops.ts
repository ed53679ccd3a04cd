// How devices of one kind reach memory: the user-space form of the kernel's ib_dma_*() calls (include/rdma/ib_verbs.h).

import type { RdmaError } from '../errors.ts';
import type { ArenaBuffer } from './arena.ts';
import { type Piece, unmappable } from './fragments.ts';
import { MAX_SGE_BYTES } from './layout.ts';
import type { DmaLocalKey, DmaMr, DmaPd } from './types.ts';

/** Memory with a key, without a registration of its own. */
export interface Keyed {
  readonly addr: number;
  readonly lkey: number;
}

/**
 * The operations on mappings. The kernel's names; what they do differs as user space does: the device takes addresses of
 * the process, and what has to be obtained is a key.
 */
export interface DmaOps {
  /**
   * - `soft`: a driver of the kernel moves the bytes (rxe, siw); no memory of other devices.
   * - `pinned`: registration pins pages.
   * - `odp`: one region covers all memory (implicit on-demand paging): everything is keyed.
   * - `fake`: for tests without a device.
   */
  readonly kind: 'soft' | 'pinned' | 'odp' | 'fake';
  /** Most bytes of one mapped segment. */
  readonly maxSegSize: number;
  /** Whether the device reaches memory of other devices (dma-buf fragments). */
  readonly p2pSupported: boolean;
  /** The key that reaches [piece] as it is; undefined when it has to be registered or copied. */
  localKey(piece: Piece): Keyed | undefined;
  /** Registers. Rejects with the error of ibv_reg_mr(3). */
  mapSingle(view: Uint8Array, access: number): Promise<DmaMr>;
  unmapSingle(mr: DmaMr): Promise<void>;
  /** Registers each of [pieces], or none and rejects with the first error, which names the fragment. */
  mapSg(pieces: readonly Piece[], access: number): Promise<DmaMr[]>;
  unmapSg(mrs: readonly DmaMr[]): Promise<void>;
  /** True for the failures of mapping that pass when others let go of memory (RLIMIT_MEMLOCK, kernel memory). */
  mappingError(error: unknown): boolean;
  /** Makes what the CPU wrote into [pieces] visible to the device: copies it into the bounce block. */
  syncForDevice(block: ArenaBuffer, pieces: readonly Piece[]): void;
  /**
   * Makes the first [byteLen] bytes of the transfer that the device wrote visible in [pieces]: copies them out of the
   * bounce block. Returns the bytes copied. Throws ERR_INVALID_STATE for memory that was detached meanwhile.
   */
  syncForCpu(block: ArenaBuffer, pieces: readonly Piece[], byteLen: number): number;
}

/** {@link DmaOps} over the registration calls of a protection domain. */
class RegistrationOps implements DmaOps {
  readonly kind: DmaOps['kind'];
  readonly maxSegSize = MAX_SGE_BYTES;
  readonly p2pSupported: boolean;
  readonly #pd: DmaPd;
  readonly #whole: DmaLocalKey | undefined;
  #leaving: DmaMr[] = [];
  #gone: Promise<void> | undefined;

  constructor(pd: DmaPd, kind: DmaOps['kind'], whole: DmaLocalKey | undefined) {
    this.#pd = pd;
    this.#whole = whole;
    this.kind = kind;
    // Soft drivers copy with the CPU and refuse before any call: rxe and siw have no reg_user_mr_dmabuf.
    this.p2pSupported = kind !== 'soft' && pd.device.caps.dmaBuf;
  }

  localKey(piece: Piece): Keyed | undefined {
    if (piece.kind === 'arena') {
      const { slab, offset } = piece;
      return { addr: slab!.addr + offset, lkey: slab!.lkey };
    }
    const whole = this.#whole;
    if (whole === undefined || piece.kind === 'dmabuf') return undefined;
    return { addr: whole.addressOf(piece.view()), lkey: whole.lkey };
  }

  mapSingle(view: Uint8Array, access: number): Promise<DmaMr> {
    return this.#pd.regMr(view, access);
  }

  /** With what else is unmapped in this turn of the microtask queue: all that one poll of a completion queue has retired. */
  unmapSingle(mr: DmaMr): Promise<void> {
    return this.#unmap([mr]);
  }

  async mapSg(pieces: readonly Piece[], access: number): Promise<DmaMr[]> {
    const register = async (piece: Piece): Promise<DmaMr> => {
      try {
        return await this.mapSingle(piece.view(), access);
      } catch (error) {
        throw unmappable([piece], error);
      }
    };
    const results = await Promise.allSettled(pieces.map(register));
    const mrs = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
    const failure = results.find((result) => result.status === 'rejected');
    if (failure === undefined) return mrs;
    await this.unmapSg(mrs);
    throw failure.reason;
  }

  unmapSg(mrs: readonly DmaMr[]): Promise<void> {
    return this.#unmap(mrs);
  }

  #unmap(mrs: readonly DmaMr[]): Promise<void> {
    this.#leaving.push(...mrs);
    this.#gone ??= Promise.resolve().then(() => {
      const leaving = this.#leaving;
      this.#leaving = [];
      this.#gone = undefined;
      if (this.#pd.deregMrs !== undefined) return this.#pd.deregMrs(leaving);
      return Promise.all(leaving.map((mr) => mr.close())).then(() => undefined);
    });
    return this.#gone;
  }

  mappingError(error: unknown): boolean {
    const { code } = error as RdmaError;
    // EPERM: a limit of 0 (kernel mm/mlock.c can_do_mlock).
    return code === 'ENOMEM' || code === 'EPERM';
  }

  syncForDevice(block: ArenaBuffer, pieces: readonly Piece[]): void {
    let at = block.offset;
    for (const piece of pieces) {
      block.slab.bytes.set(piece.view(), at);
      at += piece.length;
    }
  }

  syncForCpu(block: ArenaBuffer, pieces: readonly Piece[], byteLen: number): number {
    let at = block.offset;
    let copied = 0;
    for (const piece of pieces) {
      const arrived = Math.min(piece.length, byteLen - piece.position);
      if (arrived <= 0) break;
      piece.view().set(block.slab.bytes.subarray(at, at + arrived));
      at += piece.length;
      copied += arrived;
    }
    return copied;
  }
}

const SOFT_PROVIDERS = new Set(['rxe', 'siw']);
const chosen = new WeakMap<DmaPd, DmaOps>();

/** Whether the operations for [pd] have been chosen. @internal */
export function knowsDmaOps(pd: DmaPd): boolean {
  return chosen.has(pd);
}

/** The operations for [pd], chosen at the first call by its device, and by [whole], the key for all memory. */
export function dmaOpsOf(pd: DmaPd, whole?: DmaLocalKey): DmaOps {
  const known = chosen.get(pd);
  if (known !== undefined) return known;
  let kind: DmaOps['kind'] = 'pinned';
  if (whole !== undefined) kind = 'odp';
  else if (SOFT_PROVIDERS.has(pd.device.provider)) kind = 'soft';
  const ops = new RegistrationOps(pd, kind, whole);
  chosen.set(pd, ops);
  return ops;
}

/** Makes [pd] use [ops]; before it is first used. For tests without a device. @internal */
export function setDmaOps(pd: DmaPd, ops: DmaOps): void {
  chosen.set(pd, ops);
}
