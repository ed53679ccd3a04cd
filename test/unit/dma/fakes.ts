// Fakes: no device, no addon. Memory has made-up addresses; a fake queue pair carries out work requests when told to,
// between the fake regions they name, and checks keys, ranges and access as a device would.

import type { DmaMr, DmaPd, DmaSlab, DmaWindow, PageLink } from '../../../lib/dma/types.ts';
import { RdmaError, WcStatus } from '../../../lib/errors.ts';
import type { OnRetired } from '../../../lib/ring/work-ring.ts';
import type { RwQp } from '../../../lib/rw/types.ts';
import { Access, Opcode, SendFlags, WcOpcode } from '../../../lib/verbs/constants.ts';
import type { RecvWr, SendWr } from '../../../lib/verbs/work-request.ts';

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

/** What a message brings besides its bytes. */
export interface Extras {
  readonly immData?: number;
  readonly invalidatedRkey?: number;
}

/** A ring with one completion at a time, which is what is asked about. */
class FakeRing {
  readonly #vendorErr: number;
  readonly #now = { opcode: WcOpcode.RECV as number, flags: 0, immData: 0 };

  constructor(vendorErr: number) {
    this.#vendorErr = vendorErr;
  }

  set(opcode: number, { immData, invalidatedRkey }: Extras): void {
    this.#now.opcode = opcode;
    this.#now.flags = (immData === undefined ? 0 : 2) | (invalidatedRkey === undefined ? 0 : 8);
    this.#now.immData = immData ?? invalidatedRkey ?? 0;
  }

  opcode = (): number => this.#now.opcode;
  flags = (): number => this.#now.flags;
  immData = (): number => this.#now.immData;
  vendorErr = (): number => this.#vendorErr;
}

interface Posted {
  readonly wr: SendWr;
  readonly retired: OnRetired | null;
}

/** A fake queue pair. `run()` completes what is posted, in order, against the regions of `peer`. */
export class FakeQp implements RwQp {
  readonly pd: FakePd;
  readonly peer: FakePd;
  readonly qpNum = 7;
  readonly caps: RwQp['caps'];
  readonly sendCq = { ring: new FakeRing(42) };
  readonly recvCq = { ring: new FakeRing(43) };
  srq: object | undefined;
  /** Bytes. */
  pathMtu: number | undefined = 4096;
  /** What each call of postSend was given. */
  readonly calls: SendWr[][] = [];
  readonly messages: Buffer[] = [];
  readonly receives: { wr: RecvWr; retired: OnRetired | null }[] = [];
  readonly posted: Posted[] = [];
  errors = 0;
  /** Slots held by somebody else. */
  foreignSlots = 0;
  /** Work requests that postSend takes before it fails; unlimited when undefined. */
  refuseAfter: number | undefined;

  constructor(pd = new FakePd(), peer = new FakePd(), caps: Partial<RwQp['caps']> = {}) {
    this.pd = pd;
    this.peer = peer;
    this.caps = {
      maxSendWr: 16,
      maxSendSge: 4,
      maxRecvSge: 4,
      maxReadSge: 4,
      maxInlineData: 64,
      maxMessage: 2 ** 23,
      ...caps,
    };
  }

  query(): { pathMtu: number | undefined } {
    return { pathMtu: this.pathMtu };
  }

  get sendFree(): number {
    return this.caps.maxSendWr - this.posted.length - this.foreignSlots;
  }

  get recvFree(): number {
    return 16 - this.receives.length;
  }

