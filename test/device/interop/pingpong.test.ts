import { spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { devices } from '../helpers/devices.ts';
import { environmentOf } from '../helpers/foreign.ts';
import { ipv4GidIndex } from '../helpers/manual.ts';
import { type Command, example, installed, serveAndCall } from './programs.ts';

const { host } = devices.find(({ name }) => name === 'rxe0')!;
let port = 18600;

interface Case {
  readonly type: 'rc' | 'uc' | 'ud' | 'srq';
  readonly flags: readonly string[];
}

const cases: readonly Case[] = [
  { type: 'rc', flags: ['-s', '4096', '-m', '1024'] },
  { type: 'rc', flags: ['-s', '65536', '-m', '4096'] },
  { type: 'uc', flags: ['-s', '4096', '-m', '2048'] },
  { type: 'ud', flags: ['-s', '1024'] },
  { type: 'srq', flags: ['-s', '4096', '-q', '5'] },
];

describe.each(cases)('$type pingpong on rxe0, $flags', ({ type, flags }) => {
  const options = () => ['-d', 'rxe0', '-g', String(ipv4GidIndex('rxe0')), '-n', '100', '-r', '50', ...flags];
  const ours = (): Command => example('pingpong', type, ...options());
  const theirs = (): Command => installed(`ibv_${type}_pingpong`, ...options(), '-e');

  it.each([
    ['ours', 'ours'],
    ['ours', 'theirs'],
    ['theirs', 'ours'],
  ] as const)('server %s, client %s', async (server, client) => {
    const commands = { ours, theirs };
    const place = ['-p', String(port++)];
    // What goes over one buffer of srq_pingpong comes back from any queue pair.
    const check = client === 'ours' && !(type === 'srq' && server === 'theirs') ? ['-c'] : [];
    const runs = await serveAndCall(
      [...commands[server](), ...place],
      [...commands[client](), ...place, ...check, host],
    );
    for (const run of [runs.server, runs.client]) {
      expect(run).toMatchObject({ status: 0, output: expect.stringMatching(/100 iters in [\d.]+ seconds/) });
    }
  });
});

it('iWARP has no queue pairs by hand: both ends say so', async () => {
  const options = ['rc', '-d', 'siw0', '-g', '0', '-p', String(port++)];
  const runs = await serveAndCall(
    example('pingpong', ...options),
    example('pingpong', ...options, '127.0.0.1'),
  );
  expect(runs.server).toMatchObject({ status: 1, output: expect.stringMatching(/error: .*rdma_cm/) });
});

it('the devices have no XRC, which ibv_xsrq_pingpong finds too', () => {
  for (const device of ['rxe0', 'siw0']) {
    const [program, ...args] = installed('ibv_xsrq_pingpong', '-d', device, '-g', '0');
    const { status } = spawnSync(program as string, args, {
      encoding: 'utf8',
      env: environmentOf(program as string),
      timeout: 20_000,
    });
    expect(status).toBe(1);
  }
});
