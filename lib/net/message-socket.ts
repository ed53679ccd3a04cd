/** Records over a socket: each is sent whole and received whole. */
import { EventEmitter } from 'node:events';
import { invalidArgument, RdmaError } from '../errors.ts';
import { bytesOf, checkInteger } from '../verbs/check.ts';
import { RdmaSocket } from './socket.ts';
import type { RdmaConnectOptions } from './socket-options.ts';

/** What a message socket is made with. */
export interface RdmaMessageOptions {
  /** Bytes that a message of the peer may have, 1 … 2^31 - 1; 16 MiB by default. A longer one ends the connection. */
  readonly maxMessageBytes?: number;
}

interface RdmaMessageEvents {
  /** A message; the bytes are its own. */
  message: [message: Buffer];
  /** The peer sends no more. */
  end: [];
  error: [error: Error];
  close: [hadError: boolean];
}

const HEADER_BYTES = 4;
const DEFAULT_MAX = 16 * 1024 * 1024;
const MAX_MESSAGE = 0x7fff_ffff;

/**
 * Messages instead of a stream. Rsockets know no boundaries: on the wire each message is its length (4 bytes, network byte
 * order) and its bytes, so that any program over rsockets can take part.
 */
export class RdmaMessageSocket extends EventEmitter<RdmaMessageEvents> {
  /** The stream beneath; leave its data alone. */
  readonly socket: RdmaSocket;
  readonly #max: number;
  readonly #header = Buffer.alloc(HEADER_BYTES);
  #headerBytes = 0;
  #message: Buffer | undefined;
  #filled = 0;

  /** @param socket connected or connecting, from which nothing has been read */
  constructor(socket: RdmaSocket, options: RdmaMessageOptions = {}) {
    super();
    const { maxMessageBytes = DEFAULT_MAX } = options;
    checkInteger('maxMessageBytes', maxMessageBytes, 1, MAX_MESSAGE);
    this.socket = socket;
    this.#max = maxMessageBytes;
    socket.on('data', (chunk: Buffer) => this.#take(chunk));
    socket.on('end', () => this.#onEnd());
    socket.on('error', (error) => this.emit('error', error));
    socket.on('close', (hadError: boolean) => this.emit('close', hadError));
  }

  /** Connects; see {@link RdmaSocket.connect}. */
  static connect(options: RdmaConnectOptions & RdmaMessageOptions): RdmaMessageSocket {
    return new RdmaMessageSocket(new RdmaSocket(options).connect(options), options);
  }

  /**
   * Sends a message, which must stay as it is until then.
   *
   * @returns resolves when it has been taken by the socket's send buffer; waiting for it keeps memory bounded
   * @throws RdmaError EPIPE, ECONNRESET … as the socket
   */
  send(message: ArrayBufferView | ArrayBufferLike): Promise<void> {
    const bytes = bytesOf('message', message);
    if (bytes.length > MAX_MESSAGE) {
      throw invalidArgument('ERR_OUT_OF_RANGE', `message has ${bytes.length} bytes; at most ${MAX_MESSAGE}`);
    }
    const header = Buffer.alloc(HEADER_BYTES);
    header.writeUInt32BE(bytes.length);
    return new Promise((resolve, reject) => {
      const { socket } = this;
      socket.cork();
      socket.write(header);
      socket.write(bytes, (error) => (error ? reject(error) : resolve()));
      process.nextTick(() => socket.uncork());
    });
  }

  /** The messages until the peer ends: `for await (const message of socket)`. The peer waits while one is handled. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Buffer> {
    const messages: Buffer[] = [];
    let over = false;
    let failure: Error | undefined;
    let wake = () => {};
    const onMessage = (message: Buffer) => {
      messages.push(message);
      this.socket.pause();
      wake();
    };
    const onOver = () => {
      over = true;
      wake();
    };
    const onError = (error: Error) => {
      failure = error;
      onOver();
    };
    this.on('message', onMessage).on('end', onOver).on('close', onOver).on('error', onError);
    try {
      for (;;) {
        const message = messages.shift();
        if (message !== undefined) {
          yield message;
          continue;
        }
        if (failure !== undefined) throw failure;
        if (over) return;
        const woken = new Promise<void>((resolve) => {
          wake = resolve;
        });
        this.socket.resume();
        await woken;
      }
    } finally {
      this.off('message', onMessage).off('end', onOver).off('close', onOver).off('error', onError);
    }
  }

  /** Ends this side when everything has been sent. */
  end(): void {
    this.socket.end();
  }

  destroy(error?: Error): void {
    this.socket.destroy(error);
  }

  #take(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length) {
      if (this.#message === undefined) {
        const count = Math.min(HEADER_BYTES - this.#headerBytes, chunk.length - at);
        chunk.copy(this.#header, this.#headerBytes, at, at + count);
        this.#headerBytes += count;
        at += count;
        if (this.#headerBytes < HEADER_BYTES) return;
        if (!this.#begin()) return;
      }
      const message = this.#message as Buffer | undefined;
      if (message === undefined) continue;
      const count = Math.min(message.length - this.#filled, chunk.length - at);
      chunk.copy(message, this.#filled, at, at + count);
      this.#filled += count;
      at += count;
      if (this.#filled === message.length) this.#finish(message);
    }
  }

  #begin(): boolean {
    const length = this.#header.readUInt32BE();
    this.#headerBytes = 0;
    if (length > this.#max) {
      const text = `a message of ${length} bytes; at most ${this.#max} are taken (maxMessageBytes)`;
      this.socket.destroy(new RdmaError('EMSGSIZE', text));
      return false;
    }
    this.#filled = 0;
    this.#message = Buffer.allocUnsafeSlow(length);
    if (length === 0) this.#finish(this.#message);
    return true;
  }

  #finish(message: Buffer): void {
    this.#message = undefined;
    this.emit('message', message);
  }

  #onEnd(): void {
    if (this.#message !== undefined || this.#headerBytes > 0) {
      this.socket.destroy(new RdmaError('ECONNRESET', 'the peer ended in the middle of a message'));
      return;
    }
    this.emit('end');
  }
}
