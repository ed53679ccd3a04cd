import { readdirSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { eventually, kernelSession, type Running, sessionSize, start, temporary } from './helpers.ts';

const loop = ['--', 'sh', '-c', 'sleep 100 & echo ready; sleep 100; wait'];

/** Ends a running softrdma by `end` and checks that nothing of it stays: no process, no file. */
async function leavesNothing(end: (running: Running) => void, args = loop) {
  using tmp = temporary();
  const running = start(args, { env: { ...process.env, TMPDIR: tmp.path } });
  await running.saw('ready');
  const session = kernelSession(tmp.path)!;
  expect(session).toBeGreaterThan(0);
  expect(sessionSize(session)).toBeGreaterThan(1);
  expect(readdirSync(tmp.path)).toHaveLength(1);
  end(running);
  const outcome = await running.outcome;
  expect(await eventually(() => sessionSize(session) === 0)).toBe(true);
  expect(readdirSync('/dev/shm').filter((name) => name.startsWith('vm_file'))).toEqual([]);
  return { outcome, left: readdirSync(tmp.path) };
}

describe('nothing is left behind', () => {
  it.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ] as const)('after %s, which the command gets', async (signal, status) => {
    const { outcome, left } = await leavesNothing(({ child }) => child.kill(signal));
    expect(outcome.status).toBe(status);
    expect(left).toEqual([]);
  });

  it('after SIGINT that the command handles: its status counts', async () => {
    const script = 'trap "echo caught; exit 7" INT; echo ready; while :; do sleep 0.1; done';
    const { outcome, left } = await leavesNothing(
      ({ child }) => child.kill('SIGINT'),
      ['--', 'sh', '-c', script],
    );
    expect(outcome.stdout.toString()).toBe('ready\ncaught\n');
    expect(outcome.status).toBe(7);
    expect(left).toEqual([]);
  });

  it('after a second SIGINT to a command that ignores the first', async () => {
    const script = 'trap "" INT; echo ready; while :; do sleep 1; done';
    const end = ({ child }: Running) => {
      child.kill('SIGINT');
      setTimeout(() => child.kill('SIGINT'), 300);
    };
    const { outcome, left } = await leavesNothing(end, ['--', 'sh', '-c', script]);
    expect(outcome.status).toBe(130);
    expect(left).toEqual([]);
  });

  it('but a small directory after SIGKILL, which the next run removes', async () => {
    using tmp = temporary();
    const env = { ...process.env, TMPDIR: tmp.path };
    const running = start(loop, { env });
    await running.saw('ready');
    const session = kernelSession(tmp.path)!;
    expect(sessionSize(session)).toBeGreaterThan(1);
    running.child.kill('SIGKILL');
    await running.outcome;
    expect(await eventually(() => sessionSize(session) === 0)).toBe(true);
    expect(readdirSync(tmp.path)).toHaveLength(1);
    await start(['--', 'true'], { env }).outcome;
    expect(readdirSync(tmp.path)).toEqual([]);
  });

  it('after a signal while the machine boots', async () => {
    using tmp = temporary();
    const running = start(loop, { env: { ...process.env, TMPDIR: tmp.path } });
    expect(await eventually(() => kernelSession(tmp.path) !== undefined)).toBe(true);
    const session = kernelSession(tmp.path)!;
    running.child.kill('SIGTERM');
    expect((await running.outcome).status).toBe(143);
    expect(await eventually(() => sessionSize(session) === 0)).toBe(true);
    expect(readdirSync(tmp.path)).toEqual([]);
  });
});
