/** A {@link Link} over an RDMA connection: one protection domain, queue pair and read/write context each. */
import {
  Access,
  Arena,
  CmId,
  type CompletionQueue,
  type DmaCounters,
  type ProtectionDomain,
  type RdmaError,
  RwContext,
} from '../../lib/index.ts';
import { agree, decodeHello, decodeRefusal, encodeHello, type Limits } from './hello.ts';
import { type Exposure, type Link, LostError, type RemoteMemory, type SlotMemory } from './link.ts';
import { CONTROL_CREDITS, MESSAGE_BYTES } from './protocol.ts';

/** Where to connect to. */
export interface Destination {
  host: string;
  port: number;
  /** Fail unless this device leads there. */
  device?: string | undefined;
}

/** RDMA READs in flight, in either direction; soft and most hard devices have more. */
const MAX_READS = 16;
const CONNECT_TIMEOUT_MS = 5000;
const PEER_GONE = 'the peer closed the connection, or died';

/** A connection to a peer that speaks the file-transfer protocol. */
export class RdmaLink implements Link {
  readonly lost: Promise<Error>;
  readonly #id: CmId;
  readonly #pd: ProtectionDomain;
  readonly #cq: CompletionQueue;
  readonly #arena: Arena;
  readonly #rw: RwContext;
  #limits: Limits;
  #peer = 'unknown peer';
  #connected = false;
  #handler: (bytes: Buffer) => void = (bytes) => this.#early.push(bytes);
  readonly #early: Buffer[] = [];
  #reason: Error | undefined;
  #resolveLost!: (reason: Error) => void;
  #closing: Promise<void> | undefined;

