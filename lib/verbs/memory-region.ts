import { addon, type NativeRegion } from '../addon.ts';
import { invalidArgument, systemError } from '../errors.ts';
import { accessNames, checkAccess } from './access.ts';
import { bytesOf, checkMemory } from './check.ts';
import { Access } from './constants.ts';
import type { AdviseOptions } from './mr-advise.ts';
import { Owned, settleGone } from './owned.ts';
import type { ProtectionDomain } from './protection-domain.ts';

/** What {@link MemoryRegion.rereg} changes; what is left out stays. */
export interface MrChange {
  /** Flags of {@link Access}. */
  readonly access?: number;
  /** Of the same device. */
  readonly pd?: ProtectionDomain;
  /** A view, of which exactly the viewed bytes are registered, or a whole buffer. */
  readonly memory?: ArrayBufferView | ArrayBufferLike;
}

/** Registered memory; made by {@link ProtectionDomain.regMr} and its kin. */
export class MemoryRegion extends Owned {
  #pd: ProtectionDomain;
  #native: NativeRegion;
  #access: number;
  #valid = true;
  #gone: Promise<void> | undefined;

  /** @internal */
  constructor(pd: ProtectionDomain, native: NativeRegion, access: number) {
    super('memory region', native.handle);
    this.#pd = pd;
    this.#native = native;
    this.#access = access;
  }

  get pd(): ProtectionDomain {
    return this.#pd;
  }

  /** Address of the first byte in work requests, local and of a peer: the memory's own, or the iova. */
  get addr(): number {
    return this.#native.addr;
  }

  /** Bytes; 2^64 for a region of all addresses. */
  get length(): number {
    return this.#native.length;
  }

  /** Key for SGEs of local work requests. */
  get lkey(): number {
    return this.#native.lkey;
  }

  /** Key for a peer's work requests; 0 on some devices when there is no remote access. */
  get rkey(): number {
    return this.#native.rkey;
  }

  /** Flags of {@link Access}. */
  get access(): number {
    return this.#access;
  }

  /** False when a failed {@link rereg} has left the region in no known state: it can only be closed. */
  get valid(): boolean {
    return this.#valid;
  }

  /**
   * Changes the region (ibv_rereg_mr(3)), on the thread pool. Its keys are refused meanwhile, and may be others
   * afterwards. New memory has its own addresses: an iova is given up.
   *
   * When it fails, the error says what is left: a region as it was; one that has changed all the same, when only the
   * old memory could not be given back to forked children; or, after an error of the device, one that is not
   * {@link valid}.
   *
   * @throws RdmaError EBUSY while work requests, memory windows or another change hold the region; EOPNOTSUPP when the
   *   device's library does not have the call, as that of rxe in rdma-core 44
   */
  async rereg(change: MrChange): Promise<void> {
    const { access, pd, memory } = change;
    if (access === undefined && pd === undefined && memory === undefined) {
      throw invalidArgument('ERR_INVALID_ARG_VALUE', 'rereg: nothing to change; give access, pd or memory');
    }
    if (access !== undefined) {
      checkAccess(access);
      const fixed = Access.ZERO_BASED | Access.ON_DEMAND | Access.HUGETLB;
      if (((access ^ this.#access) & fixed) !== 0) {
        throw invalidArgument(
          'ERR_INVALID_ARG_VALUE',
          `access ${accessNames(access)}: rereg can not change ${accessNames((access ^ this.#access) & fixed)}`,
        );
      }
    }
    const bytes = memory === undefined ? undefined : checkMemory(memory);
    const answer = await addon.reregMr(
      this._handle,
      pd?._handle ?? 0,
      bytes,
      access === undefined ? undefined : access & ~Access.ZERO_BASED,
    );
    this.#valid = answer.valid;
    if (answer.region !== undefined) {
      this.#native = answer.region;
      this.#pd = pd ?? this.#pd;
      this.#access = access ?? this.#access;
      // The new domain was closed meanwhile, and takes the region along.
      if (this.#pd.closed) super.close();
      if (bytes !== undefined) this.#access &= ~Access.ZERO_BASED;
    }
    if (answer.errno !== 0) throw systemError('ibv_rereg_mr', answer.errno, answer.detail);
  }

  /**
   * Tells the device which parts of this ON_DEMAND region will be used (ibv_advise_mr(3)).
   *
   * @param advice one of {@link Advice}
   * @param ranges addresses as the region is addressed; default: all of it
   * @throws RdmaError as {@link ProtectionDomain.adviseMr}
   */
  advise(
    advice: number,
    ranges: readonly { readonly addr: number; readonly length: number }[] = [this],
    options: AdviseOptions = {},
  ): Promise<void> {
    const { lkey } = this;
    return this.#pd.adviseMr(
      advice,
      ranges.map(({ addr, length }) => ({ addr, length, lkey })),
      options,
    );
  }

  /**
   * Ends the registration (ibv_dereg_mr(3)): its keys are refused from now on, windows that are bound to it are closed,
   * and it goes, off the event loop, when the last work request that uses it has completed. Idempotent.
   *
   * @returns resolves when the registration has gone
   */
  override close(): Promise<void> {
    if (!this.closed) {
      this.#gone = addon.whenMrGone(this._handle);
      super.close();
    }
    return this.#gone ?? Promise.resolve();
  }

  /**
   * {@link close} for each of [regions], with one native call and one piece of work for the thread pool.
   *
   * @returns resolves when all of the registrations have gone
   */
  static closeAll(regions: Iterable<MemoryRegion>): Promise<void> {
    const open: MemoryRegion[] = [];
    const closing: Promise<void>[] = [];
    for (const region of regions) {
      if (!region.closed) open.push(region);
      else if (region.#gone !== undefined) closing.push(region.#gone);
    }
    if (open.length > 0) {
      const [handles, gone] = addon.closeRegions(Uint32Array.from(open, (region) => region._handle));
      for (const region of open) {
        region.#gone = gone;
        region._forget();
      }
      settleGone(handles);
      closing.push(gone);
    }
    return closing.length === 1 ? closing[0]! : Promise.all(closing).then(() => undefined);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** Memory of a memfd that was registered when it was made; made by {@link ProtectionDomain.allocSlab}. */
export class MemorySlab {
  readonly mr: MemoryRegion;
  /** The only ArrayBuffer over the memory; views of it stay valid, but not registered, after {@link close}. */
  readonly buffer: ArrayBuffer;

  /** @internal */
  constructor(mr: MemoryRegion, buffer: ArrayBuffer) {
    this.mr = mr;
    this.buffer = buffer;
  }

  get addr(): number {
    return this.mr.addr;
  }

  /** Bytes. */
  get length(): number {
    return this.mr.length;
  }

  /** Ends the registration; see {@link MemoryRegion.close}. */
  close(): Promise<void> {
    return this.mr.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** Address of a view's first byte: for tools and tests. It is the device's only while the memory is registered. */
export function addressOf(view: ArrayBufferView): number {
  return addon.addressOf(bytesOf('view', view));
}
