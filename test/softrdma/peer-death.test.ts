/** A transfer between two machines, and what its ends see when the other machine dies: the library over a real network. */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { DeviceName, Machine } from '../../tools/softrdma/index.ts';
import { machines } from '../../tools/softrdma/index.ts';
import { packageRoot } from '../../tools/softrdma/paths.ts';
import { eventually } from './helpers.ts';

const program = join(packageRoot, 'dist/examples/file-transfer/cli.js');

describe('a file transfer between two machines', () => {
  let a: Machine;
  let b: Machine;
  beforeAll(async () => {
    [a, b] = (await machines(2, { memory: '2G' })) as [Machine, Machine];
  });
  afterAll(async () => {
    await a?.close();
    await b?.close();
  });

  /** Serves /tmp/served on machine a; resolves when the server listens. */
  async function serve(device: DeviceName): Promise<{ end(): Promise<void> }> {
    await a.run('sh', ['-c', 'mkdir -p /tmp/served; head -c 20000000 /dev/urandom >/tmp/served/file']);
    await a.run('truncate', ['-s', '1500M', '/tmp/served/long']);
    const server = a.spawn(process.execPath, [
      program,
      'serve',
      '/tmp/served',
      '--host',
      a.addresses[device],
    ]);
    let said = '';
    server.stdout.on('data', (chunk: Buffer) => {
      said += chunk.toString();
    });
    expect(await eventually(async () => said.includes('Ctrl-C ends it'))).toBe(true);
    return {
      async end() {
        server.kill('SIGTERM');
        await server.exited;
      },
    };
  }

  const get = (device: DeviceName, name: string) =>
    b.run(process.execPath, [program, 'get', a.addresses[device], name, '/tmp/got/file'], {
      timeout: 60_000,
    });

  const sum = async (machine: Machine, file: string) =>
    (await machine.run('sha256sum', [file])).stdout.split(' ')[0];

  it.each(['rxe0', 'siw0'] as const)('goes over %s, and survives the death of the server', async (device) => {
    await b.run('mkdir', ['-p', '/tmp/got']);
    let server = await serve(device);
    expect(await get(device, 'file')).toMatchObject({ status: 0, stderr: '' });
    expect(await sum(b, '/tmp/got/file')).toBe(await sum(a, '/tmp/served/file'));

    await b.run('rm', ['-f', '/tmp/got/file']);
    const cut = get(device, 'long');
    // The part file grows: the transfer is in the middle.
    const growing = async () =>
      Number((await b.run('sh', ['-c', 'du -sk /tmp/got | cut -f1'])).stdout) > 20_000;
    expect(await eventually(growing)).toBe(true);
    await a.kill();
    const killed = performance.now();
    const outcome = await cut;
    expect(performance.now() - killed).toBeLessThan(20_000);
    expect(outcome.timedOut).toBe(false);
    expect(outcome.status).toBe(1);
    expect(outcome.stderr).toMatch(/the server said nothing|the peer|RETRY_EXC/);
    expect((await b.run('ls', ['-A', '/tmp/got'])).stdout).toBe('');

    await a.restart();
    server = await serve(device);
    expect(await get(device, 'file')).toMatchObject({ status: 0 });
    expect(await sum(b, '/tmp/got/file')).toBe(await sum(a, '/tmp/served/file'));
    await b.run('rm', ['-f', '/tmp/got/file']);
    await server.end();
  });
});
