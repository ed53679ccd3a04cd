/** A connection as a stream, with the face of net.Socket. */
import { Duplex } from 'node:stream';
import { type Address, CmId } from '../cm/index.ts';
import { slabOf } from '../dma/arena.ts';
import { invalidArgument, RdmaError } from '../errors.ts';
import { checkInteger } from '../verbs/check.ts';
import type { ChannelEvents } from './channel/channel.ts';
import { Connection } from './connection.ts';
import { RdmaDirect } from './direct.ts';
import { IdleTimer } from './idle-timer.ts';
import { brokenPipe, connectionError } from './socket-errors.ts';
import {
  type ConnectArguments,
  checkConnectOptions,
  checkSocketOptions,
  connectArguments,
  type OnReadOptions,
  type RdmaConnectOptions,
  type RdmaSocketOptions,
} from './socket-options.ts';

/** State of a socket, as net.Socket names it. */
export type RdmaReadyState = 'opening' | 'open' | 'readOnly' | 'writeOnly' | 'closed';

/** From here on memory of the domain's arena is sent from where it is. */
const ZERO_COPY_BYTES = 4096;

/** Bytes of one 'data' event at most. */
const CHUNK_BYTES = 65536;

const HIGH_WATER_MARK = 65536;

/** Chunks that are on their way into the channel. */
interface Outgoing {
  readonly chunks: readonly Uint8Array[];
  index: number;
  offset: number;
  /** Chunks that are being sent from where they are. */
  borrowed: number;
  readonly bytes: number;
  readonly done: (error?: Error | null) => void;
}

/**
 * A stream over RDMA that speaks the protocol of rsocket(7). It can be used wherever a net.Socket can be used as a stream:
 * the same methods, events and error codes.
 *
 * Events: 'connect', 'ready', 'data', 'end', 'drain', 'timeout', 'error', and 'close' with whether there was an error.
 */
export class RdmaSocket extends Duplex {
  /** Milliseconds of {@link setTimeout}. */
  timeout: number | undefined;
  readonly #options: RdmaSocketOptions;
  readonly #onread: OnReadOptions | undefined;
  readonly #abort = new AbortController();
  #connection: Connection | undefined;
  #connecting = false;
  #connected = false;
  #local: Address | undefined;
  #remote: Address | undefined;
  #reading = false;
  #delivering = false;
  #endPushed = false;
  #outgoing: Outgoing | undefined;
  #finalDone: ((error?: Error | null) => void) | undefined;
  #broken: RdmaError | undefined;
  #resetting = false;
  #ref = true;
  #bytesRead = 0;
  #bytesTaken = 0;
  #idle: IdleTimer | undefined;
  #keepAlive: NodeJS.Timeout | undefined;
  #activity = 0;
  #direct: RdmaDirect | undefined;

  /** @throws RdmaError ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE */
  constructor(options: RdmaSocketOptions = {}) {
    checkSocketOptions(options);
    const { highWaterMark = HIGH_WATER_MARK, readableHighWaterMark, writableHighWaterMark } = options;
    super({
      allowHalfOpen: options.allowHalfOpen === true,
      readableHighWaterMark: readableHighWaterMark ?? highWaterMark,
      writableHighWaterMark: writableHighWaterMark ?? highWaterMark,
      emitClose: false,
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    });
    this.#options = options;
    this.#onread = options.onread;
    // As in net.Socket: a peer's end is seen although nobody reads yet.
    this.on('end', () => {
      if (!this.allowHalfOpen) this.#refuseWrites();
    });
  }

  /**
   * Connects. 'connect' and 'ready' follow, or 'error' with ECONNREFUSED, ETIMEDOUT, EHOSTUNREACH …; what is written
   * meanwhile is sent then.
   */
  connect(...args: ConnectArguments): this {
    const [options, listener] = connectArguments(args);
    checkConnectOptions(options);
    if (this.#connecting || this.#connected) {
      throw invalidArgument('EISCONN', 'connect: the socket is connecting or connected already');
    }
    if (listener !== undefined) this.once('connect', listener);
    this.#connecting = true;
    if (options.timeout !== undefined) this.setTimeout(options.timeout);
    if (options.keepAlive === true) this.setKeepAlive(true, options.keepAliveInitialDelay);
    void this.#connect(options);
    return this;
  }

