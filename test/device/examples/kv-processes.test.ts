import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { ServerProcess } from '../../../examples/common/server-process.ts';
import { KvClient } from '../../../examples/kv/client.ts';
import { devices } from '../helpers/devices.ts';
import { makeValue, sequenceOf } from './kv-values.ts';

const built = resolve('dist/examples');
// Server processes run from dist, so the function that starts them comes from there too.
const { spawnServer } = (await import(
  pathToFileURL(join(built, 'common/server-process.js')).href
)) as typeof import('../../../examples/common/server-process.ts');

const MEMORY = ['--memory', '16m'];
let nextPort = 7480;
let directory: string;
const clients: KvClient[] = [];
const servers: ServerProcess[] = [];

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'kv-'));
});

afterAll(() => rmSync(directory, { recursive: true }));

afterEach(async () => {
  for (const client of clients.splice(0)) await client.close();
  for (const server of servers.splice(0)) if (server.child.exitCode === null) await server.end('SIGKILL');
});

interface Output {
  status: number | null;
  stdout: Buffer;
  stderr: string;
}

/** Runs the command; [input] is its standard input. */
async function kv(args: readonly string[], input: string | Buffer = ''): Promise<Output> {
  const child = spawn(process.execPath, [join(built, 'kv/cli.js'), ...args]);
  const stdout: Buffer[] = [];
  let stderr = '';
  child.stdout.on('data', (data: Buffer) => stdout.push(data));
  child.stderr.on('data', (data: Buffer) => {
    stderr += data.toString();
  });
  child.stdin.end(input);
  const [status] = (await once(child, 'close')) as [number | null];
  return { status, stdout: Buffer.concat(stdout), stderr };
}

