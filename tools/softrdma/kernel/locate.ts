/** Finds a kernel to run: the one that the user names, a cached one, or one built now. */
import {
  accessSync,
  chmodSync,
  constants,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
} from 'node:fs';
import { join } from 'node:path';
import { ensurePackages, installCommand, KERNEL, missing } from '../../setup/packages.mjs';
import { SoftRdmaError } from '../errors.ts';
import { ensureHelper } from '../helper.ts';
import { cacheDir } from '../paths.ts';
import { type Builder, buildKernel } from './build.ts';
import { cachedKernel, kernelPath } from './cache.ts';
import { withLock } from './lock.ts';
import { type Progress, terminalProgress } from './progress.ts';
import { debianSource, type FetchedSource, type KernelSource, kernelOrgSource } from './source.ts';
import { Steps } from './step.ts';

/** What `ensureKernel` works with; the defaults are the real ones. */
export interface LocateOptions {
  cache?: string;
  env?: NodeJS.ProcessEnv;
  platform?: string;
  arch?: string;
  sources?: readonly KernelSource[];
  build?: Builder;
  /** Makes sure that the programs for a build are there, or throws. */
  tools?: (say: (line: string) => void) => void;
  progress?: Progress;
}

const BUILD_PREFIX = 'build-';

/** The kernel named by `NODE_RDMA_SOFT_KERNEL`, if any. Throws `ERR_SOFTRDMA_ARGUMENT` when it cannot be run. */
export function namedKernel(env: NodeJS.ProcessEnv = process.env): string | undefined {
  const path = env.NODE_RDMA_SOFT_KERNEL;
  if (!path) return undefined;
  try {
    accessSync(path, constants.X_OK);
  } catch (cause) {
    const message = `NODE_RDMA_SOFT_KERNEL is ${path}, which is not a program that can be run. Unset it to have a kernel built.`;
    throw new SoftRdmaError('ERR_SOFTRDMA_ARGUMENT', message, { cause });
  }
  return path;
}

/** Whether `ensureKernel` will find a kernel without building one. */
export function hasKernel(): boolean {
  return !!namedKernel() || !!cachedKernel(cacheDir());
}

function checkHost(platform: string, arch: string): void {
  if (platform === 'linux' && arch === 'x64') return;
  throw new SoftRdmaError(
    'ERR_SOFTRDMA_HOST',
    `softrdma runs a User-mode Linux kernel, which needs an x86-64 Linux host; this is ${arch} ${platform}. ` +
      'Use a machine with RDMA devices of its own and --device host.',
  );
}

function checkTools(say: (line: string) => void): void {
  try {
    ensurePackages(KERNEL, say);
  } catch (cause) {
    const { message } = cause as Error;
    const hint = missing(KERNEL).length > 0 ? ` On Debian: ${installCommand(missing(KERNEL))}` : '';
    const text = `cannot build the soft-RDMA kernel: ${message}${message.includes('apt-get') ? '' : hint}`;
    throw new SoftRdmaError('ERR_SOFTRDMA_TOOLS', text, { cause });
  }
}

/**
 * The path of a kernel: `NODE_RDMA_SOFT_KERNEL`, else the newest in the cache, else one fetched and built now, which
 * takes minutes and shows its progress. Any number of callers and processes may ask at once: one builds.
 *
 * @throws SoftRdmaError `ERR_SOFTRDMA_HOST`, `_ARGUMENT`, `_TOOLS`, `_SOURCE` or `_BUILD`.
 */
export async function ensureKernel(options: LocateOptions = {}): Promise<string> {
  checkHost(options.platform ?? process.platform, options.arch ?? process.arch);
  const cache = options.cache ?? cacheDir();
  const ready = namedKernel(options.env) ?? cachedKernel(cache);
  if (ready) return ready;
  const progress = options.progress ?? terminalProgress();
  try {
    (options.tools ?? checkTools)((line) => progress.say(line));
    mkdirSync(cache, { recursive: true });
    const helper = await ensureHelper(cache);
    const wait = () => progress.say('another run is building the kernel; waiting for it');
    return await withLock(helper, join(cache, 'lock'), wait, async () => {
      // The one that was waited for may have made it.
      return cachedKernel(cache) ?? (await buildInto(cache, options, progress));
    });
  } finally {
    progress.end();
  }
}

/** Fetches and builds, with the lock held. The kernel appears in the cache whole or not at all. */
async function buildInto(cache: string, options: LocateOptions, progress: Progress): Promise<string> {
  // Nobody else builds now, so what is there was left by a run that was killed.
  for (const name of readdirSync(cache)) {
    if (name.startsWith(BUILD_PREFIX)) {
      rmSync(join(cache, name), { recursive: true, force: true });
    }
  }
  const work = mkdtempSync(join(cache, BUILD_PREFIX));
  const steps = new Steps(join(cache, 'build.log'));
  const started = Date.now();
  const interrupt = (signal: NodeJS.Signals) => {
    steps.interrupt(signal);
    rmSync(work, { recursive: true, force: true });
    process.off('SIGINT', interrupt).off('SIGTERM', interrupt).off('SIGHUP', interrupt);
    progress.end();
    process.kill(process.pid, signal);
  };
  process.on('SIGINT', interrupt).on('SIGTERM', interrupt).on('SIGHUP', interrupt);
  progress.say(`building the soft-RDMA kernel, once; this takes a few minutes. Log: ${steps.logPath}`);
  try {
    const { version, tarball } = await fetchSource(
      options.sources ?? [debianSource, kernelOrgSource],
      work,
      steps,
      progress,
    );
    const kernel = await (options.build ?? buildKernel)(tarball, work, steps, (stage, fraction) =>
      progress.report(stage, fraction),
    );
    chmodSync(kernel, 0o755);
    const path = kernelPath(cache, version);
    renameSync(kernel, path);
    progress.say(`built Linux ${version} in ${Math.round((Date.now() - started) / 1000)} s: ${path}`);
    return path;
  } finally {
    process.off('SIGINT', interrupt).off('SIGTERM', interrupt).off('SIGHUP', interrupt);
    rmSync(work, { recursive: true, force: true });
    await steps.end();
  }
}

async function fetchSource(
  sources: readonly KernelSource[],
  work: string,
  steps: Steps,
  progress: Progress,
): Promise<FetchedSource> {
  const failures: string[] = [];
  for (const source of sources) {
    try {
      progress.report('fetching', 0);
      return await source.fetch(work, steps, (fraction) => progress.report('fetching', fraction));
    } catch (error) {
      failures.push(`  ${source.name}: ${(error as Error).message}`);
    }
  }
  throw new SoftRdmaError(
    'ERR_SOFTRDMA_SOURCE',
    `could not fetch the kernel's source from anywhere:\n${failures.join('\n')}\n` +
      'Allow one of these, or build a kernel elsewhere (docs/softrdma.md) and set NODE_RDMA_SOFT_KERNEL to it.',
  );
}
