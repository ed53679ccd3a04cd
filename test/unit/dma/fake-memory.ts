// Fakes: no device, no addon. Memory has made-up addresses, and regions over it check keys, ranges and access as a device would.

import type { DmaMr, DmaPd, DmaSlab, DmaWindow, PageLink } from '../../../lib/dma/types.ts';
import { RdmaError, WcStatus } from '../../../lib/errors.ts';

export class FakeMr implements DmaMr {
  closed = false;
  readonly pd: FakePd;
  readonly addr: number;
  readonly length: number;
  readonly lkey: number;
  readonly rkey: number;
  readonly access: number;
  readonly view: Uint8Array;

  constructor(pd: FakePd, view: Uint8Array, access: number, key: number, addr = pd.addressOf(view)) {
    this.pd = pd;
    this.view = view;
    this.addr = addr;
    this.length = view.byteLength;
    this.lkey = key;
    this.rkey = key + 0x1000;
    this.access = access;
  }

  /** The memory from byte [at], in one piece or in several. */
  parts(at: number, length: number): Uint8Array[] {
    return [this.view.subarray(at, at + length)];
  }

  async close(): Promise<void> {
    await undefined;
    if (!this.closed) this.pd.live.delete(this);
    this.closed = true;
  }
}

/** A region over a window: its bytes are where the links say, at the time of the access. */
class FakeWindowMr extends FakeMr {
  readonly #window: FakeWindow;
  readonly #start: number;

  constructor(pd: FakePd, window: FakeWindow, start: number, length: number, access: number, key: number) {
    super(pd, new Uint8Array(length), access, key, window.addr + start);
    this.#window = window;
    this.#start = start;
  }

  override parts(at: number, length: number): Uint8Array[] {
    return this.#window.parts(this.#start + at, length);
  }
}

/** A region over several stretches of memory, one behind the other. */
class FakePartsMr extends FakeMr {
  readonly #parts: readonly Uint8Array[];

  constructor(pd: FakePd, parts: readonly Uint8Array[], access: number, key: number) {
    super(pd, new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0)), access, key, 0);
    this.#parts = parts;
  }

  override parts(at: number, length: number): Uint8Array[] {
    let start = 0;
    return this.#parts.flatMap((part) => {
      const own = part.subarray(Math.max(0, at - start), Math.max(0, at + length - start));
      start += part.length;
      return own.length === 0 ? [] : [own];
    });
  }
}

/** A region over all memory: its bytes are those of any buffer that has an address. */
class FakeWholeMr extends FakeMr {
  constructor(pd: FakePd, access: number, key: number) {
    super(pd, new Uint8Array(0), access, key, 0);
    Object.defineProperty(this, 'length', { value: 2 ** 53 });
  }

  override parts(at: number, length: number): Uint8Array[] {
    return [this.pd.memoryAt(at, length)];
  }
}

/** A window whose links are remembered, not mapped. */
export class FakeWindow implements DmaWindow {
  readonly pd: FakePd;
  readonly addr: number;
  readonly length: number;
  closed = false;
  links: PageLink[] = [];

  constructor(pd: FakePd, addr: number, length: number) {
    this.pd = pd;
    this.addr = addr;
    this.length = length;
  }

  link(links: readonly PageLink[]): void {
    if (this.pd.failWith !== undefined) throw this.pd.failWith;
    for (const { offset, slabOffset, length } of links) {
      if ([offset, slabOffset, length].some((n) => n % 4096 !== 0)) throw new Error('fake: not whole pages');
    }
    this.links = [...links];
  }

  unlink(): void {
    this.links = [];
  }

  async register(offset: number, length: number, access: number): Promise<FakeMr> {
    await undefined;
    const mr = this.pd.keyed((key) => new FakeWindowMr(this.pd, this, offset, length, access, key), length);
    return mr;
  }

  close(): void {
    this.closed = true;
  }

  parts(at: number, length: number): Uint8Array[] {
    const found: Uint8Array[] = [];
    let done = 0;
    for (const link of this.links) {
      const inside = at + done - link.offset;
      if (inside < 0 || inside >= link.length || done === length) continue;
      const take = Math.min(link.length - inside, length - done);
      found.push(new Uint8Array(link.slab.buffer, link.slabOffset + inside, take));
      done += take;
    }
    if (done < length) throw new Error('fake: access to a page that is not linked');
    return found;
  }
}

