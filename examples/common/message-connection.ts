/** One RDMA connection with a protection domain of its own: messages both ways, READ and WRITE over an RwContext. */
import {
  Arena,
  CmId,
  type CompletionQueue,
  type DmaCounters,
  type ProtectionDomain,
  type RdmaError,
  RwContext,
} from '../../lib/index.ts';

/** Where to connect to. */
export interface Destination {
  readonly host: string;
  readonly port: number;
  /** Fail unless this device leads there. */
  readonly device?: string | undefined;
}

/** What a protocol makes of a connection. */
export interface ConnectionOptions {
  /** RECVs that stay posted: as many messages as the peer may have in flight. */
  readonly messages: number;
  /** Bytes of the longest message. */
  readonly messageBytes: number;
  readonly maxSendWr: number;
  /** Bytes by which the arena grows. */
  readonly slabBytes?: number;
  /** The protocol's error for a connection that has ended. */
  lost(message: string, cause?: Error): Error;
}

/** RDMA READs in flight, in either direction; soft and most hard devices have more. */
const MAX_READS = 16;
const CONNECT_TIMEOUT_MS = 5000;

/** The address leads through another device than the one that was asked for. */
export class WrongDeviceError extends Error {
  override readonly name = 'WrongDeviceError';
}

/** A connection. After its end every promise rejects with the reason. */
export class MessageConnection {
  /** Resolves, never rejects, with the reason when the connection has ended. */
  readonly lost: Promise<Error>;
  readonly pd: ProtectionDomain;
  readonly arena: Arena;
  readonly rw: RwContext;
  readonly #id: CmId;
  readonly #cq: CompletionQueue;
  readonly #options: ConnectionOptions;
  readonly #early: Buffer[] = [];
  #handler: (message: Buffer) => void = (message) => this.#early.push(message);
  #up = false;
  #peer = 'unknown peer';
  #reason: Error | undefined;
  #resolveLost!: (reason: Error) => void;
  #closing: Promise<void> | undefined;

  private constructor(id: CmId, options: ConnectionOptions) {
    const { messages, maxSendWr, slabBytes } = options;
    this.#id = id;
    this.#options = options;
    this.pd = id.device!.allocPd();
    this.#cq = id.device!.createCq({ cqe: maxSendWr + messages });
    const qp = id.createQp({ pd: this.pd, sendCq: this.#cq, maxSendWr, maxRecvWr: messages });
    this.arena = Arena.for(this.pd, slabBytes === undefined ? {} : { slabBytes });
    this.rw = new RwContext(qp);
    this.lost = new Promise((resolve) => {
      this.#resolveLost = resolve;
    });
    id.on('disconnected', () => this.#fail(this.#gone()));
  }

  /**
   * Connects with `hello` as private data.
   * @returns the connection, and the private data of the answer
   * @throws RdmaError, whose `privateData` is what the server gave as the reason of a refusal; WrongDeviceError
   */
  static async connect(
    { host, port, device }: Destination,
    hello: Buffer,
    options: ConnectionOptions,
  ): Promise<{ connection: MessageConnection; answer: Buffer }> {
    const timeout = { timeoutMs: CONNECT_TIMEOUT_MS };
    const id = new CmId();
    let connection: MessageConnection | undefined;
    try {
      await id.resolveAddr({ host, port }, timeout);
      if (device !== undefined && id.device?.name !== device) {
        throw new WrongDeviceError(
          `${host} is reached through ${id.device?.name}, not ${device}; give another address or device`,
        );
      }
      await id.resolveRoute(timeout);
      connection = new MessageConnection(id, options);
      await connection.#postReceives();
      const { privateData } = await id.connect({ privateData: hello, ...parameters(id) }, timeout);
      connection.#onUp();
      return { connection, answer: privateData };
    } catch (error) {
      if (connection === undefined) id.close();
      else await connection.close(error as Error);
      throw error;
    }
  }

  /** Accepts a connection request with `hello` as private data. @throws RdmaError */
  static async accept(id: CmId, hello: Buffer, options: ConnectionOptions): Promise<MessageConnection> {
    const connection = new MessageConnection(id, options);
    try {
      await connection.#postReceives();
      await id.accept({ privateData: hello, ...parameters(id) }, { timeoutMs: CONNECT_TIMEOUT_MS });
      connection.#onUp();
      return connection;
    } catch (error) {
      await connection.close(error as Error);
      throw error;
    }
  }

  #onUp(): void {
    const address = this.#id.peerAddress;
    if (address !== undefined) this.#peer = `${address.host}:${address.port}`;
    this.#up = true;
  }

  /** The other end, for people. */
  get peer(): string {
    return this.#peer;
  }

  /** Name of the device that the connection goes through. */
  get device(): string {
    return this.pd.device.name;
  }

  /** What the library did, by strategy. */
  get counters(): Readonly<DmaCounters> {
    return this.rw.builder.counters;
  }

  /** Why the connection has ended; undefined while it has not. */
  get reason(): Error | undefined {
    return this.#reason;
  }

  /** Calls `handler` for every message, in order. The bytes are its own. */
  onMessage(handler: (message: Buffer) => void): void {
    this.#handler = handler;
    for (const message of this.#early.splice(0)) handler(message);
  }

  /** Every message that the peer may send has its RECV before: iWARP drops the connection otherwise. */
  async #postReceives(): Promise<void> {
    const { messages, messageBytes } = this.#options;
    for (let i = 0; i < messages; i++) this.#receive((await this.arena.alloc(messageBytes)).bytes);
  }

  #receive(buffer: Buffer): void {
    this.rw.recv(buffer).then(
      ({ bytes }) => {
        const message = Buffer.from(buffer.subarray(0, bytes));
        // Posted again first: an answer gives the peer leave to send the next message.
        if (this.#reason === undefined) this.#receive(buffer);
        this.#handler(message);
      },
      (error: Error) => this.#fail(error),
    );
  }

  /** Carries out an operation of {@link rw}: after any failure the queue pair is of no more use, so the connection ends. */
  async run(operation: (rw: RwContext) => Promise<unknown>): Promise<void> {
    if (this.#reason !== undefined) throw this.#reason;
    try {
      await operation(this.rw);
    } catch (error) {
      this.#fail(error as Error);
      throw this.#reason ?? error;
    }
  }

  /** Before the connection is up, connect() and accept() know better what went wrong. */
  #fail(reason: Error): void {
    if (this.#up) void this.close(reason);
  }

  #gone(cause?: Error): Error {
    return this.#options.lost('the peer closed the connection, or died', cause);
  }

  /** Ends the connection; what is in flight rejects with the reason. Idempotent. */
  close(reason: Error = this.#options.lost('the connection was closed')): Promise<void> {
    // Flushed work and the disconnect come in either order and mean the same.
    this.#reason ??= (reason as RdmaError).code === 'ERR_RDMA_WC_WR_FLUSH_ERR' ? this.#gone(reason) : reason;
    this.#closing ??= this.#close(this.#reason);
    return this.#closing;
  }

  /** From the queue pair down to the domain; registered memory goes last. */
  async #close(reason: Error): Promise<void> {
    if (this.#up && !this.#id.closed) this.#disconnect();
    this.#id.close();
    this.#cq.close();
    this.#resolveLost(reason);
    await this.pd.close();
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
function parameters(id: CmId) {
  const { attr } = id.device!;
  return {
    responderResources: Math.min(MAX_READS, attr.maxQpRdAtom),
    initiatorDepth: Math.min(MAX_READS, attr.maxQpInitRdAtom),
    retryCount: 3,
    rnrRetryCount: 3,
  };
}
