/** A server of Node's that takes its connections from RDMA. */
import { Server as NetServer } from 'node:net';
import { inspect } from 'node:util';
import { invalidArgument } from '../../errors.ts';
import { RdmaServer, type RdmaServerOptions } from '../server.ts';

/** What servers of node:http and node:https have beyond those of node:net. */
interface HttpLike {
  closeIdleConnections?(): void;
}

/**
 * Makes [server], of node:net, node:tls, node:http, node:https or node:http2, listen on RDMA instead of TCP, and returns
 * it: `listen`, `close`, `address`, `getConnections`, `ref`, `unref`, `listening` and `maxConnections` are those of an
 * {@link RdmaServer} from now on; handlers, time-outs and events stay as they are.
 *
 * @throws RdmaError ERR_INVALID_ARG_TYPE for what is not a server, ERR_SERVER_ALREADY_LISTEN for one that listens already
 */
export function overRdma<S extends NetServer>(server: S, options: RdmaServerOptions = {}): S {
  if (!(server instanceof NetServer)) {
    throw invalidArgument(
      'ERR_INVALID_ARG_TYPE',
      `overRdma: server must be a server of node:net, tls, http, https or http2, not ${inspect(server, { depth: 0 })}`,
    );
  }
  if (server.listening) {
    throw invalidArgument('ERR_SERVER_ALREADY_LISTEN', 'overRdma: the server is listening on TCP already');
  }
  const allowHalfOpen = (server as { allowHalfOpen?: boolean }).allowHalfOpen === true;
  const rdma = new RdmaServer({ allowHalfOpen, ...options });
  rdma.on('connection', (socket) => void server.emit('connection', socket));
  // node:http begins to watch its time-outs then.
  rdma.on('listening', () => void server.emit('listening'));
  rdma.on('error', (error) => void server.emit('error', error));
  rdma.on('drop', (event) => void server.emit('drop', event));
  // Node's own close, when no connection is left: it lets go of what it keeps, and emits 'close'.
  const closed = server.close.bind(server);
  rdma.on('close', () => void closed());

  const methods = {
    listen: (...args: Parameters<RdmaServer['listen']>) => {
      rdma.listen(...args);
      return server;
    },
    close: (callback?: (error?: Error) => void) => {
      rdma.close(callback);
      (server as HttpLike).closeIdleConnections?.();
      return server;
    },
    address: () => rdma.address(),
    getConnections: (callback: (error: Error | null, count: number) => void) => {
      rdma.getConnections(callback);
      return server;
    },
    ref: () => {
      rdma.ref();
      return server;
    },
    unref: () => {
      rdma.unref();
      return server;
    },
  };
  for (const [name, value] of Object.entries(methods)) {
    Object.defineProperty(server, name, { value, configurable: true, writable: true });
  }
  return Object.defineProperties(server, {
    listening: { get: () => rdma.listening, configurable: true },
    maxConnections: {
      get: () => rdma.maxConnections,
      set: (value: number | undefined) => {
        rdma.maxConnections = value;
      },
      configurable: true,
    },
  });
}
