import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checks } from '../../../lib/ring/post-error.ts';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const UNCLEAR = Object.keys(checks).indexOf('unclear');

/** The core: what the addon's build has compiled, and the sources of the rest. */
function core(): string[] {
  const sources = join(root, 'native/core');
  const objects = join(root, 'build/Release/obj.target/node_rdma/native/core');
  return (readdirSync(sources, { recursive: true }) as string[])
    .filter((name) => name.endsWith('.cc'))
    .map((name) => {
      const source = join(sources, name);
      const object = join(objects, `${name.slice(0, -3)}.o`);
      return existsSync(object) && statSync(object).mtimeMs >= statSync(source).mtimeMs ? object : source;
    });
}

describe('the answers of a provider to ibv_post_send, by a fake one', () => {
  let folder: string;
  let lines: string[];

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'node-rdma-post-'));
    const program = join(folder, 'post-answers');
    const source = join(root, 'test/unit/native/post-answers.cc');
    const flags = [
      '-std=c++20',
      '-O1',
      '-pthread',
      '-o',
      program,
      source,
      ...core(),
      '-libverbs',
      '-lrdmacm',
    ];
    execFileSync('g++', flags, { stdio: 'inherit' });
    lines = execFileSync(program, { encoding: 'utf8' }).trim().split('\n');
  }, 240_000);
  afterAll(() => rmSync(folder, { recursive: true }));

  it.each([
    ['success', 'err 0 posted 0 refused 0 check 0 in flight 3'],
    ['0 and bad_wr', 'err 22 posted 1 refused 1 check 0 in flight 1'],
    ['-1 with errno', 'err 12 posted 2 refused 2 check 0 in flight 2'],
    ['-errno', 'err 22 posted 0 refused 0 check 0 in flight 0'],
    ['+errno', 'err 12 posted 1 refused 1 check 0 in flight 1'],
    // What the device saw is unknown: all of it stays pinned.
    ['no bad_wr', `err 107 posted 3 refused 3 check ${UNCLEAR} in flight 3`],
  ])('%s', (name, text) => {
    expect(lines).toContain(`${name}: ${text}`);
  });
});
