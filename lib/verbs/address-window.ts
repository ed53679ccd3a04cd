import { addon } from '../addon.ts';
import { invalidArgument } from '../errors.ts';
import { checkInteger } from './check.ts';
import { Access } from './constants.ts';
import { MemoryRegion, type MemorySlab } from './memory-region.ts';
import { Owned } from './owned.ts';
import type { ProtectionDomain } from './protection-domain.ts';

/** Pages of a slab for a window; offsets and length are multiples of the page size, bytes. */
export interface WindowLink {
  /** Where in the window. */
  readonly offset: number;
  readonly slab: MemorySlab;
  readonly slabOffset: number;
  readonly length: number;
}

/**
 * Addresses in which pages of slabs are mapped a second time, side by side, so that one region and one SGE reach
 * discontiguous memory: what an IOMMU does for the kernel. Made by {@link ProtectionDomain.reserveWindow}.
 *
 * A region over a window that is not ON_DEMAND keeps the pages that it was made with, whatever is linked later, and the
 * device would go on writing to them: while such a region is open, the window cannot be linked or unlinked.
 */
export class AddressWindow extends Owned {
  readonly pd: ProtectionDomain;
  readonly addr: number;
  /** Bytes. */
  readonly length: number;
  readonly #pinned = new Set<MemoryRegion>();

  /** @internal */
  constructor(pd: ProtectionDomain, [handle, addr]: [number, number], length: number) {
    super('address window', handle);
    this.pd = pd;
    this.addr = addr;
    this.length = length;
  }

  /**
   * Maps all of [links], or none.
   *
   * @throws RdmaError ERR_INVALID_STATE under a region that is not ON_DEMAND; EINVAL for what is not whole pages inside
   *   window and slab; ENOMEM for too many mappings (sysctl vm.max_map_count)
   */
  link(links: readonly WindowLink[]): void {
    this.#checkFree('link');
    const words = new Uint32Array(links.length * 4);
    for (const [i, { offset, slab, slabOffset, length }] of links.entries()) {
      words.set([offset, slab.mr._handle, slabOffset, length], i * 4);
    }
    addon.linkWindow(this._handle, words);
  }

  /** Makes a range inaccessible again. @throws RdmaError as {@link link} */
  unlink(offset: number, length: number): void {
    checkInteger('offset', offset, 0, this.length);
    checkInteger('length', length, 1, this.length - offset);
    this.#checkFree('unlink');
    addon.unlinkWindow(this._handle, offset, length);
  }

  /**
   * Registers a range; with ON_DEMAND also one that is not linked yet, and for ever.
   *
   * @param options.wholePages as of {@link ProtectionDomain.regMr}
   * @throws RdmaError as {@link ProtectionDomain.regMr}; EFAULT for a range that is not linked, without ON_DEMAND
   */
  async register(
    offset: number,
    length: number,
    access: number,
    options: { readonly wholePages?: boolean } = {},
  ): Promise<MemoryRegion> {
    checkInteger('offset', offset, 0, this.length - 1);
    checkInteger('length', length, 1, this.length - offset);
    checkInteger('access', access, 0, 0xffff_ffff);
    const region = new MemoryRegion(
      this.pd,
      await addon.regWindow(this._handle, offset, length, access, options.wholePages === true),
      access,
    );
    if ((access & Access.ON_DEMAND) === 0) this.#pinned.add(region);
    return region;
  }

  #checkFree(what: string): void {
    for (const region of this.#pinned) {
      if (region.closed) this.#pinned.delete(region);
    }
    if (this.#pinned.size === 0) return;
    throw invalidArgument(
      'ERR_INVALID_STATE',
      `${what}: ${this.#pinned.size} regions over the window hold its pages; close them first, or register with ON_DEMAND`,
    );
  }
}
