/** The kernels that are there already. A kernel's file name says all: `linux-<version>-<configuration hash>`. */
import { createHash } from 'node:crypto';
import { accessSync, constants, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { asset } from '../paths.ts';
import { RECIPE } from './build.ts';

/** Identifies how the kernel is configured and built, in 12 hexadecimal digits: another hash, another kernel. */
export function configHash(): string {
  return createHash('sha256')
    .update(readFileSync(asset('soft.config')))
    .update(RECIPE)
    .digest('hex')
    .slice(0, 12);
}

/** The file that a kernel of this version is kept in. */
export function kernelPath(cache: string, version: string): string {
  return join(cache, `linux-${version}-${configHash()}`);
}

/** The newest kernel of today's configuration in the cache. Needs no network: whatever version is there will do. */
export function cachedKernel(cache: string): string | undefined {
  const suffix = `-${configHash()}`;
  let names: string[] = [];
  try {
    names = readdirSync(cache);
  } catch {
    return undefined;
  }
  const newest = names
    .filter((name) => name.startsWith('linux-') && name.endsWith(suffix) && isProgram(join(cache, name)))
    .sort((a, b) => a.localeCompare(b, 'en', { numeric: true }))
    .at(-1);
  return newest && join(cache, newest);
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
