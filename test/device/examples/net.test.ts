import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterEach, describe, expect, it } from 'vitest';
import { Agent } from '../../../lib/net/adapters/http.ts';
import { devices } from '../helpers/devices.ts';
import { certificate } from '../net/adapters/helpers.ts';
import { pattern } from '../net/helpers.ts';

const running: ChildProcess[] = [];

function start(example: string, ...args: string[]): ChildProcess {
  const child = spawn(process.execPath, [resolve(`dist/examples/${example}/cli.js`), ...args]);
  running.push(child);
  return child;
}

/** Starts the server of [example]; its port once it listens. */
async function serve(example: string, ...args: string[]): Promise<{ server: ChildProcess; port: string }> {
  const server = start(example, 'serve', '--port', '0', ...args);
  let output = '';
  for await (const chunk of server.stdout!) {
    output += chunk;
    const [, port] = /listening on port (\d+)\n/.exec(output) ?? [];
    if (port !== undefined) return { server, port };
  }
  throw new Error(`the server of ${example} ended: ${output}${await text(server.stderr!)}`);
}

async function run(child: ChildProcess, input = ''): Promise<{ output: string; status: number | null }> {
  child.stdin!.end(input);
  const closed = once(child, 'close');
  const [out, err] = await Promise.all([text(child.stdout!), text(child.stderr!)]);
  return { output: out + err, status: (await closed)[0] };
}

async function interrupt(server: ChildProcess): Promise<number | null> {
  const exit = once(server, 'exit');
  server.kill('SIGINT');
  return (await exit)[0];
}

afterEach(() => {
  for (const child of running.splice(0)) child.kill('SIGKILL');
});

describe.each(devices)('examples over sockets on $name', ({ host }) => {
  it('http-server', async () => {
    const { server, port } = await serve('http-server', '--host', host);
    const url = `http://${host}:${port}`;
    const greeting = `Hello ${host}, this is HTTP over RDMA.\n`;
    expect(await run(start('http-server', 'get', `${url}/`))).toEqual({ output: greeting, status: 0 });
    const bytes = await run(start('http-server', 'get', `${url}/bytes/200001`));
    expect([bytes.output.length, bytes.status]).toEqual([200001, 0]);
    expect(await run(start('http-server', 'get', `${url}/none`))).toMatchObject({
      output: expect.stringContaining('404 Not Found'),
      status: 1,
    });
    const body = pattern(3_000_000);
    const agent = new Agent();
    const request = http.request(url, { agent, method: 'POST' });
    request.end(body);
    const [response] = await once(request, 'response');
    expect(await text(response)).toBe(`${createHash('sha256').update(body).digest('hex')}\n`);
    expect(await interrupt(server)).toBe(0);
    expect(await run(start('http-server', 'get', `${url}/`))).toMatchObject({
      output: expect.stringContaining('ECONNREFUSED'),
      status: 1,
    });
  });

  it('grpc-greeter', async () => {
    const { server, port } = await serve('grpc-greeter', '--host', host);
    const to = ['--host', host, '--port', port];
    expect(await run(start('grpc-greeter', 'greet', ...to, 'Ada'))).toEqual({
      output: 'Hello Ada, over RDMA.\n',
      status: 0,
    });
    expect(await run(start('grpc-greeter', 'greet', ...to, 'Ada', 'Grace'))).toEqual({
      output: 'Hello Ada, over RDMA.\nHello Grace, over RDMA.\n',
      status: 0,
    });
    expect(await interrupt(server)).toBe(0);
  });

  it('tls-echo', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'tls-echo-'));
    const { key, cert } = await certificate(host);
    const [certFile, keyFile] = [join(directory, 'cert.pem'), join(directory, 'key.pem')];
    writeFileSync(certFile, cert);
    writeFileSync(keyFile, key);
    const { server, port } = await serve('tls-echo', '--host', host, '--cert', certFile, '--key', keyFile);
    const to = ['--host', host, '--port', port, '--ca', certFile, '--name', 'rdma.test'];
    const input = 'to and fro\n'.repeat(20_000);
    expect(await run(start('tls-echo', 'echo', ...to), input)).toEqual({ output: input, status: 0 });
    expect(await interrupt(server)).toBe(0);
    rmSync(directory, { recursive: true });
  });
});
