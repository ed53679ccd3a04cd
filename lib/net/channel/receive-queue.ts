/** The receives of a queue pair: posted when it is made, and again as they complete. What completes them is a message. */
import { type RdmaError, WcStatus, wcError } from '../../errors.ts';
import { type QueuePair, type RecvWr, WcOpcode } from '../../verbs/index.ts';
import { MESSAGE_BYTES, protocolError } from '../wire/index.ts';
import type { ChannelMemory } from './memory.ts';

/** @param written bytes that came with the message, -1 when that is not known; what it throws ends the connection */
export type OnMessage = (msg: number, written: number) => void;

const IBV_WC_WITH_IMM = 2;

/** @internal */
export class ReceiveQueue {
  /** Byte order of the peer, for messages that are SENDs. */
  bigEndianPeer = false;
  readonly #qp: QueuePair;
  readonly #messages: DataView;
  /** The device has no immediate data: messages are SENDs. */
  readonly #bySend: boolean;
  readonly #onMessage: OnMessage;
  readonly #onError: (error: RdmaError) => void;
  readonly #all: RecvWr[];
  #next = 0;
  #toPost = 0;

  /** Posts them. */
  constructor(
    qp: QueuePair,
    memory: ChannelMemory,
    bySend: boolean,
    onMessage: OnMessage,
    onError: (error: RdmaError) => void,
  ) {
    this.#qp = qp;
    this.#messages = memory.messages;
    this.#bySend = bySend;
    this.#onMessage = onMessage;
    this.#onError = onError;
    const { messageAddr, localKey: lkey } = memory;
    this.#all = Array.from({ length: memory.receives }, (_, i) => ({
      sges: bySend ? [{ addr: messageAddr + i * MESSAGE_BYTES, length: MESSAGE_BYTES, lkey }] : [],
    }));
    qp.postRecv(this.#all, this.#onReceived);
  }

  /** Posts again what has completed. @throws RdmaError what the queue pair says */
  repost(): void {
    if (this.#toPost === 0) return;
    const all = this.#all;
    const first = this.#next - this.#toPost;
    const list =
      first >= 0
        ? all.slice(first, this.#next)
        : all.slice(first + all.length).concat(all.slice(0, this.#next));
    this.#toPost = 0;
    this.#qp.postRecv(list, this.#onReceived);
  }

  readonly #onReceived = (status: number, byteLen: number, wc: number): void => {
    if (status !== WcStatus.SUCCESS) {
      this.#onError(wcError(status, { operation: 'receive', qpNum: this.#qp.qpNum }));
      return;
    }
    const index = this.#next;
    this.#next = index + 1 === this.#all.length ? 0 : index + 1;
    this.#toPost += 1;
    try {
      if (this.#bySend) this.#onMessage(this.#sentMessage(index, byteLen), -1);
      else this.#onMessage(this.#immediate(wc), byteLen);
    } catch (error) {
      this.#onError(error as RdmaError);
    }
  };

  #sentMessage(index: number, byteLen: number): number {
    if (byteLen !== MESSAGE_BYTES) {
      throw protocolError(`a message of ${byteLen} bytes, instead of ${MESSAGE_BYTES}`);
    }
    return this.#messages.getUint32(index * MESSAGE_BYTES, !this.bigEndianPeer);
  }

  #immediate(wc: number): number {
    const { ring } = this.#qp.recvCq;
    if ((ring.flags(wc) & IBV_WC_WITH_IMM) === 0) throw protocolError('a message without immediate data');
    if (ring.opcode(wc) !== WcOpcode.RECV_RDMA_WITH_IMM) {
      throw protocolError('a SEND, where messages come with an RDMA WRITE');
    }
    return ring.immData(wc);
  }
}
