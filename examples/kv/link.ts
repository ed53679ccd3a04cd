/** One RDMA connection between a client and the server: messages, READ, WRITE, and memory for the peer. */
import {
  Arena,
  CmId,
  type CompletionQueue,
  type DmaCounters,
  type Exposure,
  type ProtectionDomain,
  RdmaError,
  RwContext,
} from '../../lib/index.ts';
import { KvError } from './errors.ts';
import { checkHello, DEPTH, encodeHello, MESSAGE_BYTES } from './protocol.ts';

/** Where to connect to. */
export interface Destination {
  readonly host: string;
  readonly port: number;
  /** Fail unless this device leads there. */
  readonly device?: string | undefined;
}

/** Memory of the peer. */
export interface RemoteMemory {
  readonly addr: number;
  readonly rkey: number;
}

/** A request of every kind may be in flight, and one RENEW. */
const MESSAGES = DEPTH + 1;
const MAX_READS = 16;
const MAX_SEND_WR = 256;
const CONNECT_TIMEOUT_MS = 5000;

/** A connection; each has a protection domain of its own, so its keys are of no use to any other. */
export class Link {
  /** Resolves, never rejects, with the reason when the connection has ended. */
  readonly lost: Promise<Error>;
  readonly #id: CmId;
  readonly #pd: ProtectionDomain;
  readonly #cq: CompletionQueue;
  readonly #arena: Arena;
  readonly #rw: RwContext;
  readonly #early: Buffer[] = [];
  #handler: (message: Buffer) => void = (message) => this.#early.push(message);
  #connected = false;
  #reason: Error | undefined;
  #closing: Promise<void> | undefined;
  #resolveLost!: (reason: Error) => void;

  private constructor(id: CmId) {
    const device = id.device!;
    this.#id = id;
    this.#pd = device.allocPd();
    this.#cq = device.createCq({ cqe: MAX_SEND_WR + MESSAGES });
    const qp = id.createQp({
      pd: this.#pd,
      sendCq: this.#cq,
      maxSendWr: MAX_SEND_WR,
      maxRecvWr: MESSAGES,
    });
    this.#arena = Arena.for(this.#pd, { slabBytes: 4 * 1024 * 1024 });
    this.#rw = new RwContext(qp);
    this.lost = new Promise((resolve) => {
      this.#resolveLost = resolve;
    });
    id.on('disconnected', () =>
      this.#fail(new KvError('ERR_KV_LOST', 'the peer closed the connection, or died')),
    );
  }

  /** @throws RdmaError; KvError ERR_KV_BUSY or ERR_KV_PROTOCOL when the server refuses */
  static async connect({ host, port, device }: Destination): Promise<Link> {
    const timeout = { timeoutMs: CONNECT_TIMEOUT_MS };
    const id = new CmId();
    let link: Link | undefined;
    try {
      await id.resolveAddr({ host, port }, timeout);
      if (device !== undefined && id.device?.name !== device) {
        throw new KvError('ERR_KV_INVALID', `${host} is reached through ${id.device?.name}, not ${device}`);
      }
      await id.resolveRoute(timeout);
      link = new Link(id);
      await link.#postReceives();
      const { privateData } = await id.connect({ privateData: encodeHello(), ...parameters(id) }, timeout);
      checkHello(privateData);
      link.#connected = true;
      return link;
    } catch (error) {
      if (link !== undefined) await link.close(error as Error);
      else id.close();
      throw refusal(error) ?? error;
    }
  }

  /** Accepts a connection request. */
  static async accept(id: CmId): Promise<Link> {
    const link = new Link(id);
    try {
      await link.#postReceives();
      await id.accept({ privateData: encodeHello(), ...parameters(id) }, { timeoutMs: CONNECT_TIMEOUT_MS });
      link.#connected = true;
      return link;
    } catch (error) {
      await link.close(error as Error);
      throw error;
    }
  }

  /** The other end, for people. */
  get peer(): string {
    const address = this.#id.peerAddress;
    return address === undefined ? 'unknown peer' : `${address.host}:${address.port}`;
  }

