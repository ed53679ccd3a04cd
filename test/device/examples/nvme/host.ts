/** A host of the tests' own: sends what it is told to, sense or nonsense, and shows the completions. */
import {
  Access,
  CmId,
  type MemorySlab,
  Opcode,
  type ProtectionDomain,
  type QueuePair,
  RdmaError,
  SendFlags,
  WcStatus,
} from '../../../../lib/index.ts';

const RECEIVES = 40;
const CAPSULE_BYTES = 64 + 8192;
const WAIT_MS = 10_000;

/** A response capsule. */
export interface Completion {
  readonly id: number;
  readonly sqid: number;
  readonly sqHead: number;
  /** Without the bit that forbids a retry. */
  readonly status: number;
  readonly doNotRetry: boolean;
  readonly result: number;
  readonly resultHigh: number;
}

/** A data pointer: memory of the host, bytes of the capsule, or any 16 bytes. */
export type DataPointer =
  | { readonly memory: MemorySlab; readonly length: number; readonly rkey?: number; readonly addr?: number }
  | { readonly capsule: Uint8Array; readonly offset?: number; readonly length?: number }
  | { readonly raw: Uint8Array };

/** Fields of a command; 0 unless given. */
export interface CommandFields {
  readonly opcode: number;
  /** Byte 4 of a fabrics command. */
  readonly fabricsType?: number;
  readonly nsid?: number;
  readonly data?: DataPointer;
  /** Command dwords 10 to 15. */
  readonly dwords?: readonly number[];
}

function encode(id: number, { opcode, fabricsType, nsid, data, dwords = [] }: CommandFields): Buffer {
  const sqe = Buffer.alloc(64);
  sqe[0] = opcode;
  sqe[1] = 0x40;
  sqe.writeUInt16LE(id, 2);
  sqe.writeUInt32LE(fabricsType ?? nsid ?? 0, 4);
  sqe[39] = 0x40;
  if (data !== undefined && 'memory' in data) {
    sqe.writeBigUInt64LE(BigInt(data.addr ?? data.memory.addr), 24);
    sqe.writeUIntLE(data.length, 32, 3);
    sqe.writeUInt32LE(data.rkey ?? data.memory.mr.rkey, 35);
  } else if (data !== undefined && 'capsule' in data) {
    sqe.writeBigUInt64LE(BigInt(data.offset ?? 0), 24);
    sqe.writeUInt32LE(data.length ?? data.capsule.length, 32);
    sqe[39] = 0x01;
  } else if (data !== undefined) {
    sqe.set(data.raw, 24);
  }
  dwords.forEach((value, index) => {
    sqe.writeUInt32LE(value >>> 0, 40 + index * 4);
  });
  return data !== undefined && 'capsule' in data ? Buffer.concat([sqe, data.capsule]) : sqe;
}

/** What a queue is asked for with: the transport's private data. */
export function queueRequest(qid: number, entries: number): Buffer {
  const data = Buffer.alloc(32);
  data.writeUInt16LE(qid, 2);
  data.writeUInt16LE(entries, 4);
  data.writeUInt16LE((entries - 1) & 0xffff, 6);
  return data;
}

/** Data of a Connect command. */
export function connectData(subsystem: string, host: string, cntlid = 0xffff, hostId = 1): Buffer {
  const data = Buffer.alloc(1024);
  data[0] = hostId;
  data.writeUInt16LE(cntlid, 16);
  data.write(subsystem, 256);
  data.write(host, 512);
  return data;
}

/** One queue of a host. */
export class TestQueue {
  readonly id: CmId;
  readonly pd: ProtectionDomain;
  readonly qp: QueuePair;
  /** Resolves when the target ends the connection. */
  readonly lost: Promise<void>;
  readonly #receives: MemorySlab;
  readonly #capsules: MemorySlab;
  readonly #waiting = new Map<number, (completion: Completion) => void>();
  #nextId = 1;

