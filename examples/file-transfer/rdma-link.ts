/** A {@link Link} over an RDMA connection. */
import { Access, type CmId, type DmaCounters, type RdmaError } from '../../lib/index.ts';
import { type ConnectionOptions, type Destination, MessageConnection } from '../common/message-connection.ts';
import { agree, decodeHello, decodeRefusal, encodeHello, type Limits } from './hello.ts';
import { type Exposure, type Link, LostError, type RemoteMemory, type SlotMemory } from './link.ts';
import { CONTROL_CREDITS, MESSAGE_BYTES } from './protocol.ts';

function connectionOptions({ depth }: Limits): ConnectionOptions {
  const messages = depth + CONTROL_CREDITS;
  return {
    messages,
    messageBytes: MESSAGE_BYTES,
    // A chunk is a WRITE or READ and a SEND; the window bounds both.
    maxSendWr: 2 * messages,
    lost: (message, cause) => new LostError(message, { cause }),
  };
}

/** A connection to a peer that speaks the file-transfer protocol. */
export class RdmaLink implements Link {
  readonly limits: Limits;
  readonly #connection: MessageConnection;

  private constructor(connection: MessageConnection, limits: Limits) {
    this.#connection = connection;
    this.limits = limits;
  }

  /** Connects and agrees on limits. Rejects with RdmaError, or with TransferError when the server refuses. */
  static async connect(destination: Destination, proposed: Limits): Promise<RdmaLink> {
    const { connection, answer } = await MessageConnection.connect(
      destination,
      encodeHello(proposed),
      connectionOptions(proposed),
    ).catch((error: RdmaError) => {
      throw decodeRefusal(error.privateData) ?? error;
    });
    try {
      return new RdmaLink(connection, agree(proposed, decodeHello(answer)));
    } catch (error) {
      await connection.close(error as Error);
      throw error;
    }
  }

  /** Accepts a connection request whose hello asks for `proposed`; `own` are the limits of this end. */
  static async accept(id: CmId, proposed: Limits, own: Limits): Promise<RdmaLink> {
    const limits = agree(proposed, own);
    return new RdmaLink(
      await MessageConnection.accept(id, encodeHello(limits), connectionOptions(limits)),
      limits,
    );
  }

  get lost(): Promise<Error> {
    return this.#connection.lost;
  }

  get peer(): string {
    return this.#connection.peer;
  }

  get counters(): Readonly<DmaCounters> {
    return this.#connection.counters;
  }

  /** Name of the device that the connection goes through. */
  get device(): string {
    return this.#connection.device;
  }

  onMessage(handler: (bytes: Buffer) => void): void {
    this.#connection.onMessage(handler);
  }

  send(message: Buffer): Promise<void> {
    return this.#connection.run((rw) => rw.send([message]));
  }

  read(local: Buffer, remote: RemoteMemory): Promise<void> {
    return this.#connection.run((rw) => rw.read([local], remote));
  }

  write(local: Buffer, remote: RemoteMemory): Promise<void> {
    return this.#connection.run((rw) => rw.write([local], remote));
  }

  async allocSlots(count: number, slotBytes: number, exposure: Exposure): Promise<SlotMemory> {
    try {
      return exposure === 'none'
        ? await this.#allocLocal(count, slotBytes)
        : await this.#allocExposed(count, slotBytes, exposure);
    } catch (error) {
      throw this.#connection.reason ?? error;
    }
  }

  async #allocLocal(count: number, slotBytes: number): Promise<SlotMemory> {
    const { arena } = this.#connection;
    const buffers = await Promise.all(Array.from({ length: count }, () => arena.alloc(slotBytes)));
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
    const slab = await this.#connection.pd.allocSlab(count * slotBytes, Access.LOCAL_WRITE | access);
    const slots = Array.from({ length: count }, (_, i) => ({
      bytes: Buffer.from(slab.buffer, i * slotBytes, slotBytes),
      addr: slab.addr + i * slotBytes,
      rkey: slab.mr.rkey,
    }));
    return { slots, close: () => slab.close() };
  }

  close(reason?: Error): Promise<void> {
    return this.#connection.close(reason);
  }
}
