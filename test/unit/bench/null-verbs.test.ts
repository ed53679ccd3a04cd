import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { buildNullVerbs, type NullVerbs } from '../../../bench/null-verbs/build.ts';

const compiled = (path: string): string => fileURLToPath(new URL(`../../../dist/${path}`, import.meta.url));

let nullVerbs: NullVerbs;

function run(file: string, ...args: string[]): string {
  // A sanitizer's runtime, where there is one, has to come first.
  const LD_PRELOAD = [process.env.LD_PRELOAD, nullVerbs.library].filter(Boolean).join(' ');
  const env = { ...process.env, LD_PRELOAD };
  return execFileSync(file, args, { env, encoding: 'utf8' });
}

beforeAll(() => {
  nullVerbs = buildNullVerbs();
});

describe('the null device', () => {
  it('lets the C loop through', () => {
    expect(Number(run(nullVerbs.loop, '32', '32', '0.05'))).toBeGreaterThan(0);
  });

  it.each(['batch', 'objects', 'promises'])('lets Node through (%s)', (way) => {
    expect(
      Number(run(process.execPath, compiled('bench/null-verbs/loop.js'), way, '32', '1', '0.2')),
    ).toBeGreaterThan(0);
  });
});

describe('memory that JavaScript allocates for an operation', () => {
  const bytesPerOperation = (way: string): number => {
    const program = compiled('test/unit/bench/allocation-program.js');
    return JSON.parse(run(process.execPath, program, way)).bytesPerOperation;
  };

  it('is none in a batch', () => {
    // One number on the heap for every list of 32 would be half a byte.
    expect(bytesPerOperation('batch')).toBeLessThan(0.4);
  });

  it('is seen by this test where there is some', () => {
    expect(bytesPerOperation('objects')).toBeGreaterThan(100);
  });
});
