/** What the client and the server of rping have in common: buffers, messages, and the end of the connection. */
import {
  Access,
  Arena,
  type ArenaBuffer,
  type CmId,
  type MemorySlab,
  type ProtectionDomain,
  RwContext,
} from '../../lib/index.ts';
import { MESSAGE_BYTES } from './protocol.ts';

/** Deep enough for one ping at a time. */
const QUEUE_DEPTH = 16;
const RECEIVES = 2;
/** How long after a flushed RECV its disconnect may come, milliseconds. */
const DISCONNECT_MS = 1000;

/** rping's own values: one READ at a time, in one direction. */
export const CONNECTION_PARAMETERS = {
  responderResources: 1,
  initiatorDepth: 1,
  retryCount: 7,
  rnrRetryCount: 7,
};

/** A connection that speaks rping. */
export class Endpoint {
  readonly rw: RwContext;
  /** Rejects when the peer disconnects or the connection fails; never resolves. */
  readonly lost: Promise<never>;
  readonly #id: CmId;
  readonly #pd: ProtectionDomain;
  readonly #arena: Arena;
  readonly #slabs: MemorySlab[] = [];
  readonly #received: Promise<Buffer>[] = [];
  #disconnected = false;

  private constructor(id: CmId) {
    const device = id.device!;
    const pd = device.allocPd();
    const sendCq = device.createCq({ cqe: QUEUE_DEPTH + RECEIVES });
    const qp = id.createQp({ pd, sendCq, maxSendWr: QUEUE_DEPTH, maxRecvWr: RECEIVES });
    this.#id = id;
    this.#pd = pd;
    this.#arena = Arena.for(pd);
    this.rw = new RwContext(qp);
    this.lost = new Promise<never>((_resolve, reject) => {
      id.on('disconnected', () => {
        this.#disconnected = true;
        reject(new Error('the peer disconnected'));
      });
    });
    this.lost.catch(() => {});
  }

  /** Prepares an id for connect or accept: the RECVs are posted before the peer can send. */
  static async create(id: CmId): Promise<Endpoint> {
    const endpoint = new Endpoint(id);
    for (let i = 0; i < RECEIVES; i++) endpoint.#postReceive(await endpoint.alloc(MESSAGE_BYTES));
    return endpoint;
  }

  /** Whether the peer has ended the connection. */
  get disconnected(): boolean {
    return this.#disconnected;
  }

  /** Registered memory of this process, for local use. */
  alloc(bytes: number): Promise<ArenaBuffer> {
    return this.#arena.alloc(bytes);
  }

  /** Registered memory that the peer may access, as `access` says. */
  async expose(bytes: number, access: number): Promise<MemorySlab> {
    const slab = await this.#pd.allocSlab(bytes, Access.LOCAL_WRITE | access);
    this.#slabs.push(slab);
    return slab;
  }

  #postReceive(buffer: ArenaBuffer): void {
    const received = this.rw.recv([buffer.bytes]).then(({ bytes }) => {
      const message = Buffer.from(buffer.bytes.subarray(0, bytes));
      // Posted again before the message is answered: the answer gives the peer leave to send.
      if (!this.#disconnected) this.#postReceive(buffer);
      return message;
    });
    received.catch(() => {});
    this.#received.push(received);
  }

  /** The next message. Rejects when the peer disconnects. */
  async receive(): Promise<Buffer> {
    try {
      return await Promise.race([this.#received.shift()!, this.lost]);
    } catch (error) {
      // The flushed RECVs and the disconnect come in either order; the disconnect is the reason.
      await Promise.race([this.lost, new Promise((resolve) => setTimeout(resolve, DISCONNECT_MS))]);
      throw error;
    }
  }

  /** Sends a message. */
  async send(message: Buffer): Promise<void> {
    await this.rw.send([message]);
  }

  /** Disconnects and frees everything. */
  async close(): Promise<void> {
    this.#disconnect();
    this.#id.close();
    await Promise.all(this.#slabs.map((slab) => slab.close()));
    await this.#pd.close();
  }

  #disconnect(): void {
    try {
      this.#id.disconnect();
    } catch {
      // The connection is down already, or never was up.
    }
  }
}
