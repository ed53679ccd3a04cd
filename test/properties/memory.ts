/** Memory for random fragment lists: where fragments lie, and what all of it must look like afterwards. */
import type { Arena, ArenaBuffer, Fragment } from '../../lib/dma/index.ts';

/** Fills everything that is not payload. */
export const GUARD = 0xa5;

/** Guarded bytes behind the last fragment of a place. */
const BEYOND = 8192;

const PAGE = 4096;
const KiB = 1024;

/**
 * Where a fragment lies:
 * - `arena`: in one large arena block, beside the others; `block`: a block of its own, handed over as ArenaBuffer.
 * - `kept`, `shared`: in an ArrayBuffer or SharedArrayBuffer that all cases use, so that it is cached some time.
 * - `fresh`, `freshShared`: in memory of its own.
 * - `pool`: in a small ArrayBuffer with others. `other`: in the arena of another protection domain.
 */
export const places = ['arena', 'block', 'kept', 'shared', 'fresh', 'freshShared', 'pool', 'other'] as const;
export type Place = (typeof places)[number];

/** What a fragment is handed over as. */
export const forms = ['Uint8Array', 'Buffer', 'DataView', 'Int16Array', 'Float64Array', 'whole'] as const;
export type Form = (typeof forms)[number];

/** One fragment of a random list. */
export interface FragmentSpec {
  readonly place: Place;
  readonly form: Form;
  /** Bytes between it and the one before in the same place; 0: a neighbour. */
  readonly gap: number;
  /** It starts on a page. */
  readonly paged: boolean;
  /** Bytes; fewer where the form or the place does not have so many. */
  readonly length: number;
}

/** Memory that all cases use. */
export interface Grounds {
  readonly arena: Arena;
  readonly block: ArenaBuffer;
  readonly other: ArenaBuffer;
  readonly kept: ArrayBuffer;
  readonly shared: SharedArrayBuffer;
}

/** Makes {@link Grounds} for cases of up to [bytes]; release them with {@link releaseGrounds}. */
export async function makeGrounds(arena: Arena, other: Arena, bytes: number): Promise<Grounds> {
  const room = bytes + 512 * KiB;
  return {
    arena,
    block: await arena.alloc(room),
    other: await other.alloc(room),
    kept: new ArrayBuffer(room),
    shared: new SharedArrayBuffer(room),
  };
}

export function releaseGrounds({ block, other }: Grounds): void {
  block.free();
  other.free();
}

/** A stretch of memory that holds fragments, with room between and behind them. */
interface Site {
  readonly bytes: Buffer;
  end: number;
}

interface Placed {
  readonly fragment: Fragment;
  readonly site: Site;
  readonly offset: number;
  readonly length: number;
}

const elementSize: Partial<Record<Form, number>> = { Int16Array: 2, Float64Array: 8 };

/** The fragments of a case, laid out. */
export class FragmentList {
  readonly #placed: Placed[] = [];
  readonly #sites = new Map<unknown, Site>();
  readonly #blocks: ArenaBuffer[] = [];
  readonly #grounds: Grounds;

  private constructor(grounds: Grounds) {
    this.#grounds = grounds;
  }

  /** Lays out [specs]. {@link release} it. */
  static async make(grounds: Grounds, specs: readonly FragmentSpec[]): Promise<FragmentList> {
    const list = new FragmentList(grounds);
    for (const spec of specs) list.#placed.push(await list.#place(spec));
    return list;
  }

  get fragments(): Fragment[] {
    return this.#placed.map(({ fragment }) => fragment);
  }

  get count(): number {
    return this.#placed.length;
  }

  /** Bytes of the first [count] fragments. */
  total(count = this.count): number {
    return this.#placed.slice(0, count).reduce((sum, { length }) => sum + length, 0);
  }

