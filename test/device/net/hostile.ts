/** A peer that speaks below the protocol: any private data, any message, any write. */
import { once } from 'node:events';
import {
  CmId,
  type MemoryRegion,
  Opcode,
  openDevice,
  type ProtectionDomain,
  type QueuePair,
} from '../../../lib/index.ts';
import {
  type ConnData,
  encodeConnData,
  MESSAGE_BYTES,
  message,
  parseConnData,
} from '../../../lib/net/wire/index.ts';
import type { TestDevice } from '../helpers/devices.ts';

/** Connection data that nobody refuses, of memory that does not exist. */
export const plausible: ConnData = {
  bigEndian: false,
  credits: 100,
  iomapEntries: 0,
  targetSgl: { addr: 0x10_0000, key: 1, length: 2 },
  dataBuffer: { addr: 0x20_0000, key: 2, length: 65536 },
};

/** @see plausible */
export const hello = (changes: Partial<ConnData> = {}): Uint8Array =>
  encodeConnData({ ...plausible, ...changes });

/** One hostile connection. */
export class HostilePeer {
  readonly id: CmId;
  readonly qp: QueuePair;
  readonly pd: ProtectionDomain;
  readonly #bySend: boolean;
  #ended: Promise<unknown>;

  /** Memory that the other side may write to. */
  readonly memory: MemoryRegion;

  private constructor(id: CmId, pd: ProtectionDomain, bySend: boolean) {
    this.id = id;
    this.pd = pd;
    this.memory = pd.regMrSync(new Uint8Array(70_000), 3);
    this.#bySend = bySend;
    this.#ended = once(id, 'disconnected');
    this.qp = HostilePeer.#queuePair(id, pd, bySend);
  }

  static #queuePair(id: CmId, pd: ProtectionDomain, bySend: boolean): QueuePair {
    const options = { maxSendWr: 1024, maxRecvWr: 1024 };
    const qp = id.createQp({ pd, sendCq: pd.device.createCq({ cqe: 2048 }), ...options });
    const slab = pd.regMrSync(new Uint8Array(4096), 1);
    const sges = bySend ? [{ addr: slab.addr, length: MESSAGE_BYTES, lkey: slab.lkey }] : [];
    qp.postRecv(Array.from({ length: 1000 }, () => ({ sges })));
    return qp;
  }

  /** Connection data that tell the truth. */
  get hello(): Uint8Array {
    const { addr, rkey: key } = this.memory;
    return hello({
      targetSgl: { addr, key, length: 2 },
      dataBuffer: { addr: addr + 4096, key, length: 65536 },
    });
  }

  /** Connects and says [privateData], by default the truth; what the other side says is parsed. */
  static async connect(
    { name, host }: TestDevice,
    port: number,
    privateData?: Uint8Array,
  ): Promise<{ peer: HostilePeer; answer: ConnData }> {
    const id = new CmId();
    await id.resolveAddr({ host, port });
    await id.resolveRoute();
    const peer = new HostilePeer(id, openDevice(name).allocPd(), name === 'siw0');
    try {
      const reply = await id.connect({ privateData: privateData ?? peer.hello });
      return { peer, answer: parseConnData(reply.privateData) };
    } catch (error) {
      peer.close();
      throw error;
    }
  }

  /** Accepts the next request of [listener] and says [privateData]. */
  static async accept({ name }: TestDevice, listener: CmId, privateData: Uint8Array): Promise<HostilePeer> {
    const id = await listener.nextRequest();
    const peer = new HostilePeer(id, openDevice(name).allocPd(), name === 'siw0');
    await id.accept({ privateData });
    return peer;
  }

  /** Sends messages; what becomes of them is not waited for. */
  say(...messages: readonly (readonly [kind: number, content: number])[]): void {
    const words = messages.map(([kind, content]) => message(kind, content));
    this.qp.postSend(
      words.map((word) => {
        if (!this.#bySend) {
          return {
            opcode: Opcode.RDMA_WRITE_WITH_IMM,
            immData: word,
            remoteAddr: 0,
            rkey: 0,
            sges: [],
            flags: 2,
          };
        }
        const inline = new Uint8Array(MESSAGE_BYTES);
        new DataView(inline.buffer).setUint32(0, word, true);
        return { opcode: Opcode.SEND, inline, flags: 2 };
      }),
    );
  }

  /** Writes to the other side's memory, silently or with a message. */
  write(
    bytes: Uint8Array,
    remoteAddr: number,
    rkey: number,
    word?: readonly [kind: number, content: number],
  ): void {
    const mr = this.pd.regMrSync(bytes, 1);
    const sges = [{ addr: mr.addr, length: bytes.length, lkey: mr.lkey }];
    if (this.#bySend || word === undefined) {
      this.qp.postSend({ opcode: Opcode.RDMA_WRITE, remoteAddr, rkey, sges, flags: 2 });
      if (word !== undefined) this.say(word);
      return;
    }
    const immData = message(...word);
    this.qp.postSend({ opcode: Opcode.RDMA_WRITE_WITH_IMM, immData, remoteAddr, rkey, sges, flags: 2 });
  }

  /** The connection has been broken off. */
  get ended(): Promise<unknown> {
    return this.#ended;
  }

  close(): void {
    this.id.close();
    this.pd.close();
  }
}