  async #connect(options: RdmaConnectOptions): Promise<void> {
    const { host = 'localhost', port, localAddress, localPort = 0, connectTimeout } = options;
    const source = localAddress === undefined ? undefined : { host: localAddress, port: localPort };
    const steps = {
      signal: this.#abort.signal,
      ...(connectTimeout === undefined ? {} : { timeoutMs: connectTimeout }),
    };
    let id: CmId | undefined;
    try {
      id = new CmId();
      if (!this.#ref) id.unref();
      this.#remote = { host, port };
      const connection = await Connection.connect(
        id,
        { host, port },
        source,
        this.#options,
        steps,
        this.#events,
      );
      process.nextTick(() => {
        if (this.destroyed) connection.abort();
        else this.#onConnected(connection);
      });
    } catch (error) {
      id?.close();
      this.#connecting = false;
      if (!this.destroyed) this.destroy(error as Error);
    }
  }

  /** Takes over a connection that is established; {@link _begin} follows. @internal */
  _adopt(connection: Connection): void {
    this.#adopt(connection);
  }

  /** Starts to send and to receive. @internal */
  _begin(): void {
    this.#begin();
  }

  /** What the channel of this socket's connection is to call. @internal */
  get _channelEvents(): ChannelEvents {
    return this.#events;
  }

