/**
 * gRPC over RDMA: @grpc/grpc-js' own server and client. The server has a public door for connections of any kind. The
 * client has none: it connects to an address by node:net, and then lets its credentials make that connection secure. So an
 * address `rdma:host:port` resolves to a socket of this process that accepts and hangs up, and the credentials bring the
 * connection over RDMA instead.
 */
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import {
  type CallCredentials,
  ChannelCredentials,
  type ChannelOptions,
  credentials,
  experimental,
  type Server,
  type ServerCredentials,
} from '@grpc/grpc-js';
import { invalidArgument } from '../../errors.ts';
import { RdmaServer, type RdmaServerOptions } from '../server.ts';
import { connectTo, type RdmaClientOptions } from './client.ts';

/**
 * Takes connections over RDMA for [server]: `attach(server, ServerCredentials.createInsecure()).listen(50051)`. Closing
 * what it returns lets the calls that run come to their end; `server.tryShutdown` and `forceShutdown` end them as usual.
 */
export function attach(
  server: Server,
  serverCredentials: ServerCredentials,
  options: RdmaServerOptions = {},
): RdmaServer {
  const injector = server.createConnectionInjector(serverCredentials);
  const rdma = new RdmaServer({ allowHalfOpen: true, ...options }, (socket) =>
    injector.injectConnection(socket),
  );
  return rdma.on('close', () => injector.destroy());
}

const SCHEME = 'rdma';
const PLACEHOLDER = `\0node-rdma-grpc-${process.pid}-${crypto.randomUUID()}`;
let listening = false;

/** What grpc-js connects to before the credentials are asked; a name in the abstract space, which leaves no file. */
function listenOnPlaceholder(): void {
  if (listening) return;
  listening = true;
  createServer((socket) => socket.destroy())
    .listen({ path: PLACEHOLDER, exclusive: true })
    .unref();
}

class RdmaResolver implements experimental.Resolver {
  readonly #listener: experimental.ResolverListener;
  #answered = false;

  constructor(_target: experimental.GrpcUri, listener: experimental.ResolverListener) {
    this.#listener = listener;
  }

  updateResolution(): void {
    // Each answer makes grpc-js connect again at once, and it asks after each connection that failed.
    if (this.#answered) return;
    this.#answered = true;
    const endpoints = experimental.statusOrFromValue([{ addresses: [{ path: PLACEHOLDER }] }]);
    process.nextTick(() => this.#listener(endpoints, {}, null, ''));
  }

  destroy(): void {
    // It holds nothing.
  }

  static getDefaultAuthority({ path }: experimental.GrpcUri): string {
    return path;
  }
}

class RdmaCredentials extends ChannelCredentials {
  readonly #inner: ChannelCredentials;
  readonly #options: RdmaClientOptions;

  constructor(inner: ChannelCredentials, options: RdmaClientOptions) {
    super();
    this.#inner = inner;
    this.#options = options;
  }

  override _isSecure(): boolean {
    return this.#inner._isSecure();
  }

  override _equals(other: ChannelCredentials): boolean {
    return (
      other instanceof RdmaCredentials &&
      other.#options === this.#options &&
      this.#inner._equals(other.#inner)
    );
  }

  override _createSecureConnector(
    target: experimental.GrpcUri,
    options: ChannelOptions,
    callCredentials?: CallCredentials,
  ): experimental.SecureConnector {
    const to = experimental.splitHostPort(target.path);
    if (target.scheme !== SCHEME || to?.port === undefined) {
      throw invalidArgument(
        'ERR_INVALID_ARG_VALUE',
        `credentials over RDMA need a target rdma:host:port, not ${experimental.uriToString(target)}`,
      );
    }
    const inner = this.#inner._createSecureConnector(target, options, callCredentials);
    return {
      waitForReady: () => inner.waitForReady(),
      getCallCredentials: () => inner.getCallCredentials(),
      destroy: () => inner.destroy(),
      connect: async (stand) => {
        stand.destroy();
        const socket = connectTo({ host: to.host, port: to.port }, this.#options);
        await once(socket, 'connect');
        return inner.connect(socket as unknown as Socket);
      },
    };
  }
}

/**
 * Credentials of a client over RDMA, for targets `rdma:host:port`; [inner] says what is done over the connection.
 *
 *     new Greeter('rdma:10.0.1.1:50051', rdmaCredentials())
 *     new Greeter('rdma:host:50051', rdmaCredentials(credentials.createSsl(ca)))
 */
export function rdmaCredentials(
  inner: ChannelCredentials = credentials.createInsecure(),
  options: RdmaClientOptions = {},
): ChannelCredentials {
  experimental.registerResolver(SCHEME, RdmaResolver);
  listenOnPlaceholder();
  return new RdmaCredentials(inner, options);
}
