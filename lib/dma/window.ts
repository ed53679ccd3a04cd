// The user-space IOMMU: discontiguous pages of arena slabs made one stretch of addresses with one key.

import { readFileSync } from 'node:fs';
import { RdmaError } from '../errors.ts';
import { Access } from '../verbs/constants.ts';
import { blockSize } from './buddy.ts';
import type { Piece } from './fragments.ts';
import { odpFromPageStart, PAGE_BYTES } from './quirks.ts';
import { type DmaMr, type DmaPd, type DmaQp, type DmaWindow, type PageLink, pagesOnDemand } from './types.ts';

/** Smallest window. Windows are powers of two, and kept for the next transfer. */
const LEAST_WINDOW_BYTES = 64 * 1024;

/** Largest window, and so the longest linear transfer. */
export const MAX_WINDOW_BYTES = 2 ** 31;

/** Idle windows kept for each size. */
const KEPT_IDLE = 8;

/** Share of the mappings that a process may have (vm.max_map_count) that windows may take. */
const MAPPINGS_SHARE = 0.5;

/** Why fragments cannot be made linear: the fragment, and what about it. */
export interface NotLinear {
  /** Index of the fragment. */
  readonly index: number;
  /** `start`, `end`: not on a page boundary where another fragment adjoins; `foreign`: not arena memory. */
  readonly flaw: 'start' | 'end' | 'foreign';
  readonly text: string;
}

/**
 * Why [next] cannot follow [previous] in one stretch of pages; undefined when it can. All fragments must be arena memory,
 * every start but the first and every end but the last on a page boundary (4096 bytes).
 * @see kernel Documentation/core-api/dma-api.rst, dma_iova_link()
 */
export function notLinearAfter(previous: Piece | undefined, next: Piece): NotLinear | undefined {
  const { index } = next;
  if (next.kind !== 'arena') {
    return {
      index,
      flaw: 'foreign',
      text: `fragment ${index} is ${next.kind} memory: only arena memory has pages that can be mapped twice`,
    };
  }
  if (previous === undefined) return undefined;
  const over = (previous.offset + previous.length) % PAGE_BYTES;
  if (over !== 0) {
    return {
      index: previous.index,
      flaw: 'end',
      text: `fragment ${previous.index} ends ${over} bytes into a page, and fragment ${index} follows`,
    };
  }
  const start = next.offset % PAGE_BYTES;
  if (start === 0) return undefined;
  return { index, flaw: 'start', text: `fragment ${index} starts ${start} bytes into a page` };
}

/** The first reason why [pieces] are not linear. */
export function notLinear(pieces: readonly Piece[]): NotLinear | undefined {
  let previous: Piece | undefined;
  for (const piece of pieces) {
    const why = notLinearAfter(previous, piece);
    if (why !== undefined) return why;
    previous = piece;
  }
  return undefined;
}

/** Pages that a piece touches. */
export function pagesOf({ offset, length }: Piece): number {
  return Math.ceil((offset + length) / PAGE_BYTES) - Math.floor(offset / PAGE_BYTES);
}

/** Bytes of the pages that [pieces] touch, in a row. */
export function windowBytes(pieces: readonly Piece[]): number {
  return pieces.reduce((pages, piece) => pages + pagesOf(piece), 0) * PAGE_BYTES;
}

/** Fragments linked in a window. @internal */
export interface LinearLease {
  /** Address of the first byte. */
  readonly addr: number;
  readonly lkey: number;
  readonly rkey: number;
  /** Ends it, once. Resolves when the window can be used again. */
  release(): Promise<void>;
}

class PooledWindow {
  readonly memory: DmaWindow;
  /** The region that covers all of it for ever (on-demand paging). */
  region: DmaMr | undefined;
  /** Bytes linked now, from the start. */
  linked = 0;
  links = 0;

  constructor(memory: DmaWindow) {
    this.memory = memory;
  }
}

