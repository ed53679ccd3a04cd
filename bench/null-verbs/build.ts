/** Compiles the null device and the C loop over it. */
import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../../tools/softrdma/paths.ts';

/** Where the two programs are. */
export interface NullVerbs {
  /** For LD_PRELOAD. */
  readonly library: string;
  /** The C loop. */
  readonly loop: string;
}

/** Compiles both into build/null-verbs. */
export function buildNullVerbs(): NullVerbs {
  const source = join(packageRoot, 'bench', 'null-verbs');
  const target = join(packageRoot, 'build', 'null-verbs');
  mkdirSync(target, { recursive: true });
  const library = join(target, 'libnull_verbs.so');
  const loop = join(target, 'loop');
  const compile = (...args: string[]): void => {
    execFileSync('cc', ['-O2', '-Wall', '-Wextra', ...args], { stdio: ['ignore', 'inherit', 'inherit'] });
  };
  compile('-fPIC', '-shared', '-o', library, join(source, 'null_verbs.c'));
  compile('-o', loop, join(source, 'loop.c'), '-libverbs');
  return { library, loop };
}
