/** Sockets between two machines: a real network, and a peer that falls silent. */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Machine } from '../../tools/softrdma/index.ts';
import { machines } from '../../tools/softrdma/index.ts';
import { packageRoot } from '../../tools/softrdma/paths.ts';
import { eventually } from './helpers.ts';

const program = join(packageRoot, 'dist/test/softrdma/sockets-program.js');

describe('sockets between two machines', () => {
  let a: Machine;
  let b: Machine;
  beforeAll(async () => {
    [a, b] = (await machines(2, { memory: '1G' })) as [Machine, Machine];
  });
  afterAll(async () => {
    await a?.close();
    await b?.close();
  });

  /** Starts the program; what it has said is in `said`. */
  function start(machine: Machine, ...args: string[]) {
    const child = machine.spawn(process.execPath, [program, ...args]);
    let said = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk: Buffer) => {
        said += chunk.toString();
      });
    }
    return { child, said: () => said, says: (text: string) => eventually(async () => said.includes(text)) };
  }

  it.each(['rxe0', 'siw0'] as const)(
    'both sides write 50 large messages before either reads: %s',
    async (device) => {
      const hash = createHash('sha256');
      for (let i = 0; i < 50; i += 1) hash.update(Buffer.alloc(200_000, i));
      const digest = `${hash.digest('hex')}\n`;
      const server = start(a, 'serve', a.addresses[device], '7300');
      expect(await server.says('listening')).toBe(true);
      const client = start(b, 'call', a.addresses[device], '7300');
      expect(await client.child.exited).toEqual({ status: 0, signal: null });
      expect(await server.child.exited).toEqual({ status: 0, signal: null });
      expect([client.said(), server.said()]).toEqual([digest, `listening\n${digest}`]);
    },
  );

  it('a peer whose machine is cut off is found by keepalive: ETIMEDOUT', async () => {
    const server = start(a, 'listen', a.addresses.rxe0, '7301');
    expect(await server.says('listening')).toBe(true);
    const client = start(b, 'watch', a.addresses.rxe0, '7301');
    expect(await client.says('connected')).toBe(true);
    await a.link('rxe0', 'down');
    expect(await client.child.exited).toEqual({ status: 0, signal: null });
    expect(client.said()).toBe('connected\nETIMEDOUT\n');
    await a.link('rxe0', 'up');
    server.child.kill('SIGKILL');
    await server.child.exited;
  });
});