  postSend(wrs: SendWr | readonly SendWr[], onRetired?: OnRetired | readonly (OnRetired | null)[]): void {
    const list = [wrs].flat() as SendWr[];
    for (const wr of list) this.#check(wr);
    if (list.length > this.sendFree) throw new RdmaError('ENOBUFS', 'fake: full', { posted: 0 });
    const taken = Math.min(list.length, this.refuseAfter ?? list.length);
    this.calls.push(list.slice(0, taken));
    for (let i = 0; i < taken; i++) {
      const retired = typeof onRetired === 'function' ? onRetired : (onRetired?.[i] ?? null);
      // Inline bytes are copied at the post, as the real ring does.
      const wr = list[i]!;
      this.posted.push({ wr: wr.inline === undefined ? wr : { ...wr, inline: wr.inline.slice() }, retired });
    }
    if (taken < list.length) {
      this.refuseAfter = Math.max(0, this.refuseAfter! - taken);
      throw new RdmaError('ENOMEM', 'fake: refused', { posted: taken, wrIndex: taken });
    }
  }

  postRecv(wrs: RecvWr | readonly RecvWr[], onRetired?: OnRetired | readonly (OnRetired | null)[]): void {
    const list = [wrs].flat() as RecvWr[];
    list.forEach((wr, i) => {
      this.receives.push({
        wr,
        retired: typeof onRetired === 'function' ? onRetired : (onRetired?.[i] ?? null),
      });
    });
  }

  /** Completes up to [count] work requests of the send queue. */
  run(count = Number.POSITIVE_INFINITY): void {
    for (let done = 0; done < count && this.posted.length > 0; done++) {
      const { wr, retired } = this.posted.shift()!;
      let status: number = WcStatus.SUCCESS;
      if (this.errors > 0) {
        status = WcStatus.WR_FLUSH_ERR;
      } else {
        try {
          this.#carryOut(wr);
        } catch (error) {
          if (typeof error !== 'number') throw error;
          status = error;
        }
      }
      retired?.(status, 0, 0, 0);
    }
  }

  /** A message arrives in the first receive. */
  deliver(message: Uint8Array, extras: Extras = {}): void {
    const { wr, retired } = this.receives.shift()!;
    let at = 0;
    for (const { addr, length, lkey } of wr.sges) {
      const part = message.subarray(at, at + length);
      if (part.length === 0) continue;
      copy([part], this.pd.resolve(addr, part.length, lkey, Access.LOCAL_WRITE, false));
      at += part.length;
    }
    this.recvCq.ring.set(WcOpcode.RECV, extras);
    retired?.(WcStatus.SUCCESS, message.length, 0, 0);
  }

  /** The peer's WRITE of [bytes] with immediate data takes the first receive and leaves its memory alone. */
  deliverWritten(bytes: number, immData: number): void {
    const { retired } = this.receives.shift()!;
    this.recvCq.ring.set(WcOpcode.RECV_RDMA_WITH_IMM, { immData });
    retired?.(WcStatus.SUCCESS, bytes, 0, 0);
  }

  /** The first receive fails; [wc] -1: it was flushed by the ring, without a completion. */
  failReceive(status: number, wc = 0): void {
    this.receives.shift()!.retired?.(status, 0, wc, 0);
  }

  toError(): void {
    this.errors++;
  }

