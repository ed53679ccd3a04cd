/** What the addon exports for address windows. Handles are 31-bit numbers that name native objects of this thread. */
import type { NativeRegion } from './memory.ts';

/** @internal */
export interface AddressWindowAddon {
  reserveWindow(pd: number, bytes: number): [handle: number, addr: number];
  /** Four words for each link: offset, handle of the slab's region, offset in the slab, bytes. */
  linkWindow(window: number, links: Uint32Array): void;
  unlinkWindow(window: number, offset: number, bytes: number): void;
  regWindow(
    window: number,
    offset: number,
    bytes: number,
    access: number,
    wholePages: boolean,
  ): Promise<NativeRegion>;
}
