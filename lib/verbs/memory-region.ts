import { addon, type NativeRegion } from '../addon.ts';
import { bytesOf } from './check.ts';
import { Owned } from './owned.ts';
import type { ProtectionDomain } from './protection-domain.ts';

/** Registered memory; made by {@link ProtectionDomain.regMr}. */
export class MemoryRegion extends Owned {
  readonly pd: ProtectionDomain;
  /** Address of the first byte; as remote address of a peer's work requests too. */
  readonly addr: number;
  /** Bytes. */
  readonly length: number;
  /** Key for SGEs of local work requests. */
  readonly lkey: number;
  /** Key for a peer's work requests; 0 on some devices when there is no remote access. */
  readonly rkey: number;
  /** Flags of {@link Access}. */
  readonly access: number;
  #gone: Promise<void> | undefined;

  /** @internal */
  constructor(pd: ProtectionDomain, native: NativeRegion, access: number) {
    super('memory region', native.handle);
    this.pd = pd;
    this.addr = native.addr;
    this.length = native.length;
    this.lkey = native.lkey;
    this.rkey = native.rkey;
    this.access = access;
  }

  /**
   * Ends the registration (ibv_dereg_mr(3)): its keys are refused from now on, and it goes, off the event loop, when
   * the last work request that uses it has completed. Idempotent.
   *
   * @returns resolves when the registration has gone
   */
  override close(): Promise<void> {
    if (!this.closed) this.#gone = addon.closeMr(this._forget());
    return this.#gone ?? Promise.resolve();
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
