/** Two queue pairs without a device: what one posts is carried out in the other's memory, when the test says so. */
import { WcStatus } from '../../../lib/errors.ts';
import type { OnRetired, ProtectionDomain, QueuePair, RecvWr, SendWr } from '../../../lib/index.ts';
import { Channel, type ChannelEvents } from '../../../lib/net/channel/channel.ts';
import { ChannelMemory, type MemorySizes } from '../../../lib/net/channel/memory.ts';

const WITH_IMM = 2;
const RECV = 128;
const RECV_RDMA_WITH_IMM = 129;

interface Region {
  readonly addr: number;
  readonly key: number;
  readonly bytes: Uint8Array;
  readonly remote: boolean;
}

/** A work request on its way: its bytes are taken when it is carried out, as a device takes them. */
interface InFlight {
  readonly opcode: number;
  readonly sge: { readonly addr: number; readonly length: number; readonly lkey: number } | undefined;
  readonly inline: Uint8Array | undefined;
  readonly remoteAddr: number;
  readonly rkey: number;
  readonly immData: number;
  readonly retired: OnRetired;
}

/** The memory of one process. */
export class FakeMemory {
  readonly regions: Region[] = [];
  #next = 0x10_0000;
  #key = 1;

  /** What ChannelMemory needs of a protection domain. */
  get pd(): ProtectionDomain {
    return {
      allocSlab: async (length: number, access: number) => {
        const buffer = new ArrayBuffer(length);
        const addr = this.#next;
        this.#next += Math.ceil(length / 4096) * 4096 + 4096;
        const key = this.#key++;
        this.regions.push({ addr, key, bytes: new Uint8Array(buffer), remote: (access & 2) !== 0 });
        return { addr, length, buffer, mr: { lkey: key, rkey: key }, close: async () => undefined };
      },
    } as unknown as ProtectionDomain;
  }

  /** The bytes at [addr]; undefined when they are not all in the region of [key]. */
  at(addr: number, length: number, key: number, remote: boolean): Uint8Array | undefined {
    const region = this.regions.find((candidate) => candidate.key === key);
    if (region === undefined || (remote && !region.remote)) return undefined;
    const offset = addr - region.addr;
    if (offset < 0 || offset + length > region.bytes.length) return undefined;
    return region.bytes.subarray(offset, offset + length);
  }
}

/** One end. What it sends lies in {@link wire} until {@link FakeQp.carry}. */
export class FakeQp {
  readonly memory = new FakeMemory();
  readonly wire: InFlight[] = [];
  readonly receives: { wr: RecvWr; retired: OnRetired }[] = [];
  /** Writes of this side, as [address, length], for tests to check. */
  readonly writes: [addr: number, length: number][] = [];
  readonly caps;
  readonly qpNum = 1;
  sendFree: number;
  peer!: FakeQp;
  #wc = { flags: 0, opcode: 0, imm: 0 };
  readonly recvCq = {
    ring: { flags: () => this.#wc.flags, opcode: () => this.#wc.opcode, immData: () => this.#wc.imm },
    poll: () => 0,
  };

  constructor(sends: number) {
    this.sendFree = sends;
    this.caps = { maxSendWr: sends, maxMessage: 2 ** 23 };
  }

  postSend(wrs: readonly SendWr[], retired: OnRetired): void {
    for (const wr of wrs as unknown as (InFlight & { sges?: InFlight['sge'][] })[]) {
      if (this.sendFree === 0) throw new Error('the send queue is full');
      this.sendFree -= 1;
      const { opcode, remoteAddr, rkey, immData } = wr;
      const [sge] = wr.sges ?? [];
      const inline = wr.inline === undefined ? undefined : Uint8Array.from(wr.inline);
      this.wire.push({ opcode, sge: sge && { ...sge }, inline, remoteAddr, rkey, immData, retired });
    }
  }

  postRecv(wrs: readonly RecvWr[], retired: OnRetired): void {
    for (const wr of wrs) this.receives.push({ wr, retired });
  }

  /** Carries out the next work request; false when there is none, or no receive for it. */
  carry(): boolean {
    const request = this.wire[0];
    if (request === undefined) return false;
    const tells = request.opcode === 1 || request.opcode === 2;
    if (tells && this.peer.receives.length === 0) return false;
    this.wire.shift();
    const { sge, inline } = request;
    const bytes =
      inline ??
      (sge === undefined ? new Uint8Array(0) : this.memory.at(sge.addr, sge.length, sge.lkey, false));
    if (bytes === undefined) throw new Error(`no local memory at ${sge?.addr}, ${sge?.length} bytes`);
    if (request.opcode <= 1) {
      this.writes.push([request.remoteAddr, bytes.length]);
      if (bytes.length > 0) {
        const target = this.peer.memory.at(request.remoteAddr, bytes.length, request.rkey, true);
        if (target === undefined) throw new Error(`no remote memory at ${request.remoteAddr}`);
        target.set(bytes);
      }
    }
    if (request.opcode === 1) this.peer.receive(RECV_RDMA_WITH_IMM, bytes.length, WITH_IMM, request.immData);
    if (request.opcode === 2) this.peer.receive(RECV, bytes.length, 0, 0, bytes);
    this.sendFree += 1;
    request.retired(WcStatus.SUCCESS, 0, 0, 0);
    return true;
  }

  /** A message comes, from the peer or from a test. */
  receive(opcode: number, byteLen: number, flags: number, imm: number, bytes?: Uint8Array): void {
    const receive = this.receives.shift();
    if (receive === undefined) throw new Error('receiver not ready');
    const [sge] = receive.wr.sges;
    if (bytes !== undefined && sge !== undefined) {
      this.memory.at(sge.addr, bytes.length, sge.lkey, false)?.set(bytes.subarray(0, sge.length));
    }
    this.#wc = { flags, opcode, imm };
    receive.retired(WcStatus.SUCCESS, byteLen, 0, 0);
  }
}

/** A channel over a fake queue pair, and what it told. */
export interface FakeEnd {
  readonly qp: FakeQp;
  readonly channel: Channel;
  readonly failures: Error[];
}

/** One end of a connection. */
export async function fakeEnd(
  sizes: MemorySizes & { readonly sends: number },
  bySend: boolean,
  passive: boolean,
  events: Partial<ChannelEvents> = {},
): Promise<FakeEnd> {
  const qp = new FakeQp(sizes.sends);
  const memory = await ChannelMemory.allocate(qp.memory.pd, sizes);
  const failures: Error[] = [];
  const channel = new Channel(qp as unknown as QueuePair, memory, bySend, passive, {
    readable: () => events.readable?.(),
    writable: () => events.writable?.(),
    failed: (error) => {
      failures.push(error);
    },
    mapped: (index, iomap) => events.mapped?.(index, iomap),
  });
  return { qp, channel, failures };
}

/** Connects two ends. */
export function join(a: FakeEnd, b: FakeEnd): void {
  a.qp.peer = b.qp;
  b.qp.peer = a.qp;
  a.channel.setPeer(b.channel.connData);
  b.channel.setPeer(a.channel.connData);
  a.channel.start();
  b.channel.start();
}