const pools = new WeakMap<DmaPd, WindowPool>();

/**
 * Windows of a protection domain. Where the device has on-demand paging, a window is registered once and relinked under
 * the same key, as an IOMMU's range is; elsewhere it is registered after linking and deregistered before.
 */
export class WindowPool {
  readonly pd: DmaPd;
  readonly #idle = new Map<number, PooledWindow[]>();
  #windows = 0;
  #links = 0;
  #mostLinks: number | undefined;

  /** The pool of [pd]; undefined when it has no windows. @internal */
  static for(pd: DmaPd): WindowPool | undefined {
    if (pd.reserveWindow === undefined) return undefined;
    const known = pools.get(pd);
    if (known !== undefined) return known;
    const pool = new WindowPool(pd);
    pools.set(pd, pool);
    return pool;
  }

  constructor(pd: DmaPd) {
    this.pd = pd;
  }

  /** Windows made, and links that stand now. */
  get stats(): { readonly windows: number; readonly links: number } {
    return { windows: this.#windows, links: this.#links };
  }

  /** Closes the windows that are not in use, and their regions. */
  async clear(): Promise<void> {
    const idle = [...this.#idle.values()].flat();
    this.#idle.clear();
    this.#windows -= idle.length;
    await Promise.all(idle.map(closeWindow));
  }

  /**
   * True when a transfer of [pieces] over [qp] needs no registration of its own.
   *
   * rxe copies to and from the start of an on-demand page, whatever the offset in it (kernel sw/rxe/rxe_odp.c
   * __rxe_odp_mr_copy): there every packet must start with a page. Packets are of the path's MTU, which may be less than
   * the port's and is known once the queue pair is connected.
   */
  standing(pieces: readonly Piece[], qp: DmaQp): boolean {
    const { device } = this.pd;
    if (!pagesOnDemand(device)) return false;
    if (!odpFromPageStart(device.provider)) return true;
    return pieces[0]!.offset % PAGE_BYTES === 0 && (qp.query().pathMtu ?? 1) % PAGE_BYTES === 0;
  }

  /**
   * Links [pieces], which {@link notLinear} and {@link standing} have passed, under a local key when an idle window of that
   * size is registered already; undefined when {@link link} has to be awaited.
   */
  tryLink(pieces: readonly Piece[]): LinearLease | undefined {
    const size = sizeFor(pieces);
    const idle = this.#idle.get(size);
    const window = idle?.[idle.length - 1];
    if (window?.region === undefined) return undefined;
    this.#relink(window, pieces);
    idle!.pop();
    return this.#onDemandLease(window, size, window.region, pieces);
  }

  /**
   * Links [pieces] and obtains a key: the window's own, local one where [standing] allows it, otherwise a new one with
   * [access].
   *
   * @throws RdmaError ENOMEM for too many mappings (vm.max_map_count) or locked memory; nothing stays linked then
   */
  async link(
    pieces: readonly Piece[],
    { standing = false, access = Access.LOCAL_WRITE as number } = {},
  ): Promise<LinearLease> {
    const size = sizeFor(pieces);
    const window = this.#take(size, standing);
    try {
      if (standing) {
        window.region ??= await window.memory.register(0, size, Access.LOCAL_WRITE | Access.ON_DEMAND, {
          wholePages: true,
        });
        this.#relink(window, pieces);
        return this.#onDemandLease(window, size, window.region, pieces);
      }
      this.#relink(window, pieces);
      const mr = await window.memory.register(pieces[0]!.offset % PAGE_BYTES, bytesOf(pieces), access);
      return this.#lease(window, size, mr, pieces, () => mr.close());
    } catch (error) {
      this.#unlink(window);
      this.#give(window, size);
      throw error;
    }
  }

  #onDemandLease(window: PooledWindow, size: number, mr: DmaMr, pieces: readonly Piece[]): LinearLease {
    return this.#lease(window, size, mr, pieces, undefined);
  }

  #lease(
    window: PooledWindow,
    size: number,
    mr: DmaMr,
    pieces: readonly Piece[],
    close: (() => Promise<void>) | undefined,
  ): LinearLease {
    const end = (): void => {
      this.#unlink(window);
      this.#give(window, size);
    };
    return {
      addr: window.memory.addr + (pieces[0]!.offset % PAGE_BYTES),
      lkey: mr.lkey,
      rkey: mr.rkey,
      release: () => {
        // The pages of a pinned region must not be unlinked under it.
        if (close !== undefined) return close().then(end);
        end();
        return Promise.resolve();
      },
    };
  }

