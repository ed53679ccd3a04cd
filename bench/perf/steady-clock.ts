/** The clock that our program and perftest are given. */
import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../../tools/softrdma/paths.ts';

let library: string | undefined;

function compile(): string {
  const directory = join(packageRoot, 'build', 'perf');
  const target = join(directory, 'libsteady_clock.so');
  const source = join(packageRoot, 'bench', 'perf', 'steady_clock.c');
  mkdirSync(directory, { recursive: true });
  execFileSync('cc', ['-O2', '-Wall', '-Wextra', '-fPIC', '-shared', '-o', target, source]);
  return target;
}

/** What they are to be run with, besides [others] of LD_PRELOAD; where the cycle counter is another than x86's, that alone. */
export function steadyClockEnv(others = ''): Record<string, string> {
  if (process.arch !== 'x64') return {};
  library ??= compile();
  return { LD_PRELOAD: `${others} ${library}`.trim() };
}