  private constructor(id: CmId, pd: ProtectionDomain, receives: MemorySlab, capsules: MemorySlab) {
    this.id = id;
    this.pd = pd;
    this.#receives = receives;
    this.#capsules = capsules;
    const sendCq = id.device!.createCq();
    this.qp = id.createQp({ pd, sendCq, maxSendWr: RECEIVES, maxRecvWr: RECEIVES });
    this.lost = new Promise((resolve) => {
      id.on('disconnected', () => resolve());
      id.on('close', () => resolve());
    });
    for (let slot = 0; slot < RECEIVES; slot++) this.#post(slot);
  }

  /** Connects to a target; [privateData] says for which queue. */
  static async open(host: string, port: number, privateData: Uint8Array): Promise<TestQueue> {
    const id = new CmId();
    await id.resolveAddr({ host, port });
    await id.resolveRoute();
    const pd = id.device!.allocPd();
    const receives = await pd.allocSlab(RECEIVES * 64, Access.LOCAL_WRITE);
    const capsules = await pd.allocSlab(RECEIVES * CAPSULE_BYTES, Access.LOCAL_WRITE);
    const queue = new TestQueue(id, pd, receives, capsules);
    try {
      await id.connect({ privateData, rnrRetryCount: 7 });
      return queue;
    } catch (error) {
      await queue.close();
      throw error;
    }
  }

  /** Memory that the target may reach. */
  memory(bytes: number): Promise<MemorySlab> {
    return this.pd.allocSlab(bytes, Access.LOCAL_WRITE | Access.REMOTE_READ | Access.REMOTE_WRITE);
  }

  #post(slot: number): void {
    const { mr, addr, buffer } = this.#receives;
    const sges = [{ addr: addr + slot * 64, length: 64, lkey: mr.lkey }];
    this.qp.postRecv({ sges }, (status) => {
      if (status !== WcStatus.SUCCESS) return;
      const view = new DataView(buffer, slot * 64, 16);
      const field = view.getUint16(14, true) >> 1;
      const completion = {
        id: view.getUint16(12, true),
        sqid: view.getUint16(10, true),
        sqHead: view.getUint16(8, true),
        status: field & 0x7ff,
        doNotRetry: (field & 0x4000) !== 0,
        result: view.getUint32(0, true),
        resultHigh: view.getUint32(4, true),
      };
      this.#post(slot);
      this.#waiting.get(completion.id)?.(completion);
      this.#waiting.delete(completion.id);
    });
  }

  /** Sends bytes as they are. */
  async sendRaw(bytes: Uint8Array, slot = 0): Promise<void> {
    const { mr, addr, buffer } = this.#capsules;
    const at = slot * CAPSULE_BYTES;
    new Uint8Array(buffer, at, bytes.length).set(bytes);
    const sges = [{ addr: addr + at, length: bytes.length, lkey: mr.lkey }];
    await this.qp.send({ opcode: Opcode.SEND, sges, flags: SendFlags.SIGNALED });
  }

  /** Sends a command; resolves with its completion, rejects when the connection ends instead. */
  submit(fields: CommandFields): Promise<Completion> {
    const id = this.#nextId++;
    const done = new Promise<Completion>((resolve) => {
      this.#waiting.set(id, resolve);
    });
    const sent = this.sendRaw(encode(id, fields), id % RECEIVES).then(() => done);
    const lost = this.lost.then(() => {
      throw new RdmaError('ECONNRESET', 'the target has ended the connection');
    });
    const late = new Promise<never>((_, reject) => {
      setTimeout(() => reject(new Error(`no completion of command ${id}`)), WAIT_MS).unref();
    });
    return Promise.race([sent, lost, late]);
  }

  /** The Connect command. */
  async connect(data: Uint8Array, { qid = 0, sqSize = 31, keepAlive = 0 } = {}): Promise<Completion> {
    const dwords = [qid << 16, sqSize, keepAlive];
    const memory = await this.memory(1024);
    new Uint8Array(memory.buffer).set(data);
    return this.submit({ opcode: 0x7f, fabricsType: 1, data: { memory, length: data.length }, dwords });
  }

  /** Property Set of the controller configuration: enables it. */
  enable(): Promise<Completion> {
    return this.submit({ opcode: 0x7f, fabricsType: 0, dwords: [0, 0x14, 0x0046_0001] });
  }

  async close(): Promise<void> {
    const { sendCq } = this.qp;
    this.id.close();
    sendCq.close();
    await this.pd.close();
  }
}
