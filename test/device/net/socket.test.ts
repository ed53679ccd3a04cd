import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { Arena, openDevice } from '../../../lib/index.ts';
import { connect, RdmaMessageSocket, type RdmaSocket } from '../../../lib/net/index.ts';
import { resources } from '../helpers/cm.ts';
import { devices } from '../helpers/devices.ts';
import { allOf, listening, pattern, socketPair } from './helpers.ts';
import { start } from './programs.ts';

const closing = (socket: RdmaSocket): Promise<boolean> =>
  new Promise((settle) => socket.once('close', (hadError: boolean) => settle(hadError)));

describe.each(devices)('sockets on $name', ({ name, host }) => {
  it('half-close: one side ends, the other goes on', async () => {
    const { client, accepted, close } = await socketPair(
      host,
      { allowHalfOpen: true },
      { allowHalfOpen: true },
    );
    client.end('question');
    expect((await allOf(accepted)).toString()).toBe('question');
    expect(accepted.readyState).toBe('writeOnly');
    accepted.write('one ');
    await sleep(20);
    accepted.end('two');
    expect((await allOf(client)).toString()).toBe('one two');
    await close();
  });

  it('resetAndDestroy: the peer sees ECONNRESET', async () => {
    const { client, accepted, close } = await socketPair(host);
    const failed = once(accepted, 'error');
    const closed = closing(accepted);
    client.resetAndDestroy();
    expect((await failed)[0]).toMatchObject({ code: 'ECONNRESET', syscall: 'read' });
    expect(await closed).toBe(true);
    await close();
  });

  it('destroy ends in order, and writing to one that has gone is EPIPE', async () => {
    const { client, accepted, close } = await socketPair(host, { allowHalfOpen: true });
    accepted.resume();
    const ended = once(accepted, 'end');
    const closed = closing(client);
    client.destroy();
    expect(await closed).toBe(false);
    await ended;
    const failed = once(accepted, 'error');
    accepted.write('too late');
    expect((await failed)[0]).toMatchObject({ code: 'EPIPE', syscall: 'write' });
    await close();
  });

  it('a peer that is killed is ECONNRESET', async () => {
    const { server, port } = await listening(host);
    const child = spawn(process.execPath, [resolve('dist/test/device/net/sleeper.js'), host, String(port)]);
    const [socket] = (await once(server, 'connection')) as [RdmaSocket];
    const [data] = await once(socket, 'data');
    expect(data.toString()).toBe('alive');
    const failed = once(socket, 'error');
    child.kill('SIGKILL');
    expect((await failed)[0].code).toBe('ECONNRESET');
    await server[Symbol.asyncDispose]();
  });

  it('a C program that is killed is ECONNRESET', async () => {
    const { server, port } = await listening(host);
    const program = start('rstream', ['-s', host, '-p', String(port), '-S', '1000', '-C', '10', '-T', 'b']);
    const [socket] = (await once(server, 'connection')) as [RdmaSocket];
    await once(socket, 'data');
    const failed = once(socket, 'error');
    program.kill();
    expect((await failed)[0].code).toBe('ECONNRESET');
    await program.ended;
    await server[Symbol.asyncDispose]();
  });

  it('setTimeout: fires without activity, and the socket goes on', async () => {
    const { client, accepted, close } = await socketPair(host);
    client.setTimeout(100);
    await once(client, 'timeout');
    expect(client.timeout).toBe(100);
    client.write('still');
    expect((await once(accepted, 'data'))[0].toString()).toBe('still');
    await close();
  });

  it('setKeepAlive: a peer that is alive is left alone', async () => {
    const { client, accepted, close } = await socketPair(host);
    client.setKeepAlive(true, 30);
    await sleep(200);
    client.write('after');
    expect((await once(accepted, 'data'))[0].toString()).toBe('after');
    await close();
  });

  it('onread: data comes into the buffer that was lent, and false pauses', async () => {
    const sent = pattern(100_000);
    const { server, port } = await listening(host, {}, (socket) => socket.end(sent));
    const got: Buffer[] = [];
    const buffer = Buffer.alloc(10_000);
    const socket = connect({
      host,
      port,
      onread: {
        buffer,
        callback: (count, bytes) => {
          expect(bytes).toBe(buffer);
          got.push(Buffer.from(bytes.subarray(0, count)));
          if (got.length !== 3) return true;
          setTimeout(() => socket.resume(), 50);
          return false;
        },
      },
    });
    await once(socket, 'end');
    expect(Buffer.concat(got).equals(sent)).toBe(true);
    await server[Symbol.asyncDispose]();
  });

  it('memory of the arena of its domain is sent from where it is', async () => {
    const device = openDevice(name);
    const pd = device.allocPd();
    const arena = Arena.for(pd);
    const { client, accepted, close } = await socketPair(host, {}, { pd });
    const block = await arena.alloc(300_000);
    block.bytes.set(pattern(300_000));
    const before = Buffer.from('before');
    const after = Buffer.from('after');
    client.cork();
    client.write(before);
    client.write(block.bytes);
    client.write(block.bytes.subarray(1000, 9000));
    client.end(after);
    client.uncork();
    const expected = Buffer.concat([before, pattern(300_000), pattern(300_000).subarray(1000, 9000), after]);
    expect((await allOf(accepted)).equals(expected)).toBe(true);
    block.free();
    expect(arena.stats.blocks).toBe(0);
    await close();
    device.close();
  });

  it('messages keep their boundaries', async () => {
    const { client, accepted, close } = await socketPair(host);
    const one = new RdmaMessageSocket(client);
    const other = new RdmaMessageSocket(accepted, { maxMessageBytes: 500_000 });
    const sizes = [0, 1, 5, 70_000, 0, 500_000];
    for (const size of sizes) void one.send(pattern(size));
    one.end();
    const got: Buffer[] = [];
    for await (const message of other) got.push(message);
    expect(got.map(({ length }) => length)).toEqual(sizes);
    expect(got.every((message, i) => message.equals(pattern(sizes[i] as number)))).toBe(true);
    await close();
  });

  it('a message that is too long ends the connection', async () => {
    const { client, accepted, close } = await socketPair(host);
    const other = new RdmaMessageSocket(accepted, { maxMessageBytes: 10 });
    client.on('error', () => undefined);
    const failed = once(other, 'error');
    client.write(Buffer.from([0, 0, 0, 11, 1]));
    expect((await failed)[0].code).toBe('EMSGSIZE');
    await close();
  });

  it('maxConnections: one more is refused, and told of', async () => {
    const { server, client, close } = await socketPair(host);
    server.maxConnections = 1;
    const dropped = once(server, 'drop');
    const more = connect({ host, port: server.address()!.port });
    expect((await once(more, 'error'))[0].code).toBe('ECONNREFUSED');
    expect((await dropped)[0].remoteAddress).toBe(client.localAddress);
    await close();
  });

  it('a port that is taken is EADDRINUSE', async () => {
    const { server, port } = await listening(host);
    const { createServer } = await import('../../../lib/net/index.ts');
    const second = createServer().listen(port, host);
    expect((await once(second, 'error'))[0].code).toBe('EADDRINUSE');
    await server[Symbol.asyncDispose]();
  });

  it('a signal that is aborted destroys the socket', async () => {
    const { server, port } = await listening(host);
    const stop = new AbortController();
    const socket = connect({ host, port, signal: stop.signal });
    const failed = once(socket, 'error');
    stop.abort();
    expect((await failed)[0].name).toBe('AbortError');
    expect(socket.destroyed).toBe(true);
    await server[Symbol.asyncDispose]();
  });

  it('an unreferenced socket lets the process end', async () => {
    const { server, port } = await listening(host);
    const child = start(process.execPath, [
      resolve('dist/test/device/net/sleeper.js'),
      host,
      String(port),
      'unref',
    ]);
    const [socket] = (await once(server, 'connection')) as [RdmaSocket];
    socket.on('error', () => undefined);
    expect([await child.ended, child.output()]).toEqual([0, '']);
    server.closeAllConnections();
    await server[Symbol.asyncDispose]();
  });

  it('leaves nothing behind in the kernel', async () => {
    // What a device keeps for as long as it is open is there after the first connection.
    await (await socketPair(host)).close();
    await sleep(500);
    const before = resources(name);
    for (let i = 0; i < 5; i += 1) {
      const { client, accepted, close } = await socketPair(host);
      client.write('x');
      await once(accepted, 'data');
      if (i % 2 === 0) client.resetAndDestroy();
      accepted.on('error', () => undefined);
      await close();
    }
    for (let i = 0; i < 100 && JSON.stringify(resources(name)) !== JSON.stringify(before); i += 1)
      await sleep(50);
    expect(resources(name)).toEqual(before);
  });

  it('wrong options are refused at once', () => {
    expect(() => connect({ host, port: 70000 })).toThrow(/port must be an integer from 0 to 65535/);
    expect(() => connect({ host, port: 1, sendBufferSize: 1 })).toThrow(/sendBufferSize/);
    expect(() => connect({ host, port: 1, localAddress: 'here' })).toThrow(/localAddress/);
    expect(() => connect({ host, port: 1, onread: {} as never })).toThrow(/onread/);
  });
});
