import { once } from 'node:events';
import type { Readable } from 'node:stream';
import {
  connect,
  createServer,
  type RdmaConnectOptions,
  type RdmaServer,
  type RdmaServerOptions,
  type RdmaSocket,
} from '../../../lib/net/index.ts';

/** Both ends of a connection, and the server that made one of them. */
export interface SocketPair {
  readonly server: RdmaServer;
  readonly client: RdmaSocket;
  readonly accepted: RdmaSocket;
  close(): Promise<void>;
}

/** A server that listens, by default on a port that the system chooses. */
export async function listening(
  host: string,
  options: RdmaServerOptions = {},
  onSocket?: (socket: RdmaSocket) => void,
  port = 0,
): Promise<{ server: RdmaServer; port: number }> {
  const server = createServer(options, onSocket).listen(port, host);
  await once(server, 'listening');
  return { server, port: server.address()!.port };
}

/** A connected pair of sockets. */
export async function socketPair(
  host: string,
  serverOptions: RdmaServerOptions = {},
  clientOptions: Partial<RdmaConnectOptions> = {},
): Promise<SocketPair> {
  const { server, port } = await listening(host, serverOptions);
  const client = connect({ host, port, ...clientOptions });
  const [[accepted]] = await Promise.all([once(server, 'connection'), once(client, 'connect')]);
  const close = async () => {
    client.destroy();
    (accepted as RdmaSocket).destroy();
    await server[Symbol.asyncDispose]();
  };
  return { server, client, accepted, close };
}

/** [length] bytes that differ from place to place. */
export function pattern(length: number, seed = 1): Buffer {
  const bytes = Buffer.alloc(length);
  let state = seed >>> 0 || 1;
  for (let i = 0; i + 4 <= length; i += 4) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes.writeUInt32LE(state, i);
  }
  for (let i = length & ~3; i < length; i += 1) bytes[i] = (state >>> (i & 3)) & 0xff;
  return bytes;
}

/** Everything that [stream] brings until its end. */
export function allOf(stream: Readable): Promise<Buffer> {
  const chunks: Buffer[] = [];
  return new Promise((resolve, reject) => {
    stream.on('data', (chunk) => chunks.push(chunk));
    stream.once('end', () => resolve(Buffer.concat(chunks))).once('error', reject);
  });
}
