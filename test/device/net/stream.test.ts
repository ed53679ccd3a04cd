import { once } from 'node:events';
import { describe, expect, it } from 'vitest';
import { connect, type RdmaSocket } from '../../../lib/net/index.ts';
import { devices } from '../helpers/devices.ts';
import { allOf, listening, pattern, socketPair } from './helpers.ts';

describe.each(devices)('streams on $name', ({ host }) => {
  it.each([1, 100, 4096, 65536, 65537, 1_000_003, 20_000_000])('carries %i bytes both ways', async (size) => {
    const { server, port } = await listening(host, { allowHalfOpen: true }, (socket) => socket.pipe(socket));
    const socket = connect({ host, port });
    const sent = pattern(size);
    socket.end(sent);
    const received = await allOf(socket);
    expect(received.equals(sent)).toBe(true);
    expect(socket.bytesRead).toBe(size);
    expect(socket.bytesWritten).toBe(size);
    await server[Symbol.asyncDispose]();
  });

  it('knows its addresses, and ends on both sides', async () => {
    const { server, client, accepted } = await socketPair(host);
    expect(client.remoteAddress).toBe(host);
    expect(client.remotePort).toBe(server.address()?.port);
    expect(client.localAddress).toBe(host);
    expect(accepted.remotePort).toBe(client.localPort);
    expect(client.readyState).toBe('open');
    const closed = Promise.all([once(client, 'close'), once(accepted, 'close')]);
    accepted.resume();
    client.resume();
    client.end();
    expect(await closed).toEqual([[false], [false]]);
    expect(client.readyState).toBe('closed');
    await server[Symbol.asyncDispose]();
  });

  it('is refused where nobody listens', async () => {
    const socket = connect({ host, port: 9 });
    expect(socket.connecting).toBe(true);
    const [error] = await once(socket, 'error');
    expect(error.code).toBe('ECONNREFUSED');
    expect(socket.destroyed).toBe(true);
  });

  it('both sides write 50 large messages before either reads', async () => {
    const { client, accepted, close } = await socketPair(host);
    const messages = Array.from({ length: 50 }, (_, i) => pattern(200_000, i + 1));
    for (const socket of [client, accepted] as RdmaSocket[]) {
      for (const message of messages) socket.write(message);
      socket.end();
    }
    const whole = Buffer.concat(messages);
    const [one, other] = await Promise.all([allOf(client), allOf(accepted)]);
    expect(one.equals(whole)).toBe(true);
    expect(other.equals(whole)).toBe(true);
    await close();
  });
});
