import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';

const root = fileURLToPath(new URL('../../../', import.meta.url));
const directory = mkdtempSync(join(tmpdir(), 'node-rdma-native-'));
let lines: string[];

beforeAll(() => {
  const program = join(directory, 'completion-reader');
  const sources = [
    'test/unit/native/completion-reader.cc',
    'native/core/completion_reader.cc',
    'native/core/error.cc',
  ];
  execFileSync('g++', ['-std=c++20', '-O1', '-Wall', '-Wextra', ...sources, '-o', program], { cwd: root });
  lines = execFileSync(program, { encoding: 'latin1' }).trim().split('\n');
});
afterAll(() => rmSync(directory, { recursive: true }));

const success = (id: number, imm: string, flags: number) =>
  `[${id} status 0 opcode 128 len 100 imm ${imm} qp 17 src 18 flags ${flags} slid 5 sl 6 path 7 ts 70000000${id}]`;

it('reads completions with timestamps from an extended queue', () => {
  expect(lines[0]).toBe('empty: starts 0 ends 0 left 0');
  expect(lines[1]).toBe(
    `all: ${success(1, '0', 0)} ${success(2, '1020304', 2)} ${success(3, '1020304', 8)} starts 1 ends 1 left 0`,
  );
});

it('takes no more than there is room for, and loses none', () => {
  expect(lines[2]).toBe(`first two: ${success(1, '0', 0)} ${success(2, '0', 0)} starts 1 ends 1 left 1`);
  expect(lines[3]).toBe(`then one: ${success(3, '0', 0)} starts 2 ends 2 left 0`);
  expect(lines[4]).toBe('then none: starts 2 ends 2 left 0');
});

it('reads of a failed completion only what is valid', () => {
  expect(lines[5]).toBe(
    'failed: [4 status 5 opcode 0 len 0 imm 0 qp 17 src 0 flags 0 slid 0 sl 0 path 0 ts 700000004] starts 1 ends 1 left 0',
  );
});

it('delivers what it has read when the queue breaks, and then says so', () => {
  expect(lines[6]).toBe(`broken after one: ${success(1, '0', 0)} starts 1 ends 1 left 1`);
  expect(lines[7]).toBe('broken: ibv_start_poll errno 5 starts 1 ends 1 left 1');
  expect(lines.length).toBe(8);
});