  /** Guards everywhere, [payload] in the fragments as far as it goes. */
  fill(payload: Uint8Array): void {
    for (const site of this.#sites.values()) site.bytes.fill(GUARD, 0, extentOf(site));
    this.#spread(payload, (site) => site.bytes);
  }

  /** What is wrong when everything should be as after {@link fill} with [payload]; undefined when nothing is. */
  flaw(payload: Uint8Array): string | undefined {
    const wanted = new Map<Site, Buffer>();
    for (const site of this.#sites.values()) wanted.set(site, Buffer.alloc(extentOf(site), GUARD));
    this.#spread(payload, (site) => wanted.get(site)!);
    for (const [site, image] of wanted) {
      const at = difference(site.bytes, image);
      if (at === undefined) continue;
      const index = this.#placed.findIndex(
        (one) => one.site === site && at >= one.offset && at < one.offset + one.length,
      );
      const where =
        index < 0
          ? 'outside of the fragments'
          : `in fragment ${index} at ${at - this.#placed[index]!.offset}`;
      return `byte ${at} of its place (${where}) is ${site.bytes[at]}, not ${image[at]}`;
    }
    return undefined;
  }

  release(): void {
    for (const block of this.#blocks.splice(0)) block.free();
  }

  #spread(payload: Uint8Array, target: (site: Site) => Buffer): void {
    let at = 0;
    for (const { site, offset, length } of this.#placed) {
      target(site).set(payload.subarray(at, at + length), offset);
      at += length;
    }
  }

  async #place(spec: FragmentSpec): Promise<Placed> {
    const { place, form, length } = spec;
    const { arena, block, other, kept, shared } = this.#grounds;
    if (place === 'arena') return this.#inside('arena', block.bytes, spec);
    if (place === 'other') return this.#inside('other', other.bytes, spec);
    if (place === 'kept') return this.#inside('kept', Buffer.from(kept), spec);
    if (place === 'shared') return this.#inside('shared', Buffer.from(shared), spec);
    if (place === 'pool') {
      return this.#inside('pool', this.#sites.get('pool')?.bytes ?? Buffer.from(new ArrayBuffer(32 * KiB)), {
        ...spec,
        length: length % 700,
        gap: spec.gap % 100,
        paged: false,
      });
    }
    if (place === 'block') {
      const own = await arena.alloc(Math.max(1, length));
      this.#blocks.push(own);
      const site = { bytes: own.bytes, end: own.length };
      this.#sites.set(own, site);
      return { fragment: own, site, offset: 0, length: own.length };
    }
    const Memory = place === 'fresh' ? ArrayBuffer : SharedArrayBuffer;
    if (form === 'whole') {
      const memory = new Memory(length);
      const site = { bytes: Buffer.from(memory), end: length };
      this.#sites.set(memory, site);
      return { fragment: memory, site, offset: 0, length };
    }
    // More than a pool slice may have, so that it is foreign memory.
    const memory = new Memory(Math.max(length + spec.gap + PAGE + BEYOND, 65 * KiB));
    return this.#inside(memory, Buffer.from(memory), spec);
  }

  #inside(key: unknown, bytes: Buffer, { gap, paged, form, length }: FragmentSpec): Placed {
    const site = this.#sites.get(key) ?? { bytes, end: 0 };
    this.#sites.set(key, site);
    const unit = elementSize[form] ?? 1;
    const align = paged ? PAGE - (bytes.byteOffset % PAGE) : 0;
    let offset = site.end + gap;
    if (paged) offset = Math.ceil((offset - align) / PAGE) * PAGE + align;
    offset += (unit - ((bytes.byteOffset + offset) % unit)) % unit;
    const fits = Math.max(0, Math.min(length - (length % unit), bytes.length - offset));
    const taken = fits - (fits % unit);
    if (taken === 0) offset = Math.min(offset, bytes.length);
    site.end = Math.max(site.end, offset + taken);
    return { fragment: viewOf(bytes, offset, taken, form), site, offset, length: taken };
  }
}

function extentOf({ bytes, end }: Site): number {
  return Math.min(bytes.length, end + BEYOND);
}

function viewOf(bytes: Buffer, offset: number, length: number, form: Form): ArrayBufferView {
  const start = bytes.byteOffset + offset;
  if (form === 'DataView') return new DataView(bytes.buffer, start, length);
  if (form === 'Int16Array' && start % 2 === 0) return new Int16Array(bytes.buffer, start, length / 2);
  if (form === 'Float64Array' && start % 8 === 0) return new Float64Array(bytes.buffer, start, length / 8);
  if (form === 'Uint8Array') return new Uint8Array(bytes.buffer, start, length);
  return Buffer.from(bytes.buffer, start, length);
}

/** First byte in which [bytes] is not [image], which is no longer; undefined when there is none. */
export function difference(bytes: Buffer, image: Buffer): number | undefined {
  if (bytes.compare(image, 0, image.length, 0, image.length) === 0) return undefined;
  let at = 0;
  while (bytes[at] === image[at]) at++;
  return at;
}
