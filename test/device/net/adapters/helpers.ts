import { once } from 'node:events';
import type { Server } from 'node:net';
import { generate } from 'selfsigned';

/** Port of [server], of any kind, once it listens on [host]. */
export async function listenOn(server: Server, host: string): Promise<number> {
  server.listen(0, host);
  await once(server, 'listening');
  return (server.address() as { port: number }).port;
}

export async function closed(server: Server): Promise<void> {
  const event = once(server, 'close');
  server.close();
  await event;
}

/** A certificate for [host], with its key, that is its own authority. */
export async function certificate(host: string): Promise<{ key: string; cert: string }> {
  const { private: key, cert } = await generate([{ name: 'commonName', value: host }], {
    keyType: 'ec',
    algorithm: 'sha256',
    extensions: [
      { name: 'basicConstraints', cA: true },
      {
        name: 'subjectAltName',
        altNames: [
          { type: 7, ip: host },
          { type: 2, value: 'rdma.test' },
        ],
      },
    ],
  });
  return { key, cert };
}
