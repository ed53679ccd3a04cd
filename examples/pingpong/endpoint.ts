/** The queue pairs of one end, and their memory. */
import { randomInt } from 'node:crypto';
import {
  Access,
  type AddressHandle,
  type CompletionQueue,
  type Device,
  type GidEntry,
  type MemorySlab,
  Opcode,
  openDevice,
  type ProtectionDomain,
  type QueuePair,
  SendFlags,
  type SendWr,
  type Sge,
  type SharedReceiveQueue,
} from '../../lib/index.ts';
import type { Destination } from './exchange.ts';

/** What the tools of libibverbs are called after. */
export type PingpongType = 'rc' | 'uc' | 'ud' | 'srq';

/** Settings of an end. */
export interface EndpointOptions {
  type: PingpongType;
  device: string;
  /** Port of the device. */
  ibPort: number;
  /** Index into the port's GID table; undefined: none is used, which only InfiniBand allows. */
  gidIndex: number | undefined;
  /** Bytes of a message. */
  size: number;
  rxDepth: number;
  /** Queue pairs; more than one for 'srq' only. */
  queuePairs: number;
  /** Path MTU, bytes. */
  mtu: number;
  /** Service level. */
  sl: number;
}

/** The agreed key of ud_pingpong. */
const QKEY = 0x1111_1111;
/** Every received datagram begins with a global routing header, or room for it. */
const GRH_BYTES = 40;

/** One end of a ping-pong. */
export class Endpoint {
  readonly queuePairs: readonly QueuePair[];
  readonly own: readonly Destination[];
  readonly #device: Device;
  readonly #pd: ProtectionDomain;
  readonly #cq: CompletionQueue;
  readonly #srq: SharedReceiveQueue | undefined;
  readonly #memory: MemorySlab;
  readonly #options: EndpointOptions;
  readonly #ahs: AddressHandle[] = [];
  readonly #headroom: number;
  #peers: readonly Destination[] = [];

  static async create(options: EndpointOptions): Promise<Endpoint> {
    const device = openDevice(options.device);
    try {
      const pd = device.allocPd();
      const headroom = options.type === 'ud' ? GRH_BYTES : 0;
      const bytes = options.rxDepth * (options.size + headroom) + options.queuePairs * options.size;
      return new Endpoint(options, device, pd, await pd.allocSlab(bytes, Access.LOCAL_WRITE), headroom);
    } catch (error) {
      device.close();
      throw error;
    }
  }

  private constructor(
    options: EndpointOptions,
    device: Device,
    pd: ProtectionDomain,
    memory: MemorySlab,
    headroom: number,
  ) {
    const { type, ibPort, gidIndex, rxDepth, queuePairs } = options;
    this.#options = options;
    this.#device = device;
    this.#pd = pd;
    this.#memory = memory;
    this.#headroom = headroom;
    this.#cq = device.createCq({ cqe: rxDepth + queuePairs });
    this.#srq = type === 'srq' ? pd.createSrq({ maxWr: rxDepth, maxSge: 1 }) : undefined;
    const kind = { rc: 'RC', uc: 'UC', ud: 'UD', srq: 'RC' } as const;
    this.queuePairs = Array.from({ length: queuePairs }, () =>
      pd.createQp({
        type: kind[type],
        sendCq: this.#cq,
        port: ibPort,
        maxSendWr: 1,
        maxSendSge: 1,
        maxInlineData: 0,
        ...(this.#srq
          ? { srq: this.#srq, maxRecvWr: 0, maxRecvSge: 0 }
          : { maxRecvWr: rxDepth, maxRecvSge: 1 }),
      }),
    );
    for (const qp of this.queuePairs) qp.toInit({ port: ibPort, ...(type === 'ud' && { qkey: QKEY }) });
    const entry: GidEntry | undefined =
      gidIndex === undefined ? undefined : device.queryGid(ibPort, gidIndex);
    if (gidIndex !== undefined && entry === undefined) {
      throw new Error(`${options.device} has no GID with the index ${gidIndex}`);
    }
    const { lid } = device.queryPort(ibPort);
    const gid = entry?.gid ?? new Uint8Array(16);
    this.own = this.queuePairs.map((qp) => ({ lid, qpn: qp.qpNum, psn: randomInt(0x100_0000), gid }));
  }

  /** Makes the queue pairs ready to receive and to send. */
  connect(peers: readonly Destination[]): void {
    const { type, mtu, ibPort, gidIndex, sl } = this.#options;
    this.#peers = peers;
    for (const [i, qp] of this.queuePairs.entries()) {
      const { qpn, psn, lid, gid } = peers[i]!;
      const routed = gid.some((byte) => byte !== 0) && gidIndex !== undefined;
      const path = {
        dlid: lid,
        sl,
        port: ibPort,
        ...(routed && { grh: { dgid: gid, sgidIndex: gidIndex, hopLimit: 1 } }),
      };
      if (type === 'ud') {
        qp.toRtr();
        this.#ahs.push(this.#pd.createAh(path));
      } else {
        qp.toRtr({ ahAttr: path, pathMtu: mtu, destQpNum: qpn, rqPsn: psn });
      }
      qp.toRts({ sqPsn: this.own[i]!.psn });
    }
  }

  /** Posts the receive [slot] to queue pair [i], or to all of them when they share their receives. */
  postReceive(
    i: number,
    slot: number,
    onReceived: (status: number, byteLen: number, qpNum: number) => void,
  ): void {
    const wr = { sges: [this.#receiveSge(slot)] };
    if (this.#srq) {
      this.#srq.postRecv(wr, (status, byteLen, wc, cq) =>
        onReceived(status, byteLen, cq?.ring.qpNum(wc) ?? 0),
      );
    } else {
      const qp = this.queuePairs[i]!;
      qp.postRecv(wr, (status, byteLen) => onReceived(status, byteLen, qp.qpNum));
    }
  }

  /** Sends the message of queue pair [i]. */
  postSend(i: number, onSent: (status: number) => void): void {
    const qp = this.queuePairs[i]!;
    const sges = [this.#sendSge(i)];
    const message = { opcode: Opcode.SEND, sges, flags: SendFlags.SIGNALED } as const;
    const wr: SendWr =
      this.#options.type === 'ud'
        ? { ...message, ah: this.#ahs[i]!, remoteQpn: this.#peers[i]!.qpn, remoteQkey: QKEY }
        : message;
    qp.postSend(wr, onSent);
  }

  /** What queue pair [i] sends. */
  message(i: number): Buffer {
    return this.#bytes(this.#sendSge(i));
  }

  /** What was received in [slot]. */
  received(slot: number, bytes: number): Buffer {
    return this.#bytes(this.#receiveSge(slot)).subarray(this.#headroom, bytes);
  }

  close(): void {
    this.#device.close();
  }

  #bytes({ addr, length }: Sge): Buffer {
    return Buffer.from(this.#memory.buffer, addr - this.#memory.addr, length);
  }

  #receiveSge(slot: number): Sge {
    const length = this.#options.size + this.#headroom;
    return { addr: this.#memory.addr + slot * length, length, lkey: this.#memory.mr.lkey };
  }

  #sendSge(i: number): Sge {
    const { size, rxDepth } = this.#options;
    const offset = rxDepth * (size + this.#headroom) + i * size;
    return { addr: this.#memory.addr + offset, length: size, lkey: this.#memory.mr.lkey };
  }
}
