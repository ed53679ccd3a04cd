/** Where things are: the package's own files, and the user's cache. */
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

function findPackageRoot(): string {
  let dir = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(dir, 'package.json'))) dir = dirname(dir);
  return dir;
}

/** The package's root: the same whether this runs from `dist/` or from source. */
export const packageRoot: string = findPackageRoot();

/** A file that is part of softrdma and not TypeScript: the kernel configuration, the guest's script, C source. */
export function asset(...parts: string[]): string {
  return join(packageRoot, 'tools', 'softrdma', ...parts);
}

/** `${XDG_CACHE_HOME:-~/.cache}/node-rdma/softrdma`: kernels and the helper program. Not created here. */
export function cacheDir(env: NodeJS.ProcessEnv = process.env): string {
  const base = env.XDG_CACHE_HOME || join(homedir(), '.cache');
  return join(resolve(base), 'node-rdma', 'softrdma');
}

/**
 * The directory that a command run in `cwd` may write to: the nearest one at or above `cwd` that has a
 * `package.json`, else `cwd` itself. Undefined for `/`, which stays read-only.
 */
export function projectDir(cwd: string): string | undefined {
  for (let dir = resolve(cwd); dir !== '/'; dir = dirname(dir)) {
    if (existsSync(join(dir, 'package.json'))) return dir;
  }
  return resolve(cwd) === '/' ? undefined : resolve(cwd);
}
