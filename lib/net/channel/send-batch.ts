/** Work requests that are gathered and posted with one native call; their objects are used again and again. */
import { Opcode, type QueuePair, SendFlags, type SendWr, type Sge } from '../../verbs/index.ts';
import { MESSAGE_BYTES } from '../wire/index.ts';

/** Told of every work request, in the order they were added. @internal */
export type OnSent = (tag: number, status: number) => void;

/** From here on a work request completes by itself, so that what it sent from is free early. */
const SIGNAL_BYTES = 4096;

/** Work requests of one native call. */
const BATCH = 64;

interface Request {
  opcode: number;
  flags: number;
  sges: Sge[] | undefined;
  inline: Uint8Array | undefined;
  remoteAddr: number;
  rkey: number;
  immData: number;
  readonly sge: { addr: number; length: number; lkey: number };
  readonly oneSge: Sge[];
  readonly word: Uint8Array;
}

const NO_SGES: Sge[] = [];

function newRequest(): Request {
  const sge = { addr: 0, length: 0, lkey: 0 };
  return {
    opcode: 0,
    flags: 0,
    sges: NO_SGES,
    inline: undefined,
    remoteAddr: 0,
    rkey: 0,
    immData: 0,
    sge,
    oneSge: [sge],
    word: new Uint8Array(MESSAGE_BYTES),
  };
}

/** @internal */
export class SendBatch {
  /** Work requests that one message with data takes. */
  readonly perMessage: number;
  readonly #qp: QueuePair;
  readonly #bySend: boolean;
  readonly #bigEndianPeer: boolean;
  readonly #requests: Request[] = Array.from({ length: BATCH }, newRequest);
  readonly #list: SendWr[] = [];
  readonly #onSent: OnSent;
  /** Tags of what is in flight: a ring. */
  readonly #tags: Int32Array;
  readonly #mask: number;
  #first = 0;
  #last = 0;

  /**
   * @param bySend the device has no immediate data: messages are SENDs of 4 bytes
   * @param bigEndianPeer their byte order then
   */
  constructor(qp: QueuePair, bySend: boolean, bigEndianPeer: boolean, onSent: OnSent) {
    this.#qp = qp;
    this.#bySend = bySend;
    this.#bigEndianPeer = bigEndianPeer;
    this.#onSent = onSent;
    this.perMessage = bySend ? 2 : 1;
    const capacity = 2 ** Math.ceil(Math.log2(qp.caps.maxSendWr + BATCH));
    this.#tags = new Int32Array(capacity);
    this.#mask = capacity - 1;
  }

  /** Work requests in flight or gathered. */
  get pending(): number {
    return (this.#last - this.#first) >>> 0;
  }

  /** Work requests that may be added now. */
  get free(): number {
    return this.#qp.sendFree - this.#list.length;
  }

  /** A message, without data. */
  message(msg: number, tag: number): void {
    const request = this.#next(tag);
    request.sges = NO_SGES;
    if (this.#bySend) {
      this.#asSend(request, msg);
      return;
    }
    request.opcode = Opcode.RDMA_WRITE_WITH_IMM;
    request.immData = msg;
    request.remoteAddr = 0;
    request.rkey = 0;
  }

  /** Writes [length] bytes at [addr] to the peer's memory, and tells it by [msg]. */
  write(
    msg: number,
    addr: number,
    length: number,
    lkey: number,
    remote: number,
    rkey: number,
    tag: number,
  ): void {
    const request = this.#data(addr, length, lkey, remote, rkey, tag);
    if (this.#bySend) {
      this.#asSend(this.#next(0), msg);
      return;
    }
    request.opcode = Opcode.RDMA_WRITE_WITH_IMM;
    request.immData = msg;
  }

  /** Writes to the peer's memory, and does not tell it. */
  writeSilently(addr: number, length: number, lkey: number, remote: number, rkey: number, tag: number): void {
    this.#data(addr, length, lkey, remote, rkey, tag).opcode = Opcode.RDMA_WRITE;
  }

  /** Writes no bytes: only a peer that is alive acknowledges that. */
  probe(tag: number): void {
    const request = this.#next(tag);
    request.opcode = Opcode.RDMA_WRITE;
    request.sges = NO_SGES;
    request.remoteAddr = 0;
    request.rkey = 0;
  }

  /** Posts what has been gathered. @throws RdmaError what the queue pair says */
  post(): void {
    const list = this.#list;
    if (list.length === 0) return;
    (list[list.length - 1] as Request).flags = SendFlags.SIGNALED;
    try {
      this.#qp.postSend(list, this.#retired);
    } finally {
      list.length = 0;
    }
  }

  readonly #retired = (status: number): void => {
    const tag = this.#tags[this.#first & this.#mask] as number;
    this.#first = (this.#first + 1) >>> 0;
    this.#onSent(tag, status);
  };

  #next(tag: number): Request {
    if (this.#list.length === BATCH) this.post();
    const request = this.#requests[this.#list.length] as Request;
    this.#list.push(request as unknown as SendWr);
    this.#tags[this.#last & this.#mask] = tag;
    this.#last = (this.#last + 1) >>> 0;
    request.flags = 0;
    request.inline = undefined;
    return request;
  }

  #data(addr: number, length: number, lkey: number, remote: number, rkey: number, tag: number): Request {
    const request = this.#next(tag);
    request.opcode = Opcode.RDMA_WRITE;
    request.flags = length >= SIGNAL_BYTES ? SendFlags.SIGNALED : 0;
    request.sges = request.oneSge;
    request.sge.addr = addr;
    request.sge.length = length;
    request.sge.lkey = lkey;
    request.remoteAddr = remote;
    request.rkey = rkey;
    return request;
  }

  #asSend(request: Request, msg: number): void {
    request.opcode = Opcode.SEND;
    request.sges = undefined;
    request.inline = request.word;
    const { word } = request;
    for (let i = 0; i < MESSAGE_BYTES; i += 1) {
      word[i] = msg >>> (8 * (this.#bigEndianPeer ? MESSAGE_BYTES - 1 - i : i));
    }
  }
}
