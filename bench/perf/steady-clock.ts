/** Compiles the clock that perftest is given. */
import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../../tools/softrdma/paths.ts';

const target = join(packageRoot, 'build', 'perf', 'libsteady_clock.so');

/** What perftest is to be run with; nothing where the cycle counter is another than x86's. */
export function steadyClockEnv(): Record<string, string> {
  return process.arch === 'x64' ? { LD_PRELOAD: target } : {};
}

/** To be called once, before programs are run. */
export function buildSteadyClock(): void {
  if (process.arch !== 'x64') return;
  mkdirSync(join(target, '..'), { recursive: true });
  const source = join(packageRoot, 'bench', 'perf', 'steady_clock.c');
  execFileSync('cc', ['-O2', '-Wall', '-Wextra', '-fPIC', '-shared', '-o', target, source]);
}
