import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';

const root = fileURLToPath(new URL('../../../', import.meta.url));
const directory = mkdtempSync(join(tmpdir(), 'node-rdma-native-'));
let lines: string[];

/** The lines from the one that begins with [first], as many as [count]. */
function from(first: string, count: number): string[] {
  const at = lines.findIndex((line) => line.startsWith(first));
  return lines.slice(at, at + count);
}

beforeAll(() => {
  const program = join(directory, 'device-memory');
  const core = ['device_memory', 'error', 'handles', 'memory', 'memory_window', 'object', 'pinnable']
    .concat(['registration', 'thread_domain', 'window_table'])
    .map((name) => `native/core/${name}.cc`);
  // What of these files needs the others is not used here, and goes.
  const flags = ['-std=c++20', '-O0', '-ffunction-sections', '-fdata-sections', '-Wl,--gc-sections'];
  const sources = ['test/unit/native/device-memory.cc', ...core];
  execFileSync('g++', [...flags, ...sources, '-o', program, '-libverbs', '-lrdmacm'], { cwd: root });
  lines = execFileSync(program, { encoding: 'utf8' }).trim().split('\n');
}, 300_000);
afterAll(() => rmSync(directory, { recursive: true }));

it('copies to and from device memory, within its bounds', () => {
  expect(from('alloc_dm 65', 11)).toEqual([
    'alloc_dm 65 align 0',
    'too much: ibv_alloc_dm Cannot allocate memory 65 bytes, log_align_req 0',
    'alloc_dm 64 align 6',
    'to: done',
    'from: done',
    'read written',
    'odd: ibv_memcpy_to_dm Invalid argument offset 1, length 8',
    'to beyond: ibv_memcpy_to_dm Invalid argument offset 57, length 8: the device memory has 64 bytes',
    'from beyond: ibv_memcpy_from_dm Invalid argument offset 18446744073709551615, length 8: ' +
      'the device memory has 64 bytes',
    'register beyond: ibv_reg_dm_mr Invalid argument offset 32, length 33: the device memory has 64 bytes',
    'reg_dm_mr 48 at 16 access 0x21',
  ]);
});

it('addresses a region from 0, and frees the memory after the last work request that uses it', () => {
  expect(from('addresses', 5)).toEqual([
    'addresses from 0: 1 0',
    'closing in use',
    'region closed 1, found 0',
    'dereg_mr',
    'free_dm',
  ]);
});

it('makes parent domains that share the keys, and closes them in order', () => {
  expect(from('alloc_parent_domain', 12)).toEqual([
    'alloc_parent_domain of 1 td 0 mask 0',
    'alloc_parent_domain of 1 td 1 mask 0',
    'same keys 1',
    'closing thread domain',
    'parent closed 1 0',
    'closing domain',
    'dealloc_pd 2',
    'parent closed 1',
    'dealloc_pd 2',
    'dealloc_td',
    'dealloc_pd 1',
    expect.stringContaining('no memory'),
  ]);
});

it('says what a device does not have', () => {
  expect(from('no memory', 3)).toEqual([
    'no memory: ibv_alloc_dm Operation not supported device fake0 has no memory of its own',
    'no thread domains: ibv_alloc_td Operation not supported device fake0 has no thread domains',
    'no parent domains: ibv_alloc_parent_domain Operation not supported device fake0 has no parent domains',
  ]);
});
