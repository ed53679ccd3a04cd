/** Builds native code for tests: the core's own tests, and the addon with sanitizers. */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { ensurePackages, TEST } from '../setup/packages.mjs';
import { headersDir } from '../setup/setup.mjs';
import { packageRoot } from '../softrdma/paths.ts';

/** AddressSanitizer with UndefinedBehaviorSanitizer, or ThreadSanitizer, or none. */
export type Sanitizer = 'plain' | 'address' | 'thread';

export const sanitizers: readonly Sanitizer[] = ['plain', 'address', 'thread'];

/** The program of the core's own tests. */
export const coreTests = (sanitizer: Sanitizer): string =>
  join(packageRoot, 'build/native', sanitizer, 'core-tests');

/** The addon that {@link buildAddressAddon} builds. */
export const addressAddon = join(packageRoot, 'build/address/node_rdma.node');

function say(line: string): void {
  process.stderr.write(`test: ${line}\n`);
}

function cmake(args: readonly string[]): void {
  const result = spawnSync('cmake', args, {
    cwd: packageRoot,
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
  });
  if (result.status === 0) return;
  process.stderr.write(`${result.stdout ?? ''}${result.stderr ?? ''}`);
  throw new Error(`cmake ${args.join(' ')} failed: ${result.error?.message ?? `status ${result.status}`}`);
}

function build(source: string, directory: string, options: readonly string[]): void {
  ensurePackages(TEST, say);
  cmake(['-S', source, '-B', directory, ...options]);
  cmake(['--build', directory, '--parallel']);
}

/** Builds the core's own tests; what is up to date is not built again. */
export function buildCoreTests(sanitizer: Sanitizer): void {
  say(`building the core's tests: ${sanitizer}`);
  const option = sanitizer === 'plain' ? '' : sanitizer;
  build('test/native', `build/native/${sanitizer}`, [`-DSANITIZE=${option}`]);
}

/** Where Node.js's headers are: it came with them, or node-gyp has downloaded them to build the addon. */
function nodeHeaders(): string {
  const prefix = headersDir();
  if (prefix !== undefined) return join(prefix, 'include/node');
  const cache = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'node-gyp');
  const headers = join(cache, process.versions.node, 'include/node');
  if (!existsSync(headers))
    throw new Error(`there are no headers of Node.js in ${headers}: run npm run build`);
  return headers;
}

/** Builds the addon with AddressSanitizer and UndefinedBehaviorSanitizer. */
export function buildAddressAddon(): void {
  say('building the addon with AddressSanitizer and UndefinedBehaviorSanitizer');
  build('.', 'build/address', [
    '-DSANITIZE=address',
    '-DCMAKE_CXX_FLAGS=-O1 -g1',
    `-DCMAKE_JS_INC=${nodeHeaders()}`,
  ]);
}
