/** A queue pair of an rdma_cm id that sends and receives messages of one size: what most of rdmacm-utils' programs are. */
import {
  Access,
  type AddressHandle,
  type CmId,
  type CompletionQueue,
  type MemorySlab,
  Opcode,
  type ProtectionDomain,
  type QueuePair,
  type SendWr,
  type Sge,
  type UdParam,
  type WorkCompletion,
} from '../../lib/index.ts';

/** Every received datagram begins with a global routing header, or room for it. */
export const GRH_BYTES = 40;

/** Where datagrams go. */
export interface Target {
  readonly ah: AddressHandle;
  readonly remoteQpn: number;
  readonly remoteQkey: number;
}

/** The queue pair, its receives, and its memory. */
export class MessageEnd {
  readonly id: CmId;
  readonly pd: ProtectionDomain;
  readonly qp: QueuePair;
  /** In the order in which messages come. */
  readonly received: Promise<WorkCompletion>[] = [];
  readonly #cq: CompletionQueue;
  readonly #memory: MemorySlab;
  readonly #size: number;
  readonly #headroom: number;

  /** Makes the queue pair of [id] and posts [count] receives of [size] bytes. */
  static async create(id: CmId, size: number, count: number): Promise<MessageEnd> {
    const pd = id.device!.allocPd();
    const headroom = id.portSpace === 'TCP' ? 0 : GRH_BYTES;
    const memory = await pd.allocSlab(Math.max(1, (size + headroom) * count + size), Access.LOCAL_WRITE);
    return new MessageEnd(id, pd, memory, size, count, headroom);
  }

  private constructor(
    id: CmId,
    pd: ProtectionDomain,
    memory: MemorySlab,
    size: number,
    count: number,
    headroom: number,
  ) {
    this.id = id;
    this.pd = pd;
    this.#memory = memory;
    this.#size = size;
    this.#headroom = headroom;
    this.#cq = id.device!.createCq({ cqe: 2 * Math.max(1, count) });
    const maxWr = Math.max(1, count);
    this.qp = id.createQp({
      pd,
      sendCq: this.#cq,
      maxSendWr: maxWr,
      maxRecvWr: maxWr,
      maxSendSge: 1,
      maxRecvSge: 1,
    });
    for (let i = 0; i < count; i++) this.received.push(this.qp.recv({ sges: [this.#receiveSge(i)] }));
    // Whoever looks at them sees the failure.
    for (const one of this.received) one.catch(() => undefined);
  }

  /** An address handle for what rdma_cm says of a peer or a group. */
  target({ ahAttr, qpNum, qkey }: UdParam): Target {
    return { ah: this.pd.createAh(ahAttr), remoteQpn: qpNum, remoteQkey: qkey };
  }

  /** The memory that is sent. */
  get message(): Buffer {
    return Buffer.from(this.#memory.buffer, this.#memory.length - this.#size, this.#size);
  }

  /** The bytes of receive [i]; of a datagram with its routing header in front. */
  buffer(i: number): Buffer {
    const { addr, length } = this.#receiveSge(i);
    return Buffer.from(this.#memory.buffer, addr - this.#memory.addr, length);
  }

  /** Sends {@link message}; a datagram carries the number of this queue pair, for the answer. */
  send(target?: Target): Promise<WorkCompletion> {
    const { addr, length, mr } = this.#memory;
    const sges = [{ addr: addr + length - this.#size, length: this.#size, lkey: mr.lkey }];
    const wr: SendWr =
      target === undefined
        ? { opcode: Opcode.SEND, sges }
        : { opcode: Opcode.SEND_WITH_IMM, sges, immData: this.qp.qpNum, ...target };
    return this.qp.send(wr);
  }

  #receiveSge(i: number): Sge {
    const length = this.#size + this.#headroom;
    return { addr: this.#memory.addr + i * length, length, lkey: this.#memory.mr.lkey };
  }
}