  /** An idle window of [size]; one with a standing region only when that is what is wanted. */
  #take(size: number, standing: boolean): PooledWindow {
    const idle = this.#idle.get(size) ?? [];
    const at = idle.findIndex((window) => standing || window.region === undefined);
    if (at >= 0) return idle.splice(at, 1)[0]!;
    this.#windows++;
    return new PooledWindow(this.pd.reserveWindow!(size));
  }

  #give(window: PooledWindow, size: number): void {
    if (window.memory.closed) {
      this.#windows--;
      return;
    }
    const idle = this.#idle.get(size) ?? [];
    this.#idle.set(size, idle);
    if (idle.length < KEPT_IDLE) {
      idle.push(window);
      return;
    }
    this.#windows--;
    closeWindow(window).catch((error: Error) => process.emitWarning(error));
  }

  #relink(window: PooledWindow, pieces: readonly Piece[]): void {
    const links = linksOf(pieces);
    this.#mostLinks ??= mappingsAllowed();
    if (this.#links + links.length > this.#mostLinks) {
      throw new RdmaError(
        'ENOMEM',
        `a linear transfer of ${links.length} pieces would make ${this.#links + links.length} mappings, more than ` +
          `${this.#mostLinks}; raise vm.max_map_count, or use fewer pieces`,
        { errno: -12, syscall: 'mmap' },
      );
    }
    window.memory.link(links);
    window.links = links.length;
    window.linked = windowBytes(pieces);
    this.#links += links.length;
  }

  #unlink(window: PooledWindow): void {
    if (window.linked === 0) return;
    if (!window.memory.closed) window.memory.unlink(0, window.linked);
    this.#links -= window.links;
    window.linked = 0;
    window.links = 0;
  }
}

async function closeWindow({ region, memory }: PooledWindow): Promise<void> {
  await region?.close();
  memory.close();
}

function sizeFor(pieces: readonly Piece[]): number {
  const bytes = windowBytes(pieces);
  if (bytes > MAX_WINDOW_BYTES) {
    throw new RdmaError(
      'EMSGSIZE',
      `${bytes} bytes of pages exceed the largest window, ${MAX_WINDOW_BYTES}`,
      {
        errno: -90,
      },
    );
  }
  return Math.max(LEAST_WINDOW_BYTES, blockSize(bytes));
}

function bytesOf(pieces: readonly Piece[]): number {
  return pieces.reduce((sum, { length }) => sum + length, 0);
}

/** Whole pages, in order. */
function linksOf(pieces: readonly Piece[]): PageLink[] {
  let at = 0;
  return pieces.map(({ slab, offset, length }) => {
    const start = offset - (offset % PAGE_BYTES);
    const bytes = Math.ceil((offset + length) / PAGE_BYTES) * PAGE_BYTES - start;
    const link = { offset: at, slab: slab!.memory, slabOffset: start, length: bytes };
    at += bytes;
    return link;
  });
}

function mappingsAllowed(): number {
  let most = 65530;
  try {
    most = Number(readFileSync('/proc/sys/vm/max_map_count', 'utf8'));
  } catch {
    // Not there: the kernel's default.
  }
  return Math.floor(most * MAPPINGS_SHARE);
}