/** A fake protection domain; `provider` and `transport` choose the quirks under test. */
export class FakePd implements DmaPd {
  readonly device: DmaPd['device'];
  readonly live = new Set<FakeMr>();
  readonly windows: FakeWindow[] = [];
  /** Sizes of all slabs ever made. */
  readonly slabSizes: number[] = [];
  /** Thrown by the next registrations and slab allocations while set. */
  failWith: Error | undefined;
  /** Bytes that may be locked, as RLIMIT_MEMLOCK. */
  lockable = Number.POSITIVE_INFINITY;
  readonly #bases = new WeakMap<ArrayBufferLike, number>();
  readonly #buffers: { base: number; buffer: ArrayBufferLike }[] = [];
  #nextBase = 0x7f00_0000_0000;
  #nextKey = 1;

  constructor(
    provider = 'card',
    transport: 'ib' | 'iwarp' = 'ib',
    features: { onDemandPaging?: boolean; peerToPeer?: boolean; implicit?: boolean } = {},
  ) {
    const { implicit = false, onDemandPaging: odp = implicit, peerToPeer: dmaBuf = false } = features;
    const rc = { send: odp, recv: odp, write: odp, read: odp };
    this.device = {
      name: `fake-${provider}`,
      provider,
      transport,
      caps: {
        odp: { explicit: odp, implicit, rc },
        dmaBuf,
        hasAtomics: transport === 'ib',
        immediateData: transport === 'ib',
        sendWithInvalidate: true,
      },
    };
  }

  addressOf(view: Uint8Array, align = 16): number {
    let base = this.#bases.get(view.buffer);
    if (base === undefined) {
      base = this.#nextBase + align;
      this.#nextBase += 2 ** 30;
      this.#bases.set(view.buffer, base);
      this.#buffers.push({ base, buffer: view.buffer });
    }
    return base + view.byteOffset;
  }

  memoryAt(addr: number, length: number): Uint8Array {
    for (const { base, buffer } of this.#buffers) {
      if (addr >= base && addr + length <= base + buffer.byteLength)
        return new Uint8Array(buffer, addr - base, length);
    }
    throw new Error('fake: no memory at this address');
  }

  async regImplicitOdp(access: number): Promise<FakeMr> {
    await undefined;
    return this.keyed((key) => new FakeWholeMr(this, access, key), 0);
  }

  async regMr(memory: ArrayBufferView | ArrayBufferLike, access: number): Promise<FakeMr> {
    await undefined;
    return this.register(memory, access);
  }

  register(memory: ArrayBufferView | ArrayBufferLike, access: number): FakeMr {
    const view = ArrayBuffer.isView(memory) ? (memory as Uint8Array) : new Uint8Array(memory);
    return this.keyed((key) => new FakeMr(this, view, access, key), view.byteLength);
  }

  /** One key over [parts], from address 0. */
  registerParts(parts: readonly Uint8Array[], access: number): FakeMr {
    return this.keyed((key) => new FakePartsMr(this, parts, access, key), 0);
  }

  /** Makes a region unless registrations fail. */
  keyed(make: (key: number) => FakeMr, bytes: number): FakeMr {
    if (this.failWith !== undefined) throw this.failWith;
    const locked = [...this.live].reduce((sum, mr) => sum + mr.length, bytes);
    if (locked > this.lockable) throw new RdmaError('ENOMEM', `fake: ${locked} bytes exceed RLIMIT_MEMLOCK`);
    const mr = make(this.#nextKey++);
    this.live.add(mr);
    return mr;
  }

  /** Windows are taken away by assigning undefined. */
  reserveWindow?: (bytes: number) => DmaWindow = (bytes) => {
    const window = new FakeWindow(this, this.#nextBase, bytes);
    this.#nextBase += 2 ** 32;
    this.windows.push(window);
    return window;
  };

  async allocSlab(bytes: number, access: number): Promise<DmaSlab> {
    await undefined;
    const buffer = new ArrayBuffer(bytes);
    this.addressOf(new Uint8Array(buffer), 0);
    const mr = this.register(new Uint8Array(buffer), access);
    this.slabSizes.push(bytes);
    return { mr, buffer, addr: mr.addr, length: bytes, close: () => mr.close() };
  }

  /** The memory behind an SGE or a remote range; throws a status when the key, range or access is wrong. */
  resolve(addr: number, length: number, key: number, need: number, remote: boolean): Uint8Array[] {
    for (const mr of this.live) {
      if ((remote ? mr.rkey : mr.lkey) !== key) continue;
      const at = addr - mr.addr;
      if (at < 0 || at + length > mr.length || (mr.access & need) !== need) break;
      return mr.parts(at, length);
    }
    throw remote ? WcStatus.REM_ACCESS_ERR : WcStatus.LOC_PROT_ERR;
  }
}
