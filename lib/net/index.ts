/**
 * Sockets over RDMA: streams with the face of node:net, over the protocol of rsocket(7). Any C program under
 * `LD_PRELOAD=librspreload.so` can talk to them.
 */
import { RdmaServer, type RdmaServerOptions } from './server.ts';
import { RdmaSocket } from './socket.ts';
import { type ConnectArguments, connectArguments } from './socket-options.ts';

export { type MappedRange, RdmaDirect, RdmaMapping } from './direct.ts';
export { type RdmaMessageOptions, RdmaMessageSocket } from './message-socket.ts';
export type { RdmaSocketSizes } from './options.ts';
export {
  type RdmaDropEvent,
  type RdmaListenOptions,
  RdmaServer,
  type RdmaServerOptions,
} from './server.ts';
export { type RdmaReadyState, RdmaSocket } from './socket.ts';
export type { OnReadOptions, RdmaConnectOptions, RdmaSocketOptions } from './socket-options.ts';

/**
 * Connects: `connect(options, listener?)` or `connect(port, host?, listener?)`.
 *
 * @returns a socket that is connecting: 'connect' follows, or 'error'
 * @throws RdmaError for options that are wrong
 */
export function connect(...args: ConnectArguments): RdmaSocket {
  const [options, listener] = connectArguments(args);
  return new RdmaSocket(options).connect(options, listener);
}

/** Another name of {@link connect}, as in node:net. */
export const createConnection = connect;

/** Makes a server: `createServer(options, onSocket)` or `createServer(onSocket)`. */
export function createServer(
  options?: RdmaServerOptions | ((socket: RdmaSocket) => void),
  onSocket?: (socket: RdmaSocket) => void,
): RdmaServer {
  return typeof options === 'function' ? new RdmaServer({}, options) : new RdmaServer(options, onSocket);
}