  get device(): string {
    return this.#pd.device.name;
  }

  /** What the library did, by strategy. */
  get counters(): Readonly<DmaCounters> {
    return this.#rw.builder.counters;
  }

  /** True from the moment that the connection has ended. */
  get closed(): boolean {
    return this.#reason !== undefined;
  }

  /** Calls [handler] for every message, in order. The bytes are its own. */
  onMessage(handler: (message: Buffer) => void): void {
    this.#handler = handler;
    for (const message of this.#early.splice(0)) handler(message);
  }

  send(message: Buffer): Promise<void> {
    return this.#run(() => this.#rw.send(message));
  }

  /** RDMA READ: calls [use] with bytes of the peer, which are of use only there. */
  async read<T>(remote: RemoteMemory, length: number, use: (bytes: Buffer) => T): Promise<T> {
    using block = await this.#arena.alloc(length);
    await this.#run(() => this.#rw.read(block, remote));
    return use(block.bytes);
  }

  /** RDMA WRITE of [bytes] into the peer's memory, and a message behind it. */
  write(bytes: Buffer, remote: RemoteMemory, message: Buffer): Promise<void> {
    return this.#run(() => this.#rw.write(bytes, remote, { message }));
  }

  /** Lets the peer reach [memory] until it is revoked; [access] are flags of `Access`. */
  expose(memory: ArrayBuffer, access: number): Promise<Exposure> {
    return this.#rw.builder.expose(memory, access);
  }

  /** Every message that the peer may send has its RECV before: iWARP drops the connection otherwise. */
  async #postReceives(): Promise<void> {
    for (let i = 0; i < MESSAGES; i++) this.#receive((await this.#arena.alloc(MESSAGE_BYTES)).bytes);
  }

  #receive(buffer: Buffer): void {
    this.#rw.recv(buffer).then(
      ({ bytes }) => {
        const message = Buffer.from(buffer.subarray(0, bytes));
        // Posted again first: an answer gives the peer leave to send the next message.
        if (this.#reason === undefined) this.#receive(buffer);
        this.#handler(message);
      },
      (error: Error) => this.#fail(error),
    );
  }

  async #run(operation: () => Promise<unknown>): Promise<void> {
    if (this.#reason !== undefined) throw this.#reason;
    try {
      await operation();
    } catch (error) {
      // After any failure the queue pair is of no more use.
      this.#fail(error as Error);
      throw this.#reason ?? error;
    }
  }

  /** Before the connection is up, connect() and accept() know better what went wrong. */
  #fail(reason: Error): void {
    if (this.#connected) void this.close(reason);
  }

  /** Ends the connection; what is in flight rejects with the reason. Idempotent. */
  close(reason: Error = new KvError('ERR_KV_LOST', 'the connection was closed')): Promise<void> {
    this.#reason ??=
      (reason as RdmaError).code === 'ERR_RDMA_WC_WR_FLUSH_ERR'
        ? new KvError('ERR_KV_LOST', 'the connection ended', { cause: reason })
        : reason;
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    try {
      if (this.#connected && !this.#id.closed) void this.#id.disconnect();
    } catch {
      // It is down already.
    }
    this.#id.close();
    this.#cq.close();
    this.#resolveLost(this.#reason!);
    await this.#pd.close();
  }
}

/** Pipelined READs, and a dead peer is noticed soon. */
function parameters(id: CmId) {
  const { attr } = id.device!;
  return {
    responderResources: Math.min(MAX_READS, attr.maxQpRdAtom),
    initiatorDepth: Math.min(MAX_READS, attr.maxQpInitRdAtom),
    retryCount: 3,
    rnrRetryCount: 3,
  };
}

/** The reason that a server gives for refusing: text after a hello. */
function refusal(error: unknown): KvError | undefined {
  if (!(error instanceof RdmaError) || error.privateData === undefined) return undefined;
  try {
    checkHello(error.privateData);
  } catch {
    return undefined;
  }
  const text = Buffer.from(error.privateData.subarray(8)).toString('utf8').replace(/\0+$/, '');
  return new KvError('ERR_KV_BUSY', text, { cause: error });
}