// Every command is a process, and on a busy machine it takes seconds to start one.
describe.each(devices)(
  'the programs of the key-value store over $name',
  { timeout: 180_000 },
  ({ name, host }) => {
    const serve = async (port: number, options: readonly string[] = []): Promise<ServerProcess> => {
      const server = await spawnServer('kv', ['--host', host, '--port', String(port), ...MEMORY, ...options]);
      servers.push(server);
      return server;
    };
    const connect = async (port: number): Promise<KvClient> => {
      const client = await KvClient.connect({ host, port, timeoutMs: 60_000 });
      clients.push(client);
      return client;
    };

    it('put, get, list, delete and measure; Ctrl-C ends the server', async () => {
      const port = nextPort++;
      const server = await serve(port, ['--interval', '0.2']);
      const at = [host, '--port', String(port)];
      const file = join(directory, 'value');
      writeFileSync(file, makeValue(1, 300_000));
      expect(await kv(['put', ...at, 'one', 'first value'])).toMatchObject({ status: 0, stderr: '' });
      expect(await kv(['put', ...at, 'two', '--file', file])).toMatchObject({ status: 0 });
      expect((await kv(['put', ...at, '--hex', '00ff'], 'from a pipe')).stdout.toString()).toBe(
        'version 3\n',
      );
      expect((await kv(['get', ...at, 'two', '--output', `${file}.got`])).status).toBe(0);
      expect(readFileSync(`${file}.got`).equals(readFileSync(file))).toBe(true);
      expect((await kv(['get', ...at, 'one'])).stdout.toString()).toBe('first value');
      expect((await kv(['list', ...at, '--hex'])).stdout.toString().split('\n')).toEqual([
        '00ff',
        Buffer.from('one').toString('hex'),
        Buffer.from('two').toString('hex'),
        '',
      ]);
      expect((await kv(['delete', ...at, 'one'])).status).toBe(0);
      expect(await kv(['get', ...at, 'one'])).toMatchObject({
        status: 1,
        stderr: 'error: there is no key one\n',
      });
      const bench = await kv(['bench', ...at, '--keys', '10', '--seconds', '0.5', '--interval', '0.1']);
      expect(bench.stdout.toString()).toMatch(/oneSided \d+, asked 0, puts 10, .*\n.*GETs of 1024 bytes/s);
      expect(await server.end()).toBe(0);
      expect(server.output()).toMatch(/clients 1, leases 1, granted \d+/);
      expect(server.output()).toMatch(/keys 12, .*\nclosed\n$/);
    });

    it('shows its counters in place on a terminal', async () => {
      const port = nextPort++;
      const command = `${process.execPath} ${join(built, 'kv/cli.js')} serve --host ${host} --port ${port} --interval 0.1`;
      // script(1) runs a command on a terminal of its own.
      const child = spawn('script', ['-qec', `stty cols 80; exec ${command}`, '/dev/null']);
      let output = '';
      child.stdout.on('data', (data: Buffer) => {
        output += data.toString();
      });
      const start = performance.now();
      // Drawn at least twice: the second time goes back over the first.
      while (!/clients 0.*\[\d+A.*clients 0/s.test(output)) {
        if (performance.now() - start > 60_000) throw new Error(`no counters in ${output}`);
        await sleep(20);
      }
      child.stdin.write('\x03');
      const [status] = await once(child, 'close');
      expect(status).toBe(0);
      expect(output).toMatch(/closed\s*$/);
    });

    it('clients that are killed in the middle of a PUT leave the old value or the new one', async () => {
      const port = nextPort++;
      const server = await serve(port, ['--interval', '0.1']);
      const reader = await connect(port);
      let last = 0;
      for (let round = 1; round <= 3; round++) {
        const first = round * 1_000_000;
        const writer = spawn(process.execPath, [
          resolve('dist/test/device/examples/kv-writer.js'),
          ...[host, String(port), 'key', String(first)],
        ]);
        const died = once(writer, 'close');
        await once(writer.stdout, 'data');
        await sleep(30 + Math.random() * 150);
        writer.kill('SIGKILL');
        await died;
        const stored = await reader.get('key');
        if (stored === undefined) continue;
        const sequence = sequenceOf(stored.value);
        expect(sequence).toBeGreaterThanOrEqual(last);
        last = sequence;
        // What came of it later is whole too.
        expect(sequenceOf((await reader.get('key'))!.value)).toBeGreaterThanOrEqual(sequence);
      }
      expect(last).toBeGreaterThan(0);
      // The leases of the dead are over, and their memory is free: seven of these fit if nothing is lost.
      const start = performance.now();
      while (!/clients 1, leases 1,(?!.*clients [02-9])/s.test(server.output().slice(-300))) {
        if (performance.now() - start > 60_000) throw new Error(server.output().slice(-1000));
        await sleep(50);
      }
      for (let at = 0; at < 14; at++) await reader.put(`${at}`, Buffer.alloc(1_000_000, at));
      expect(await server.end()).toBe(0);
    });

    it('a server that is killed has after its start what it had acknowledged, and clients come back', async () => {
      const port = nextPort++;
      const data = ['--data', join(directory, `log-${name}`)];
      let server = await serve(port, data);
      const [client, other] = [await connect(port), await connect(port)];
      for (let at = 0; at < 20; at++) await client.put(`key ${at}`, makeValue(at, 100 + at * 2000));
      expect(await client.delete('key 7')).toBe(true);
      expect(sequenceOf((await other.get('key 3'))!.value)).toBe(3);
      await server.end('SIGKILL');
      // Waits for the next server.
      const waiting = other.get('key 3');
      server = await serve(port, data);
      expect(server.output()).toMatch(/: 19 keys/);
      expect(sequenceOf((await waiting)!.value)).toBe(3);
      for (let at = 0; at < 20; at++) {
        const stored = await client.get(`key ${at}`);
        if (at === 7) expect(stored).toBeUndefined();
        else expect(sequenceOf(stored!.value)).toBe(at);
      }
      expect(client.counters).toMatchObject({ reconnects: 1, asked: 0 });
      expect(await client.put('after', 'x')).toBeGreaterThan(20);
      expect(await server.end()).toBe(0);
      server = await serve(port, data);
      expect((await other.get('after'))?.value.toString()).toBe('x');
      expect(await server.end()).toBe(0);
    });

    it('tells that nobody knows of a PUT whose server died, and when nobody comes back', async () => {
      const port = nextPort++;
      const server = await serve(port);
      const client = await KvClient.connect({ host, port, timeoutMs: 5000 });
      clients.push(client);
      // Stopped, it does not answer any more.
      server.child.kill('SIGSTOP');
      const put = expect(client.put('key', 'value')).rejects.toMatchObject({ code: 'ERR_KV_LOST' });
      await sleep(100);
      server.child.kill('SIGKILL');
      await put;
      await expect(client.get('key')).rejects.toMatchObject({
        code: 'ERR_KV_TIMEOUT',
        message: expect.stringContaining(`no connection to ${host} port ${port}`),
      });
    });
  },
);
