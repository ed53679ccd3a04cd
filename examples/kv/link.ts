/** One RDMA connection between a client and the server: messages, READ, WRITE, and memory for the peer. */
import { type CmId, type DmaCounters, type Exposure, RdmaError } from '../../lib/index.ts';
import {
  type ConnectionOptions,
  type Destination,
  MessageConnection,
  WrongDeviceError,
} from '../common/message-connection.ts';
import { KvError } from './errors.ts';
import { checkHello, DEPTH, encodeHello, MESSAGE_BYTES } from './protocol.ts';

export type { Destination } from '../common/message-connection.ts';

/** Memory of the peer. */
export interface RemoteMemory {
  readonly addr: number;
  readonly rkey: number;
}

const OPTIONS: ConnectionOptions = {
  // A request of every kind may be in flight, and one RENEW.
  messages: DEPTH + 1,
  messageBytes: MESSAGE_BYTES,
  maxSendWr: 256,
  slabBytes: 4 * 1024 * 1024,
  lost: (message, cause) => new KvError('ERR_KV_LOST', message, { cause }),
};

/** A connection; each has a protection domain of its own, so its keys are of no use to any other. */
export class Link {
  readonly #connection: MessageConnection;

  private constructor(connection: MessageConnection) {
    this.#connection = connection;
  }

  /** @throws RdmaError; KvError ERR_KV_INVALID for another device, ERR_KV_BUSY or ERR_KV_PROTOCOL when refused */
  static async connect(destination: Destination): Promise<Link> {
    const { connection, answer } = await MessageConnection.connect(destination, encodeHello(), OPTIONS).catch(
      (error) => {
        throw refusal(error) ?? error;
      },
    );
    try {
      checkHello(answer);
    } catch (error) {
      await connection.close(error as Error);
      throw error;
    }
    return new Link(connection);
  }

  /** Accepts a connection request. */
  static async accept(id: CmId): Promise<Link> {
    return new Link(await MessageConnection.accept(id, encodeHello(), OPTIONS));
  }

  /** Resolves, never rejects, with the reason when the connection has ended. */
  get lost(): Promise<Error> {
    return this.#connection.lost;
  }

  /** The other end, for people. */
  get peer(): string {
    return this.#connection.peer;
  }

  get device(): string {
    return this.#connection.device;
  }

  /** What the library did, by strategy. */
  get counters(): Readonly<DmaCounters> {
    return this.#connection.counters;
  }

  /** True from the moment that the connection has ended. */
  get closed(): boolean {
    return this.#connection.reason !== undefined;
  }

  /** Calls [handler] for every message, in order. The bytes are its own. */
  onMessage(handler: (message: Buffer) => void): void {
    this.#connection.onMessage(handler);
  }

  send(message: Buffer): Promise<void> {
    return this.#connection.run((rw) => rw.send(message));
  }

  /** RDMA READ: calls [use] with bytes of the peer, which are of use only there. */
  async read<T>(remote: RemoteMemory, length: number, use: (bytes: Buffer) => T): Promise<T> {
    using block = await this.#connection.arena.alloc(length);
    await this.#connection.run((rw) => rw.read(block, remote));
    return use(block.bytes);
  }

  /** RDMA WRITE of [bytes] into the peer's memory, and a message behind it. */
  write(bytes: Buffer, remote: RemoteMemory, message: Buffer): Promise<void> {
    return this.#connection.run((rw) => rw.write(bytes, remote, { message }));
  }

  /** Lets the peer reach [memory] until it is revoked; [access] are flags of `Access`. */
  expose(memory: ArrayBuffer, access: number): Promise<Exposure> {
    return this.#connection.rw.builder.expose(memory, access);
  }

  /** Ends the connection; what is in flight rejects with the reason. Idempotent. */
  close(reason?: Error): Promise<void> {
    return this.#connection.close(reason);
  }
}

/** What the store makes of a failure to connect. A server that refuses gives its reason as text after a hello. */
function refusal(error: unknown): KvError | undefined {
  if (error instanceof WrongDeviceError) return new KvError('ERR_KV_INVALID', error.message);
  if (!(error instanceof RdmaError) || error.privateData === undefined) return undefined;
  try {
    checkHello(error.privateData);
  } catch {
    return undefined;
  }
  const text = Buffer.from(error.privateData.subarray(8)).toString('utf8').replace(/\0+$/, '');
  return new KvError('ERR_KV_BUSY', text, { cause: error });
}
