import { once } from 'node:events';
import http, { type IncomingMessage, type RequestOptions } from 'node:http';
import https from 'node:https';
import { buffer } from 'node:stream/consumers';
import { describe, expect, it, vi } from 'vitest';
import { Agent, createServer, overRdma } from '../../../../lib/net/adapters/http.ts';
import * as rdmaHttps from '../../../../lib/net/adapters/https.ts';
import { connect } from '../../../../lib/net/index.ts';
import { devices } from '../../helpers/devices.ts';
import { allOf, pattern } from '../helpers.ts';
import { certificate, closed, listenOn } from './helpers.ts';

async function call(
  options: RequestOptions,
  body?: Uint8Array,
): Promise<{ response: IncomingMessage; body: Buffer }> {
  const request = http.request(options);
  request.end(body);
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  return { response, body: await buffer(response) };
}

describe.each(devices)('HTTP on $name', ({ host }) => {
  it('keeps a connection alive over requests', async () => {
    const connections = vi.fn();
    const server = createServer((request, response) =>
      response.end(`you at ${request.socket.remoteAddress} asked for ${request.url}`),
    );
    server.on('connection', connections);
    const port = await listenOn(server, host);
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    for (const path of ['/a', '/b', '/c']) {
      const { response, body } = await call({ agent, host, port, path });
      expect([response.statusCode, `${body}`]).toEqual([200, `you at ${host} asked for ${path}`]);
    }
    expect(connections).toHaveBeenCalledTimes(1);
    expect(server.listening).toBe(true);
    agent.destroy();
    await closed(server);
    expect(server.listening).toBe(false);
    expect(server.address()).toBe(null);
  });

  it.each([0, 1, 100_000, 20_000_000])('carries bodies of %i bytes both ways', async (size) => {
    const server = createServer((request, response) => void request.pipe(response));
    const port = await listenOn(server, host);
    const sent = pattern(size);
    const { body } = await call({ agent: new Agent(), host, port, method: 'POST' }, sent);
    expect(body.equals(sent)).toBe(true);
    await closed(server);
  });

  it('upgrades', async () => {
    const server = createServer();
    server.on('upgrade', (_request, socket) => {
      socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n');
      socket.pipe(socket);
    });
    const port = await listenOn(server, host);
    const headers = { Connection: 'Upgrade', Upgrade: 'echo' };
    const request = http.request({ agent: new Agent(), host, port, headers }).end();
    const [response, socket] = await once(request, 'upgrade');
    expect(response.statusCode).toBe(101);
    socket.end('to and fro');
    expect(`${await allOf(socket)}`).toBe('to and fro');
    await closed(server);
  });

  it('ends requests whose header does not come, as on TCP', async () => {
    const server = createServer({
      headersTimeout: 100,
      requestTimeout: 200,
      connectionsCheckingInterval: 50,
    });
    const port = await listenOn(server, host);
    const socket = connect({ host, port });
    socket.write('GET / HTTP/1.1\r\nHost');
    expect(`${await allOf(socket)}`).toMatch(/^HTTP\/1\.1 408 Request Timeout/);
    await closed(server);
  });

  it('times a request out', async () => {
    const server = createServer(() => undefined);
    const port = await listenOn(server, host);
    const request = http.get({ agent: new Agent(), host, port, timeout: 50 });
    await once(request, 'timeout');
    request.destroy(new Error('too late'));
    expect((await once(request, 'error'))[0].message).toBe('too late');
    await closed(server);
  });

  it('says that nobody listens, and that a server broke off', async () => {
    const agent = new Agent();
    expect((await once(http.get({ agent, host, port: 9 }), 'error'))[0]).toMatchObject({
      code: 'ECONNREFUSED',
    });
    const server = createServer((request) => request.socket.destroy());
    const port = await listenOn(server, host);
    expect((await once(http.get({ agent, host, port }), 'error'))[0]).toMatchObject({ code: 'ECONNRESET' });
    await closed(server);
  });

  it('close lets a response come to its end, and ends idle connections', async () => {
    const server = createServer({ keepAliveTimeout: 100 }, (_request, response) => {
      response.write('first');
      setTimeout(() => response.end(' and last'), 100);
    });
    const port = await listenOn(server, host);
    const agent = new Agent({ keepAlive: true });
    const request = http.get({ agent, host, port });
    const [response] = await once(request, 'response');
    const ended = closed(server);
    expect(`${await buffer(response)}`).toBe('first and last');
    await ended;
    await expect(new Promise((resolve) => server.close(resolve))).resolves.toMatchObject({
      code: 'ERR_SERVER_NOT_RUNNING',
    });
  });

  it('refuses connections beyond maxConnections', async () => {
    const server = createServer((_request, response) => response.end('one'));
    server.maxConnections = 1;
    const port = await listenOn(server, host);
    const agent = new Agent({ keepAlive: true });
    await call({ agent, host, port });
    const dropped = once(server, 'drop');
    const [error] = await once(http.get({ agent: new Agent(), host, port }), 'error');
    expect(error).toMatchObject({ code: 'ECONNREFUSED' });
    expect((await dropped)[0]).toMatchObject({ remoteAddress: host });
    agent.destroy();
    await closed(server);
  });

  it('with TLS: https takes the same two lines', async () => {
    const pems = await certificate(host);
    const server = rdmaHttps.createServer(pems, (_request, response) => response.end('secret'));
    const port = await listenOn(server, host);
    const agent = new rdmaHttps.Agent({ keepAlive: true, ca: pems.cert });
    for (let i = 0; i < 2; i += 1) {
      const [response] = await once(https.get({ agent, host, port }), 'response');
      expect(`${await buffer(response)}`).toBe('secret');
    }
    const [error] = await once(https.get({ agent: new rdmaHttps.Agent(), host, port }), 'error');
    expect(error.code).toBe('DEPTH_ZERO_SELF_SIGNED_CERT');
    agent.destroy();
    await closed(server);
  });
});

describe('overRdma', () => {
  it('refuses what is no server, and a server that listens on TCP', async () => {
    expect(() => overRdma({} as http.Server)).toThrow(/must be a server of node:net/);
    const server = http.createServer().listen(0);
    await once(server, 'listening');
    expect(() => overRdma(server)).toThrow(/listening on TCP already/);
    server.close();
  });
});