  private constructor(id: CmId, limits: Limits) {
    const device = id.device!;
    const messages = limits.depth + CONTROL_CREDITS;
    // A chunk is a WRITE or READ and a SEND; the window bounds both.
    const maxSendWr = 2 * messages;
    this.#id = id;
    this.#limits = limits;
    this.#pd = device.allocPd();
    this.#cq = device.createCq({ cqe: maxSendWr + messages });
    const qp = id.createQp({ pd: this.#pd, sendCq: this.#cq, maxSendWr, maxRecvWr: messages });
    this.#arena = Arena.for(this.#pd);
    this.#rw = new RwContext(qp);
    this.lost = new Promise((resolve) => {
      this.#resolveLost = resolve;
    });
    id.on('disconnected', () => this.#fail(new LostError(PEER_GONE)));
  }

  /** Connects and agrees on limits. Rejects with RdmaError, or with TransferError when the server refuses. */
  static async connect({ host, port, device }: Destination, proposed: Limits): Promise<RdmaLink> {
    const timeout = { timeoutMs: CONNECT_TIMEOUT_MS };
    const id = new CmId();
    let link: RdmaLink | undefined;
    try {
      await id.resolveAddr({ host, port }, timeout);
      if (device !== undefined && id.device?.name !== device) {
        throw new Error(
          `${host} is reached through ${id.device?.name}, not ${device}; give another address or device`,
        );
      }
      await id.resolveRoute(timeout);
      link = new RdmaLink(id, proposed);
      await link.#postReceives();
      const answer = await id.connect(
        { privateData: encodeHello(proposed), ...connectionParameters(id) },
        timeout,
      );
      link.#onConnected(agree(proposed, decodeHello(answer.privateData)));
      return link;
    } catch (error) {
      if (link) await link.close(error as Error);
      else id.close();
      throw decodeRefusal((error as RdmaError).privateData) ?? error;
    }
  }

  /** Accepts a connection request whose hello asks for `proposed`; `own` are the limits of this end. */
  static async accept(id: CmId, proposed: Limits, own: Limits): Promise<RdmaLink> {
    const limits = agree(proposed, own);
    const link = new RdmaLink(id, limits);
    try {
      await link.#postReceives();
      const parameters = { privateData: encodeHello(limits), ...connectionParameters(id) };
      await id.accept(parameters, { timeoutMs: CONNECT_TIMEOUT_MS });
      link.#onConnected(limits);
      return link;
    } catch (error) {
      await link.close(error as Error);
      throw error;
    }
  }

  #onConnected(limits: Limits): void {
    const address = this.#id.peerAddress;
    if (address) this.#peer = `${address.host}:${address.port}`;
    this.#limits = limits;
    this.#connected = true;
  }

  get limits(): Limits {
    return this.#limits;
  }

  get peer(): string {
    return this.#peer;
  }

  get counters(): Readonly<DmaCounters> {
    return this.#rw.builder.counters;
  }

  /** Name of the device that the connection goes through. */
  get device(): string {
    return this.#pd.device.name;
  }

  onMessage(handler: (bytes: Buffer) => void): void {
    this.#handler = handler;
    for (const bytes of this.#early.splice(0)) handler(bytes);
  }

  /** Every message the peer may send has its RECV before it may send it: iWARP drops the connection otherwise. */
  async #postReceives(): Promise<void> {
    for (let i = 0; i < this.#limits.depth + CONTROL_CREDITS; i++) {
      const buffer = await this.#arena.alloc(MESSAGE_BYTES);
      this.#receiveInto(buffer.bytes);
    }
  }

  #receiveInto(buffer: Buffer): void {
    this.#rw.recv([buffer]).then(
      ({ bytes }) => {
        const message = Buffer.from(buffer.subarray(0, bytes));
        // Posted again first: an answer gives the peer leave to send the next message.
        if (!this.#reason) this.#receiveInto(buffer);
        this.#handler(message);
      },
      (error: Error) => this.#fail(error),
    );
  }

  send(message: Buffer): Promise<void> {
    return this.#run(() => this.#rw.send([message]));
  }

  read(local: Buffer, remote: RemoteMemory): Promise<void> {
    return this.#run(() => this.#rw.read([local], remote));
  }

  write(local: Buffer, remote: RemoteMemory): Promise<void> {
    return this.#run(() => this.#rw.write([local], remote));
  }

  async #run(operation: () => Promise<unknown>): Promise<void> {
    if (this.#reason) throw this.#reason;
    try {
      await operation();
    } catch (error) {
      // After any failure the queue pair is of no more use.
      this.#fail(error as Error);
      throw this.#reason;
    }
  }

  async allocSlots(count: number, slotBytes: number, exposure: Exposure): Promise<SlotMemory> {
    try {
      return exposure === 'none'
        ? await this.#allocLocal(count, slotBytes)
        : await this.#allocExposed(count, slotBytes, exposure);
    } catch (error) {
      throw this.#reason ?? error;
    }
  }

  async #allocLocal(count: number, slotBytes: number): Promise<SlotMemory> {
    const buffers = await Promise.all(Array.from({ length: count }, () => this.#arena.alloc(slotBytes)));
    return {
      slots: buffers.map((buffer) => ({ bytes: buffer.bytes, addr: buffer.addr, rkey: 0 })),
      close: async () => {
        for (const buffer of buffers) buffer.free();
      },
    };
  }

  /** A region of its own: the peer can reach the chunks in flight and nothing else of this process. */
  async #allocExposed(
    count: number,
    slotBytes: number,
    exposure: 'peerReads' | 'peerWrites',
  ): Promise<SlotMemory> {
    const access = exposure === 'peerReads' ? Access.REMOTE_READ : Access.REMOTE_WRITE;
    const slab = await this.#pd.allocSlab(count * slotBytes, Access.LOCAL_WRITE | access);
    const slots = Array.from({ length: count }, (_, i) => ({
      bytes: Buffer.from(slab.buffer, i * slotBytes, slotBytes),
      addr: slab.addr + i * slotBytes,
      rkey: slab.mr.rkey,
    }));
    return { slots, close: () => slab.close() };
  }

  /** Before the connection is up, connect() and accept() know better what went wrong. */
  #fail(reason: Error): void {
    if (!this.#connected) return;
    const { code } = reason as RdmaError;
    // Flushed work and the disconnect come in either order and mean the same.
    void this.close(
      code === 'ERR_RDMA_WC_WR_FLUSH_ERR' ? new LostError(PEER_GONE, { cause: reason }) : reason,
    );
  }

  close(reason: Error = new LostError('the connection was closed')): Promise<void> {
    this.#reason ??= reason;
    this.#closing ??= this.#close(this.#reason);
    return this.#closing;
  }

  /** From the queue pair down to the domain; what was in flight rejects, and registered memory goes last. */
  async #close(reason: Error): Promise<void> {
    if (this.#connected && !this.#id.closed) this.#disconnect();
    this.#id.close();
    this.#cq.close();
    this.#resolveLost(reason);
    await this.#pd.close();
  }

  #disconnect(): void {
    try {
      this.#id.disconnect();
    } catch {
      // The connection is down already, which is what was wanted.
    }
  }
}

/** Deep enough for pipelined READs, within what the device has, and quick to notice a dead peer. */
function connectionParameters(id: CmId) {
  const { attr } = id.device!;
  return {
    responderResources: Math.min(MAX_READS, attr.maxQpRdAtom),
    initiatorDepth: Math.min(MAX_READS, attr.maxQpInitRdAtom),
    retryCount: 3,
    rnrRetryCount: 3,
  };
}