  #onConnected(connection: Connection): void {
    this.#adopt(connection);
    this.emit('connect');
    this.emit('ready');
    this.#begin();
  }

  #adopt(connection: Connection): void {
    this.#connection = connection;
    this.#direct?._attach(connection);
    this.#connecting = false;
    this.#connected = true;
    this.#local = connection.id.localAddress;
    this.#remote = connection.id.peerAddress;
    if (!this.#ref) connection.unref();
  }

  #begin(): void {
    const connection = this.#connection;
    if (connection === undefined || this.destroyed) return;
    if (connection.channel.failed) {
      this.#onFailed(new RdmaError('ECONNRESET', 'the connection broke as soon as it was made'));
      return;
    }
    connection.channel.start();
    this.#touch();
    this.#feed();
    if (this.#finalDone !== undefined) connection.channel.shutdown();
    this.#deliver();
    // Starts reading, as net.Socket does: an end is noticed, and credits are given back.
    if (!this.isPaused()) this.read(0);
  }

  readonly #events: ChannelEvents = {
    readable: () => {
      this.#touch();
      this.#deliver();
    },
    writable: () => {
      this.#touch();
      this.#feed();
      this.#direct?._progress();
    },
    mapped: (index, iomap) => this.direct._mapped(index, iomap),
    failed: (error) => this.#onFailed(error),
  };

  /** Hands what has come to the stream, as long as it wants more. */
  #deliver(): void {
    const channel = this.#connection?.channel;
    if (channel === undefined || this.#delivering || this.#endPushed || this.destroyed) return;
    this.#delivering = true;
    try {
      let took = false;
      while (this.#reading && channel.available > 0) {
        this.#reading = this.#onread === undefined ? this.#push(CHUNK_BYTES) : this.#lend(this.#onread);
        took = true;
        if (this.destroyed) return;
      }
      if (took) channel.kick();
      if (channel.readEnded && channel.available === 0) this.#pushEnd();
    } finally {
      this.#delivering = false;
    }
  }

  #push(limit: number): boolean {
    const channel = this.#connection!.channel;
    // The peer can change its bytes at any time: users get a copy, which it can not.
    const chunk = Buffer.from(channel.peek(limit));
    channel.consume(chunk.length);
    this.#bytesRead += chunk.length;
    return this.push(chunk);
  }

  #lend({ buffer, callback }: OnReadOptions): boolean {
    const channel = this.#connection!.channel;
    const target = typeof buffer === 'function' ? buffer() : buffer;
    const bytes = channel.peek(target.length);
    target.set(bytes);
    const count = bytes.length;
    channel.consume(count);
    this.#bytesRead += count;
    if (callback.call(this, count, target) !== false) return true;
    this.pause();
    return false;
  }

  #pushEnd(): void {
    this.#endPushed = true;
    this.push(null);
    // 'end' comes although nobody reads, when there is nothing left to be read.
    this.read(0);
    if (this.#connection?.channel.peerGone === true) this.#refuseWrites();
  }

  /** The peer receives nothing any more. */
  #refuseWrites(): void {
    if (this.#connection?.channel.peerGone !== true) return;
    this.#broken ??= brokenPipe();
    this.#direct?._ended(this.#broken);
    this.#settleWrites(this.#broken);
  }

  #settleWrites(error: RdmaError): void {
    this.#direct?._failed(error);
    const outgoing = this.#outgoing;
    this.#outgoing = undefined;
    outgoing?.done(error);
    const final = this.#finalDone;
    this.#finalDone = undefined;
    final?.(outgoing === undefined ? null : error);
  }

  #onFailed(cause: RdmaError): void {
    const channel = this.#connection?.channel;
    if (channel === undefined || this.destroyed) return;
    const forbidden = cause.code === 'EPROTO';
    this.#broken ??= channel.peerGone && !forbidden ? brokenPipe() : connectionError(cause);
    if (!channel.readEnded || forbidden) {
      this.destroy(this.#broken);
      return;
    }
    this.#direct?._ended(this.#broken);
    // What has come can still be read; nothing else is left of the connection.
    this.#connection?.abort();
    this.#deliver();
    if (!this.destroyed) this.#settleWrites(this.#broken);
  }

  override _read(): void {
    this.#reading = true;
    this.#deliver();
  }

  override _write(
    chunk: Uint8Array,
    _encoding: BufferEncoding,
    callback: (error?: Error | null) => void,
  ): void {
    this.#send([chunk], chunk.length, callback);
  }

  override _writev(chunks: { chunk: Uint8Array }[], callback: (error?: Error | null) => void): void {
    let bytes = 0;
    const list = chunks.map(({ chunk }) => {
      bytes += chunk.length;
      return chunk;
    });
    this.#send(list, bytes, callback);
  }

  #send(chunks: readonly Uint8Array[], bytes: number, done: (error?: Error | null) => void): void {
    this.#bytesTaken += bytes;
    if (this.#broken !== undefined) {
      done(this.#broken);
      return;
    }
    this.#outgoing = { chunks, index: 0, offset: 0, borrowed: 0, bytes, done };
    if (this.#connected) this.#feed();
  }

  /** Gives the channel as much as it takes. */
  #feed(): void {
    const channel = this.#connection?.channel;
    if (channel === undefined || channel.failed) return;
    const outgoing = this.#outgoing;
    if (outgoing !== undefined) {
      let added = false;
      for (; outgoing.index < outgoing.chunks.length; outgoing.index += 1) {
        const chunk = outgoing.chunks[outgoing.index] as Uint8Array;
        if (outgoing.offset === 0 && this.#sendInPlace(chunk, outgoing)) {
          added = true;
          continue;
        }
        const count = channel.write(chunk, outgoing.offset);
        added ||= count > 0;
        outgoing.offset += count;
        if (outgoing.offset < chunk.length) break;
        outgoing.offset = 0;
      }
      if (added) channel.kick();
      this.#finishOutgoing(outgoing);
    }
    if (this.#finalDone !== undefined && channel.writeEnded && channel.idle) {
      const done = this.#finalDone;
      this.#finalDone = undefined;
      done();
    }
  }

  #finishOutgoing(outgoing: Outgoing): void {
    if (outgoing.index < outgoing.chunks.length || outgoing.borrowed > 0 || this.#outgoing !== outgoing)
      return;
    this.#outgoing = undefined;
    outgoing.done();
  }

  /** Sends memory of the domain's arena from where it is. */
  #sendInPlace(chunk: Uint8Array, outgoing: Outgoing): boolean {
    if (chunk.length < ZERO_COPY_BYTES) return false;
    const slab = slabOf(chunk.buffer);
    const { pd, channel } = this.#connection!;
    if (slab === undefined || slab.arena.pd !== pd || !slab.usable) return false;
    const { byteOffset, length } = chunk;
    if (!slab.blocks.hold(byteOffset, length)) return false;
    outgoing.borrowed += 1;
    channel.writeFrom(slab.addr + byteOffset, length, slab.lkey, () => {
      slab.blocks.release(byteOffset, length);
      outgoing.borrowed -= 1;
    });
    return true;
  }

  override _final(callback: (error?: Error | null) => void): void {
    const channel = this.#connection?.channel;
    if (this.#broken !== undefined || channel?.peerGone === true || channel?.failed === true) {
      callback();
      return;
    }
    this.#finalDone = callback;
    channel?.shutdown();
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#idle?.stop();
    clearInterval(this.#keepAlive);
    this.#connecting = false;
    this.#outgoing = undefined;
    this.#finalDone = undefined;
    if (error === null && !this.#resetting) this.#direct?._ended(brokenPipe());
    else this.#direct?._failed(this.#broken ?? brokenPipe());
    this.#abort.abort();
    const closed = () => {
      callback(error);
      process.nextTick(() => this.emit('close', error !== null));
    };
    const connection = this.#connection;
    if (connection === undefined) {
      closed();
    } else if (this.#resetting || connection.channel.failed) {
      connection.abort();
      closed();
    } else {
      connection.end().then(closed, closed);
    }
  }

  /** As in any stream; with `onread` it is the callback that waits. */
  override pause(): this {
    if (this.#onread !== undefined) this.#reading = false;
    return super.pause();
  }

  override resume(): this {
    super.resume();
    if (this.#onread !== undefined && !this.#reading) {
      this.#reading = true;
      process.nextTick(() => this.#deliver());
    }
    return this;
  }

  /** Ends the writing side and destroys the socket when everything has been sent. */
  destroySoon(): void {
    if (this.writable) this.end();
    if (this.writableFinished) this.destroy();
    else this.once('finish', () => this.destroy());
  }

  /** Breaks the connection off: the peer sees ECONNRESET. */
  resetAndDestroy(): this {
    this.#resetting = true;
    this.destroy();
    return this;
  }

  /** Emits 'timeout' after [ms] milliseconds without activity; 0 for never. The socket goes on. */
  setTimeout(ms: number, callback?: () => void): this {
    checkInteger('timeout', ms, 0, 0x7fff_ffff);
    this.timeout = ms;
    this.#idle?.stop();
    this.#idle = ms === 0 ? undefined : new IdleTimer(ms, () => this.emit('timeout'));
    if (callback !== undefined) {
      if (ms === 0) this.removeListener('timeout', callback);
      else this.once('timeout', callback);
    }
    return this;
  }

  /** Nothing to be set: data are never held back. */
  setNoDelay(_noDelay?: boolean): this {
    return this;
  }

  /**
   * Finds out whether the peer is alive, by an RDMA WRITE of 0 bytes, after [initialDelay] ms without activity and then
   * again; two hours by default. A peer that has gone ends the connection with ETIMEDOUT.
   */
  setKeepAlive(enable = false, initialDelay = 0): this {
    clearInterval(this.#keepAlive);
    this.#keepAlive = undefined;
    if (!enable) return this;
    const interval = initialDelay > 0 ? initialDelay : 7_200_000;
    let seen = this.#activity;
    this.#keepAlive = setInterval(() => {
      if (seen === this.#activity) this.#connection?.channel.probe();
      seen = this.#activity;
    }, interval).unref();
    return this;
  }

  /** The socket keeps the process alive (the default). */
  ref(): this {
    this.#ref = true;
    this.#connection?.ref();
    return this;
  }

  /** The socket does not keep the process alive. */
  unref(): this {
    this.#ref = false;
    this.#connection?.unref();
    return this;
  }

  /** Writes straight into memory that the other side has mapped. */
  get direct(): RdmaDirect {
    if (this.#direct === undefined) {
      this.#direct = new RdmaDirect();
      if (this.#connection !== undefined) this.#direct._attach(this.#connection);
    }
    return this.#direct;
  }

  /** Address of this side: {address, family, port}, or {} before it is known. */
  address(): { address?: string; family?: string; port?: number } {
    const local = this.#local;
    return local === undefined
      ? {}
      : { address: local.host, family: local.family ?? 'IPv4', port: local.port };
  }

  get localAddress(): string | undefined {
    return this.#local?.host;
  }

  get localPort(): number | undefined {
    return this.#local?.port;
  }

  get localFamily(): string | undefined {
    return this.#local?.family;
  }

  get remoteAddress(): string | undefined {
    return this.#connected ? this.#remote?.host : undefined;
  }

  get remotePort(): number | undefined {
    return this.#connected ? this.#remote?.port : undefined;
  }

  get remoteFamily(): string | undefined {
    return this.#connected ? this.#remote?.family : undefined;
  }

  /** Bytes that have been handed to the stream. */
  get bytesRead(): number {
    return this.#bytesRead;
  }

  /** Bytes that have been written, those that still wait among them. */
  get bytesWritten(): number {
    return this.#bytesTaken + this.writableLength - (this.#outgoing?.bytes ?? 0);
  }

  get connecting(): boolean {
    return this.#connecting;
  }

  /** True until the socket is connected. */
  get pending(): boolean {
    return !this.#connected;
  }

  get readyState(): RdmaReadyState {
    if (this.#connecting) return 'opening';
    if (this.readable && this.writable) return 'open';
    if (this.readable) return 'readOnly';
    return this.writable ? 'writeOnly' : 'closed';
  }

  #touch(): void {
    this.#activity += 1;
    this.#idle?.refresh();
  }
}
