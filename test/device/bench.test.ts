// The benchmarks run, briefly, and find figures; which ones is not a test's business.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { devices } from './helpers/devices.ts';

const HANG_MS = 240_000;
const compiled = (name: string): string =>
  fileURLToPath(new URL(`../../dist/bench/${name}.js`, import.meta.url));
const positive = expect.toSatisfy((value) => Number.isFinite(value) && value > 0, 'a figure');

describe.each(devices)('benchmarks on $name', ({ name, host }) => {
  let directory: string;
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'node-rdma-bench-'));
  });
  afterAll(() => rmSync(directory, { recursive: true }));

  /** Runs bench/[program].ts; what it has written. */
  function results(program: string, ...args: string[]): unknown {
    const env = { ...process.env, NODE_RDMA_BENCH: '1', NODE_RDMA_BENCH_RESULTS: directory };
    const list = [compiled(program), ...args, '--device', name];
    execFileSync(process.execPath, list, { env, timeout: HANG_MS, encoding: 'utf8' });
    const file = program === 'cli' ? 'perf' : program;
    return JSON.parse(readFileSync(join(directory, `${file}.json`), 'utf8')).results;
  }

  it(
    'perf: rate and latency next to perftest',
    () => {
      const args = ['--host', host, '--pairs', '1', '--only', '64 B, lists of 32|event_lat'];
      const cell = { twin: expect.stringMatching(/./), node: [positive], c: [positive], ratio: positive };
      expect(results('cli', 'perf-quick', ...args)).toEqual([
        expect.objectContaining(cell),
        expect.objectContaining(cell),
      ]);
    },
    HANG_MS,
  );

  it(
    'messages: next to node:net',
    () => {
      const [{ rows }] = results('messages', '--count', '500', '--pairs', '1') as [
        { rows: { name: string; rate: number }[] },
      ];
      for (const way of ['lists of 32', 'lists of 1', 'node:net']) {
        expect(rows).toContainEqual(expect.objectContaining({ name: way, rate: positive }));
      }
    },
    HANG_MS,
  );

  it(
    'net-stream: next to rstream and riostream',
    () => {
      const args = ['--sizes', '65536', '--bytes', '1048576', '--rounds', '1'];
      expect(results('net-stream', ...args)).toMatchObject([
        {
          size: 65_536,
          count: 16,
          node: ['stream', 'onread', 'direct'].map((way) => ({ way, rate: positive, ratio: positive })),
          c: { rstream: positive, riostream: positive },
        },
      ]);
    },
    HANG_MS,
  );

  it(
    'scale: connections, wake-ups and an HTTP server beside',
    () => {
      expect(results('scale', '--connections', '1,4', '--seconds', '0.1')).toMatchObject([
        {
          connection: { process: expect.any(Number) },
          rates: [
            { count: 1, rate: positive },
            { count: 4, rate: positive },
          ],
          wakeUps: [{ depth: 1, perWakeUp: positive }, { depth: 4 }, { depth: 16 }],
          http: { quiet: { p99: positive }, busy: { p99: positive } },
        },
      ]);
    },
    HANG_MS,
  );
});
