import { once } from 'node:events';
import { describe, expect, it } from 'vitest';
import { createServer as createHttps } from '../../../../lib/net/adapters/https.ts';
import { WebSocket, WebSocketServer } from '../../../../lib/net/adapters/ws.ts';
import { devices } from '../../helpers/devices.ts';
import { pattern } from '../helpers.ts';
import { certificate, closed, listenOn } from './helpers.ts';

describe.each(devices)('WebSockets on $name', ({ host }) => {
  it('carry messages both ways, and end in order', async () => {
    const server = new WebSocketServer({ port: 0, host });
    await once(server, 'listening');
    server.on('connection', (socket) =>
      socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary })),
    );
    const { port } = server.address() as { port: number };
    const socket = new WebSocket(`ws://${host}:${port}/`);
    await once(socket, 'open');
    for (const message of [Buffer.alloc(0), Buffer.from('text'), pattern(1_000_000)]) {
      socket.send(message);
      const [data] = await once(socket, 'message');
      expect(message.equals(data)).toBe(true);
    }
    socket.close(1000, 'done');
    expect((await once(socket, 'close'))[0]).toBe(1000);
    await new Promise<void>((resolve) => server.close(() => resolve()));
    expect((await once(new WebSocket(`ws://${host}:${port}/`), 'error'))[0]).toMatchObject({
      code: 'ECONNREFUSED',
    });
  });

  it('carry messages under TLS, on a server that also serves HTTPS', async () => {
    const pems = await certificate(host);
    const server = createHttps(pems);
    const sockets = new WebSocketServer({ server });
    sockets.on('connection', (socket) => socket.send('hello'));
    const port = await listenOn(server, host);
    const socket = new WebSocket(`wss://${host}:${port}/`, [], { ca: pems.cert });
    expect(`${(await once(socket, 'message'))[0]}`).toBe('hello');
    socket.close();
    await once(socket, 'close');
    sockets.close();
    await closed(server);
  });
});
