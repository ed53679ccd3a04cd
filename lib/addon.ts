/**
 * Loads the native addon. The only file that knows where the binary is and what it exports.
 */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { RdmaError, systemError } from './errors.ts';
import { layout, POST_STATUS_WORDS } from './layout.ts';
import type { Addon } from './native/index.ts';

export type * from './native/index.ts';

/** The directory that holds package.json: the package's root, from lib/ as well as from dist/lib/. */
function packageRoot(): string {
  let directory = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(directory, 'package.json'))) directory = dirname(directory);
  return directory;
}

/** Says in words why the binary did not load. @internal */
export function explainLoadFailure(error: Error): RdmaError {
  const library = /(lib(?:ibverbs|rdmacm)\.so\.\d+): cannot open shared object/.exec(error.message)?.[1];
  const hints: string[] = [];
  if (library !== undefined) {
    const names = library.startsWith('libibverbs') ? 'libibverbs1' : 'librdmacm1';
    hints.push(
      `the RDMA library ${library} is missing: install the package ${names} ` +
        '(Debian, Ubuntu: apt-get install libibverbs1 librdmacm1 ibverbs-providers; Fedora: dnf install libibverbs librdmacm)',
    );
  } else if (/No native build was found|Cannot find module|no such file/i.test(error.message)) {
    hints.push('there is no native addon for this platform: run `npm run build` in the package directory');
  } else if (/GLIBC|GLIBCXX|CXXABI/.test(error.message)) {
    hints.push(
      'the C library of this system is older than the one the addon was built with: run `npm run build`',
    );
  }
  const text = hints.length > 0 ? hints.join('; ') : error.message;
  return new RdmaError('ERR_RDMA_ADDON', `node-rdma could not load its native addon: ${text}`, {
    syscall: 'dlopen',
    cause: error,
  });
}

/** Loads the addon at [path]. @internal */
export function loadAddon(path?: string): Addon {
  const require = createRequire(import.meta.url);
  const { path: find } = require('node-gyp-build') as { path(directory: string): string };
  let loaded: Addon;
  try {
    loaded = require(path ?? process.env.NODE_RDMA_ADDON ?? find(packageRoot())) as Addon;
  } catch (error) {
    throw explainLoadFailure(error as Error);
  }
  if (JSON.stringify(loaded.layout) !== JSON.stringify(layout)) {
    throw new RdmaError(
      'ERR_RDMA_ADDON',
      'node-rdma: the native addon was built from other sources than this JavaScript: run `npm run build`',
    );
  }
  return loaded;
}

/** What the last failed post said, shared with the addon. @internal */
export const postStatus = new Uint32Array(new SharedArrayBuffer(POST_STATUS_WORDS * 4));

/** @internal */
export const addon: Addon = loadAddon();
addon.initialise(systemError, postStatus);

/** How many native objects of this thread are open; for tests and leak hunts. */
export function liveObjects(): number {
  return addon.liveObjects();
}
