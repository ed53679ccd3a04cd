/** Arguments of sockets, in the forms that net takes. */
import { isIP } from 'node:net';
import type { DuplexOptions } from 'node:stream';
import { inspect } from 'node:util';
import { invalidArgument } from '../errors.ts';
import { checkInteger, checkText } from '../verbs/check.ts';
import { checkSizes, type RdmaSocketSizes } from './options.ts';

/** Reading into a buffer of the user's, without an allocation for every piece. */
export interface OnReadOptions {
  /** Where the data goes; or a function that gives a buffer for each piece. */
  readonly buffer: Uint8Array | (() => Uint8Array);
  /** Takes [bytesRead] bytes of [buffer]; returning false pauses the socket until `resume()`. */
  readonly callback: (bytesRead: number, buffer: Uint8Array) => boolean | undefined;
}

/** What a socket is made with. */
export interface RdmaSocketOptions
  extends RdmaSocketSizes,
    Pick<DuplexOptions, 'highWaterMark' | 'readableHighWaterMark' | 'writableHighWaterMark'> {
  /** The socket stays writable when the peer has ended its side; by default it ends too. */
  readonly allowHalfOpen?: boolean;
  /** Data goes there, and not to 'data' events. */
  readonly onread?: OnReadOptions;
  /** Aborting it destroys the socket. */
  readonly signal?: AbortSignal;
}

/** Where and how to connect. */
export interface RdmaConnectOptions extends RdmaSocketOptions {
  readonly port: number;
  /** Name or address; 'localhost' by default, which few machines have an RDMA device for. */
  readonly host?: string;
  /** Numeric address to connect from. */
  readonly localAddress?: string;
  readonly localPort?: number;
  /** Milliseconds that each step (address, route, connection) may take; 10 000 by default. */
  readonly connectTimeout?: number;
  /** As {@link RdmaSocket.setTimeout}. */
  readonly timeout?: number;
  readonly noDelay?: boolean;
  readonly keepAlive?: boolean;
  /** Milliseconds. */
  readonly keepAliveInitialDelay?: number;
}

/** Throws unless [options] can be given to a socket. @internal */
export function checkSocketOptions(options: RdmaSocketOptions): void {
  checkSizes(options);
  const { onread } = options;
  if (onread === undefined) return;
  const buffer = typeof onread.buffer === 'function' || onread.buffer instanceof Uint8Array;
  if (!buffer || typeof onread.callback !== 'function') {
    throw invalidArgument(
      'ERR_INVALID_ARG_TYPE',
      `onread must be {buffer, callback}, with a Uint8Array or a function for buffer, not ${inspect(onread)}`,
    );
  }
}

/** Throws unless one can connect with [options]. @internal */
export function checkConnectOptions(options: RdmaConnectOptions): void {
  checkInteger('port', options.port, 0, 65535);
  if (options.host !== undefined) checkText('host', options.host);
  if (options.localPort !== undefined) checkInteger('localPort', options.localPort, 0, 65535);
  if (options.connectTimeout !== undefined)
    checkInteger('connectTimeout', options.connectTimeout, 1, 0x7fff_ffff);
  const { localAddress } = options;
  if (localAddress !== undefined && isIP(localAddress) === 0) {
    throw invalidArgument(
      'ERR_INVALID_ARG_VALUE',
      `localAddress must be a numeric IP address, not ${inspect(localAddress)}`,
    );
  }
}

/** Arguments of `connect`: (options, listener?) or (port, host?, listener?). @internal */
export type ConnectArguments =
  | readonly [options: RdmaConnectOptions, listener?: (() => void) | undefined]
  | readonly [port: number, host?: string | (() => void) | undefined, listener?: (() => void) | undefined];

/** The options and the listener of [args]. @internal */
export function connectArguments(args: ConnectArguments): [RdmaConnectOptions, (() => void) | undefined] {
  const [first, second, third] = args;
  if (typeof first === 'object' && first !== null) return [first, second as (() => void) | undefined];
  const host = typeof second === 'string' ? { host: second } : {};
  return [{ port: first as number, ...host }, typeof second === 'function' ? second : third];
}
