import { spawn, spawnSync } from 'node:child_process';
import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { devices } from '../helpers/devices.ts';
import { environmentOf } from '../helpers/foreign.ts';

const ours = [process.execPath, resolve('dist/examples/rping/cli.js')];
const theirs = ['rping'];
const installed = spawnSync('sh', ['-c', 'command -v rping']).status === 0;
let nextPort = 7200;

interface Run {
  status: number | null;
  output: string;
}

function run(command: readonly string[], ...args: string[]): { done: Promise<Run>; output: () => string } {
  const env = environmentOf(command[0]!);
  const child = spawn(command[0]!, [...command.slice(1), ...args], {
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (data: Buffer) => {
      output += data.toString();
    });
  }
  const done = new Promise<Run>((resolveRun) =>
    child.on('close', (status) => resolveRun({ status, output })),
  );
  return { done, output: () => output };
}

/** Runs a server and a client; the client is tried again while the server is not listening yet. */
async function rping(
  server: readonly string[],
  client: readonly string[],
  host: string,
  size: number,
): Promise<[Run, Run]> {
  const port = String(nextPort++);
  const options = ['-a', host, '-p', port, '-v', '-V', '-C', '10', '-S', String(size)];
  const serving = run(server, '-s', ...options);
  if (server === ours) while (!serving.output().includes('listening')) await sleep(10);
  else await sleep(300);
  for (let attempt = 0; ; attempt++) {
    const pinged = await run(client, '-c', ...options).done;
    if (pinged.status === 0 || attempt === 5) return [await serving.done, pinged];
    await sleep(300);
  }
}

describe.each(devices)('rping over $name', ({ host }) => {
  it.each([
    ['ours', 'ours', ours, ours],
    ['ours', 'rping of rdmacm-utils', ours, theirs],
    ['rping of rdmacm-utils', 'ours', theirs, ours],
  ] as const)('server %s, client %s', async (_server, _client, server, client) => {
    if (!installed && (server === theirs || client === theirs))
      throw new Error('install rping (Debian: rdmacm-utils)');
    for (const size of [64, 65535]) {
      const [served, pinged] = await rping(server, client, host, size);
      expect(pinged).toMatchObject({
        status: 0,
        output: expect.stringContaining('ping data: rdma-ping-9: JKLM'),
      });
      expect(served).toMatchObject({ status: 0, output: expect.stringContaining('rdma-ping-9: JKLM') });
    }
  });

  it('fails when nobody listens', async () => {
    const { status, output } = await run(ours, '-c', '-a', host, '-p', '7199', '-C', '1').done;
    expect(status).toBe(1);
    expect(output).toMatch(/error: .*ECONNREFUSED/);
  });
});
