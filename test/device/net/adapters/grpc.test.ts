import { once } from 'node:events';
import { createSecureContext } from 'node:tls';
import { credentials, makeClientConstructor, Server, ServerCredentials, status } from '@grpc/grpc-js';
import { describe, expect, it } from 'vitest';
import { attach, rdmaCredentials } from '../../../../lib/net/adapters/grpc.ts';
import type { RdmaServer } from '../../../../lib/net/index.ts';
import { devices } from '../../helpers/devices.ts';
import { pattern } from '../helpers.ts';
import { certificate } from './helpers.ts';

const bytes = (value: Buffer) => value;
const both = {
  requestSerialize: bytes,
  requestDeserialize: bytes,
  responseSerialize: bytes,
  responseDeserialize: bytes,
};
const service = {
  echo: { path: '/test.Echo/Echo', requestStream: false, responseStream: false, ...both },
  chat: { path: '/test.Echo/Chat', requestStream: true, responseStream: true, ...both },
};
const Echo = makeClientConstructor(service, 'Echo');

async function serve(
  host: string,
  with_: ServerCredentials,
): Promise<{ server: Server; rdma: RdmaServer; port: number }> {
  const server = new Server();
  server.addService(service, {
    // biome-ignore lint/suspicious/noExplicitAny: handlers of a service that is defined by hand
    echo: (call: any, callback: any) => callback(null, call.request),
    // biome-ignore lint/suspicious/noExplicitAny: as above
    chat: (call: any) => {
      call.on('data', (message: Buffer) => call.write(message));
      call.on('end', () => call.end());
    },
  });
  const rdma = attach(server, with_).listen(0, host);
  await once(rdma, 'listening');
  return { server, rdma, port: rdma.address()!.port };
}

// biome-ignore lint/suspicious/noExplicitAny: a client of a service that is defined by hand
function unary(client: any, message: Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) =>
    client.echo(message, (error: Error | null, answer: Buffer) => (error ? reject(error) : resolve(answer))),
  );
}

describe.each(devices)('gRPC on $name', ({ host }) => {
  it.each(['in the clear', 'with TLS'])('unary and bidirectional calls %s', async (mode) => {
    const { key, cert } = await certificate(host);
    const tls = mode === 'with TLS';
    const pair = { private_key: Buffer.from(key), cert_chain: Buffer.from(cert) };
    const { server, rdma, port } = await serve(
      host,
      tls ? ServerCredentials.createSsl(null, [pair]) : ServerCredentials.createInsecure(),
    );
    const inner = tls ? credentials.createFromSecureContext(createSecureContext({ ca: cert })) : undefined;
    const client = new Echo(`rdma:${host}:${port}`, rdmaCredentials(inner));
    for (const size of [0, 1, 1_000_000]) {
      const sent = pattern(size);
      expect((await unary(client, sent)).equals(sent)).toBe(true);
    }
    // biome-ignore lint/suspicious/noExplicitAny: a client of a service that is defined by hand
    const call = (client as any).chat();
    const messages = Array.from({ length: 20 }, (_, i) => pattern(1000 * i, i + 1));
    for (const message of messages) call.write(message);
    call.end();
    const answers: Buffer[] = [];
    for await (const answer of call) answers.push(answer);
    expect(answers.map((answer, i) => answer.equals(messages[i]!))).toEqual(messages.map(() => true));
    client.close();
    await rdma[Symbol.asyncDispose]();
    server.forceShutdown();
  });

  it('a call to nobody is UNAVAILABLE, and says why', async () => {
    const client = new Echo(`rdma:${host}:9`, rdmaCredentials());
    await expect(unary(client, Buffer.alloc(1))).rejects.toMatchObject({
      code: status.UNAVAILABLE,
      details: expect.stringContaining('ECONNREFUSED'),
    });
    client.close();
  });
});