  /** What providers crash, wedge or lie about. */
  #check(wr: SendWr): void {
    if (wr.inline !== undefined) {
      if (wr.inline.length > this.caps.maxInlineData) throw new Error('fake: too much inline data');
      return;
    }
    if (wr.sges === undefined) throw new Error('fake: neither SGEs nor inline data');
    const { maxSendSge, maxReadSge, maxMessage } = this.caps;
    const most = wr.opcode === Opcode.RDMA_READ ? Math.min(maxSendSge, maxReadSge) : maxSendSge;
    const bytes = wr.sges.reduce((sum, { length }) => sum + length, 0);
    const flags = wr.flags ?? 0;
    if (wr.sges.length > most) throw new Error(`fake: ${wr.sges.length} SGEs of at most ${most}`);
    if (wr.sges.length > 1 && wr.sges.some(({ length }) => length === 0))
      throw new Error('fake: an empty SGE');
    if (bytes > maxMessage) throw new Error(`fake: a message of ${bytes} bytes`);
    if (this.pd.device.provider !== 'siw') return;
    if (bytes >= 4096 && (flags & SendFlags.SIGNALED) === 0) throw new Error('fake: unsignalled page');
    const crosses = (addr: number) => (addr % 4096) + bytes > 4096;
    const tiny = bytes > 0 && bytes <= 32 && (flags & SendFlags.INLINE) === 0;
    if (!tiny || wr.sges.length > 1) return;
    if (crosses(wr.opcode === Opcode.RDMA_READ ? Number(wr.remoteAddr) : wr.sges[0]!.addr)) {
      throw new Error('fake: siw damages what is tiny and crosses a page');
    }
  }

  #carryOut(wr: SendWr): void {
    const inline = ((wr.flags ?? 0) & SendFlags.INLINE) !== 0;
    const reach = (need: number): Uint8Array[] => {
      if (wr.inline !== undefined) return [wr.inline];
      if (inline && need !== 0) throw WcStatus.LOC_QP_OP_ERR;
      const sges = (wr.sges ?? []).filter(({ length }) => length > 0);
      return sges.flatMap((sge) => this.pd.resolve(sge.addr, sge.length, sge.lkey, need, false));
    };
    switch (wr.opcode) {
      case Opcode.SEND:
      case Opcode.SEND_WITH_IMM:
      case Opcode.SEND_WITH_INV:
        this.messages.push(Buffer.concat(reach(0)));
        return;
      case Opcode.RDMA_WRITE:
      case Opcode.RDMA_WRITE_WITH_IMM:
      case Opcode.RDMA_READ: {
        const read = wr.opcode === Opcode.RDMA_READ;
        let remoteAddr = Number(wr.remoteAddr);
        for (const part of reach(read ? Access.LOCAL_WRITE : 0)) {
          const need = read ? Access.REMOTE_READ : Access.REMOTE_WRITE;
          const remote = this.peer.resolve(remoteAddr, part.length, wr.rkey, need, true);
          if (read) copy(remote, [part]);
          else copy([part], remote);
          remoteAddr += part.length;
        }
        return;
      }
      case Opcode.ATOMIC_FETCH_AND_ADD:
      case Opcode.ATOMIC_CMP_AND_SWP: {
        const [at] = this.peer.resolve(Number(wr.remoteAddr), 8, wr.rkey, Access.REMOTE_ATOMIC, true);
        const old = Buffer.from(at!);
        const before = old.readBigUInt64LE();
        const compareAdd = BigInt(wr.compareAdd);
        let after = BigInt.asUintN(64, before + compareAdd);
        if (wr.opcode === Opcode.ATOMIC_CMP_AND_SWP) after = before === compareAdd ? BigInt(wr.swap) : before;
        at!.set(new Uint8Array(BigUint64Array.of(after).buffer));
        copy([old], reach(Access.LOCAL_WRITE));
        return;
      }
      default:
        throw WcStatus.LOC_QP_OP_ERR;
    }
  }
}

/** Copies between lists of as many bytes. */
function copy(from: readonly Uint8Array[], to: readonly Uint8Array[]): void {
  const bytes = Buffer.concat(from);
  let at = 0;
  for (const part of to) {
    part.set(bytes.subarray(at, at + part.length));
    at += part.length;
  }
}

/** Bytes that tell their place. */
export function pattern(length: number, seed = 1): Buffer {
  const bytes = Buffer.alloc(length);
  for (let i = 0; i < length; i++) bytes[i] = (i * 31 + (i >>> 8) * 7 + seed) & 0xff;
  return bytes;
}

/** Memory of its own ArrayBuffer: foreign, and not a slice of Node's pool. */
export function foreign(bytes: Uint8Array | number): Uint8Array<ArrayBuffer> {
  return typeof bytes === 'number' ? new Uint8Array(bytes) : new Uint8Array(bytes);
}

/** Detaches the memory of [view]. */
export function detach(view: ArrayBufferView): void {
  structuredClone(view.buffer, { transfer: [view.buffer as ArrayBuffer] });
}
