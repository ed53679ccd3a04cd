// A fake queue pair carries out work requests when told to, between the fake regions they name.

import { RdmaError, WcStatus } from '../../../lib/errors.ts';
import type { OnRetired } from '../../../lib/ring/work-ring.ts';
import type { RwQp } from '../../../lib/rw/types.ts';
import { Access, Opcode, SendFlags, WcOpcode } from '../../../lib/verbs/constants.ts';
import type { RecvWr, SendWr } from '../../../lib/verbs/work-request.ts';
import { FakePd } from './fake-memory.ts';

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
