/** A connection as a stream, with the face of net.Socket. */
import { CmId } from '../cm/index.ts';
import { invalidArgument, RdmaError } from '../errors.ts';
import { checkInteger } from '../verbs/check.ts';
import { Activity } from './activity.ts';
import { AddressedDuplex } from './addressed.ts';
import type { ChannelEvents } from './channel/channel.ts';
import { Connection } from './connection.ts';
import { RdmaDirect } from './direct.ts';
import { Incoming } from './incoming.ts';
import { type Done, Outgoing } from './outgoing.ts';
import { brokenPipe, connectionError } from './socket-errors.ts';
import {
  type ConnectArguments,
  checkConnectOptions,
  checkSocketOptions,
  connectArguments,
  type RdmaConnectOptions,
  type RdmaSocketOptions,
} from './socket-options.ts';

/** State of a socket, as net.Socket names it. */
export type RdmaReadyState = 'opening' | 'open' | 'readOnly' | 'writeOnly' | 'closed';

const HIGH_WATER_MARK = 65536;

/**
 * A stream over RDMA that speaks the protocol of rsocket(7). It can be used wherever a net.Socket can be used as a stream:
 * the same methods, events and error codes.
 *
 * Events: 'connect', 'ready', 'data', 'end', 'drain', 'timeout', 'error', and 'close' with whether there was an error.
 */
export class RdmaSocket extends AddressedDuplex {
  /** Milliseconds of {@link setTimeout}. */
  timeout: number | undefined;
  readonly #options: RdmaSocketOptions;
  readonly #abort = new AbortController();
  readonly #incoming: Incoming;
  readonly #outgoing = new Outgoing();
  readonly #activity = new Activity();
  #connection: Connection | undefined;
  #connecting = false;
  #connected = false;
  #broken: RdmaError | undefined;
  #resetting = false;
  #ref = true;
  /** Bytes that the stream has asked to be sent. */
  #taken = 0;
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
    this.#incoming = new Incoming(this, options.onread);
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
    this.#incoming.attach(connection.channel);
    this.#outgoing.attach(connection);
    this.#direct?._attach(connection);
    this.#connecting = false;
    this.#connected = true;
    this._setAddresses(connection.id.localAddress, connection.id.peerAddress);
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
    this.#activity.touch();
    this.#outgoing.begin();
    this.#deliver();
    // Starts reading, as net.Socket does: an end is noticed, and credits are given back.
    if (!this.isPaused()) this.read(0);
  }

  readonly #events: ChannelEvents = {
    readable: () => {
      this.#activity.touch();
      this.#deliver();
    },
    writable: () => {
      this.#activity.touch();
      this.#outgoing.progress();
      this.#direct?._progress();
    },
    mapped: (index, iomap) => this.direct._mapped(index, iomap),
    failed: (error) => this.#onFailed(error),
  };

  #deliver(): void {
    if (this.#incoming.deliver()) this.#refuseWrites();
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
    this.#outgoing.fail(error);
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
    this.#incoming.wanted = true;
    this.#deliver();
  }

  override _write(chunk: Uint8Array, _encoding: BufferEncoding, callback: Done): void {
    this.#send([chunk], chunk.length, callback);
  }

  override _writev(chunks: { chunk: Uint8Array }[], callback: Done): void {
    let bytes = 0;
    const list = chunks.map(({ chunk }) => {
      bytes += chunk.length;
      return chunk;
    });
    this.#send(list, bytes, callback);
  }

  #send(chunks: readonly Uint8Array[], bytes: number, done: Done): void {
    this.#taken += bytes;
    if (this.#broken === undefined) this.#outgoing.write(chunks, bytes, done);
    else done(this.#broken);
  }

  override _final(callback: Done): void {
    const channel = this.#connection?.channel;
    if (this.#broken !== undefined || channel?.peerGone === true || channel?.failed === true) callback();
    else this.#outgoing.finish(callback);
  }

  override _destroy(error: Error | null, callback: Done): void {
    this.#activity.stop();
    this.#connecting = false;
    this.#outgoing.drop();
    if (error === null && !this.#resetting) this.#direct?._ended(brokenPipe());
    else this.#direct?._failed(this.#broken ?? brokenPipe());
    this.#abort.abort();
    const closed = () => {
      this.#direct?._closed();
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
    if (this.#options.onread !== undefined) this.#incoming.wanted = false;
    return super.pause();
  }

  override resume(): this {
    super.resume();
    if (this.#options.onread !== undefined && !this.#incoming.wanted) {
      this.#incoming.wanted = true;
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
    this.#activity.setTimeout(ms, () => this.emit('timeout'));
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
    this.#activity.setKeepAlive(enable ? initialDelay : undefined, () => this.#connection?.channel.probe());
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

  /** Bytes that have been handed to the stream. */
  get bytesRead(): number {
    return this.#incoming.bytes;
  }

  /** Bytes that have been written, those that still wait among them. */
  get bytesWritten(): number {
    return this.#taken + this.writableLength - this.#outgoing.bytes;
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
}
