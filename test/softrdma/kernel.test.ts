/** Finding and building the kernel, with a source and a builder that take no time. */
import { spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { missing } from '../../tools/setup/packages.mjs';
import { SoftRdmaError } from '../../tools/softrdma/errors.ts';
import type { Builder } from '../../tools/softrdma/kernel/build.ts';
import { cachedKernel, configHash, kernelPath } from '../../tools/softrdma/kernel/cache.ts';
import { ensureKernel, type LocateOptions } from '../../tools/softrdma/kernel/locate.ts';
import { applyPatch } from '../../tools/softrdma/kernel/patches.ts';
import { type Progress, percentDone, terminalProgress } from '../../tools/softrdma/kernel/progress.ts';
import { type KernelSource, kernelOrgSource } from '../../tools/softrdma/kernel/source.ts';
import { Steps } from '../../tools/softrdma/kernel/step.ts';
import { packageRoot } from '../../tools/softrdma/paths.ts';
import { eventually, temporary } from './helpers.ts';

let tmp: ReturnType<typeof temporary>;
let cache: string;
let said: string[];
let built: number;

beforeEach(() => {
  tmp = temporary();
  cache = join(tmp.path, 'cache');
  said = [];
  built = 0;
});
afterEach(() => tmp[Symbol.dispose]());

const progress: Progress = {
  say: (line) => said.push(line),
  report: (stage, fraction) => said.push(`${stage} ${percentDone(stage, fraction)}`),
  end: () => {},
};

const source: KernelSource = {
  name: 'stub',
  fetch: async (work) => {
    writeFileSync(join(work, 'tarball'), 'source');
    return { version: '7.2.99', tarball: join(work, 'tarball') };
  },
};

const build: Builder = async (tarball, work, _steps, report) => {
  built++;
  report('building', 0.5);
  writeFileSync(join(work, 'linux'), `kernel from ${readFileSync(tarball, 'utf8')}`);
  return join(work, 'linux');
};

function locate(more: LocateOptions = {}): Promise<string> {
  return ensureKernel({ cache, env: {}, sources: [source], build, tools: () => {}, progress, ...more });
}

function program(path: string, text = ''): string {
  writeFileSync(path, text);
  chmodSync(path, 0o755);
  return path;
}

describe('a kernel', () => {
  it('is built into an empty cache, which then holds it and no leftovers', async () => {
    const path = await locate();
    expect(path).toBe(join(cache, `linux-7.2.99-${configHash()}`));
    expect(readFileSync(path, 'utf8')).toBe('kernel from source');
    expect(readdirSync(cache).filter((name) => name.startsWith('build-'))).toEqual([]);
    expect(said).toEqual([
      expect.stringContaining('building the soft-RDMA kernel, once'),
      'fetching 0',
      'building 55',
      expect.stringMatching(/^built Linux 7\.2\.99 in \d+ s/),
    ]);
  });

  it('in the cache is used as it is: nothing is fetched, checked or said', async () => {
    const path = await locate();
    said = [];
    const never = () => {
      throw new Error('not wanted');
    };
    expect(await locate({ sources: [{ name: 'none', fetch: never }], tools: never, build: never })).toBe(
      path,
    );
    expect(said).toEqual([]);
    expect(built).toBe(1);
  });

  it('of the newest version and of this configuration is taken', async () => {
    mkdirSync(cache);
    for (const version of ['7.2.9', '7.2.10', '7.1.30']) program(kernelPath(cache, version));
    program(join(cache, 'linux-7.9.0-000000000000'));
    writeFileSync(kernelPath(cache, '7.3.0'), 'not executable: not finished');
    expect(cachedKernel(cache)).toBe(kernelPath(cache, '7.2.10'));
  });

  it('is built once by many who ask at once; the others wait, and say so', async () => {
    const slow: Builder = async (...args) => {
      // Not done before the others have come to the lock, however slow they are.
      await eventually(() => waiting() === 2, 20_000);
      return build(...args);
    };
    const waiting = () => said.filter((line) => line.includes('waiting for it')).length;
    const paths = await Promise.all([1, 2, 3].map(() => locate({ build: slow })));
    expect(new Set(paths).size).toBe(1);
    expect(built).toBe(1);
    expect(waiting()).toBe(2);
  });

  it('named by NODE_RDMA_SOFT_KERNEL is used, or refused when it cannot be run', async () => {
    const kernel = program(join(tmp.path, 'mine'));
    expect(await locate({ env: { NODE_RDMA_SOFT_KERNEL: kernel } })).toBe(kernel);
    const missing = { NODE_RDMA_SOFT_KERNEL: join(tmp.path, 'nowhere') };
    await expect(locate({ env: missing })).rejects.toThrow(
      /NODE_RDMA_SOFT_KERNEL is .*nowhere, which is not/,
    );
    expect(built).toBe(0);
  });
});

describe('a builder that is killed', () => {
  /** A process of its own that builds, says so, and never ends. */
  function stuckBuilder() {
    const script = `
      import { writeFileSync } from 'node:fs';
      const { ensureKernel } = await import(${JSON.stringify(join(packageRoot, 'dist/tools/softrdma/kernel/locate.js'))});
      await ensureKernel({
        cache: ${JSON.stringify(cache)}, env: {}, tools() {},
        sources: [{ name: 'stub', fetch: async (work) => {
          writeFileSync(work + '/half', 'half of a source');
          return { version: '7.2.99', tarball: work + '/half' };
        } }],
        build: (tarball, work, steps) => {
          console.log('building');
          return steps.run('sh', ['-c', 'sleep 1000 & echo $! >${tmp.path}/child; wait']);
        },
      });`;
    return spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
  }

  it('leaves no lock, and what it left of its work is removed by the next', async () => {
    const stuck = stuckBuilder();
    await new Promise((resolve) => stuck.stdout.once('data', resolve));
    const waiting = locate();
    expect(await eventually(() => said.some((line) => line.includes('waiting for it')))).toBe(true);
    const halves = readdirSync(cache).filter((name) => name.startsWith('build-'));
    expect(halves).toHaveLength(1);
    stuck.kill('SIGKILL');
    expect(existsSync(await waiting)).toBe(true);
    expect(built).toBe(1);
    expect(readdirSync(cache).filter((name) => name.startsWith('build-'))).toEqual([]);
    process.kill(Number(readFileSync(join(tmp.path, 'child'), 'utf8')), 'SIGKILL');
  });

  it('by SIGINT ends what it runs and removes its work', async () => {
    const stuck = stuckBuilder();
    await new Promise((resolve) => stuck.stdout.once('data', resolve));
    const child = join(tmp.path, 'child');
    expect(await eventually(() => existsSync(child) && readFileSync(child, 'utf8').length > 1)).toBe(true);
    stuck.kill('SIGINT');
    const [, signal] = await new Promise<[number, string]>((resolve) => {
      stuck.on('exit', (code, by) => resolve([code!, by!]));
    });
    expect(signal).toBe('SIGINT');
    const pid = readFileSync(child, 'utf8').trim();
    expect(
      await eventually(
        () => !existsSync(`/proc/${pid}`) || readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z'),
      ),
    ).toBe(true);
    expect(readdirSync(cache).filter((name) => name.startsWith('build-'))).toEqual([]);
    expect(cachedKernel(cache)).toBeUndefined();
  });
});

describe('the message', () => {
  async function failure(more: LocateOptions): Promise<SoftRdmaError> {
    const error = await locate(more).then(
      () => undefined,
      (reason: unknown) => reason,
    );
    expect(error).toBeInstanceOf(SoftRdmaError);
    return error as SoftRdmaError;
  }

  it.each([
    ['linux', 'arm64'],
    ['darwin', 'x64'],
  ])('on %s %s says that it takes x86-64 Linux, and what else there is', async (platform, arch) => {
    const error = await failure({ platform, arch });
    expect(error.code).toBe('ERR_SOFTRDMA_HOST');
    expect(error.message).toContain(`this is ${arch} ${platform}`);
    expect(error.message).toContain('--device host');
  });

  it('without a source names each that was tried, why it failed, and what to do', async () => {
    const broken = (name: string): KernelSource => ({
      name,
      fetch: () => Promise.reject(new Error(`${name} is unreachable`)),
    });
    const error = await failure({ sources: [broken('first'), broken('second')] });
    expect(error.code).toBe('ERR_SOFTRDMA_SOURCE');
    expect(error.message).toContain('first: first is unreachable');
    expect(error.message).toContain('second: second is unreachable');
    expect(error.message).toContain('NODE_RDMA_SOFT_KERNEL');
    expect(await locate({ sources: [broken('first'), source] })).toContain('7.2.99');
  });

  it('of a failed build has the end of the log and where the log is', async () => {
    const failing: Builder = (_tarball, _work, steps) =>
      steps.run('sh', ['-c', 'echo compiling; echo oh no >&2; exit 2']);
    const error = await failure({ build: failing });
    expect(error.code).toBe('ERR_SOFTRDMA_BUILD');
    expect(error.message).toMatch(/sh failed \(2\)\. Log: .*build\.log/);
    expect(error.message).toContain('oh no');
    expect(readFileSync(join(cache, 'build.log'), 'utf8')).toContain('compiling');
    expect(readdirSync(cache).filter((name) => name.startsWith('build-'))).toEqual([]);
    expect(await locate()).toContain('7.2.99');
  });

  it('without the tools names them, before anything is fetched', async () => {
    const need = [{ name: 'the flux compiler', debian: 'fluxcc', commands: ['fluxcc'] }];
    expect(missing(need)).toEqual(need);
    const tools = () => {
      throw new SoftRdmaError('ERR_SOFTRDMA_TOOLS', 'missing: the flux compiler');
    };
    const fetch = vi.fn(source.fetch);
    expect((await failure({ tools, sources: [{ name: 'stub', fetch }] })).code).toBe('ERR_SOFTRDMA_TOOLS');
    expect(fetch).not.toHaveBeenCalled();
  });

  it('of a source of another kernel leaves out the patches that do not fit, as a whole', () => {
    const patch = {
      name: 'more ticks',
      changes: [
        { file: 'Kconfig', from: 'default 100\n', to: 'default 1000\n' },
        { file: 'Kconfig', from: 'config HZ\n', to: 'config HZ\n\tint\n' },
        { file: 'time.c', from: 'HZ 100', to: 'HZ 1000' },
      ],
    };
    const path = (file: string): string => join(tmp.path, file);
    const kconfig = 'config HZ\n\tdefault 100\n';
    expect(applyPatch(tmp.path, patch)).toBe(false);
    writeFileSync(path('Kconfig'), kconfig);
    expect(applyPatch(tmp.path, patch)).toBe(false);
    writeFileSync(path('time.c'), 'HZ 100, HZ 100');
    expect(applyPatch(tmp.path, patch)).toBe(false);
    expect(readFileSync(path('Kconfig'), 'utf8')).toBe(kconfig);
    writeFileSync(path('time.c'), 'HZ 100');
    expect(applyPatch(tmp.path, patch)).toBe(true);
    expect(readFileSync(path('Kconfig'), 'utf8')).toBe('config HZ\n\tint\n\tdefault 1000\n');
    expect(readFileSync(path('time.c'), 'utf8')).toBe('HZ 1000');
  });
});

describe('the kernel.org tarball', () => {
  const body = 'a tarball';
  const sum = '30b70e8f3c0a0b3d1ee67a2b4f5c5a5f1b9f7b0f4b9d6c1f3b1a7d6e5c4b3a29';
  afterEach(() => {
    vi.unstubAllGlobals();
    vi.unstubAllEnvs();
  });

  async function fetchWith(sums: string): Promise<string> {
    vi.stubGlobal('fetch', async (url: string) => {
      if (url.endsWith('sha256sums.asc')) return new Response(sums);
      return new Response(body, { headers: { 'content-length': String(body.length) } });
    });
    const steps = new Steps(join(tmp.path, 'log'));
    try {
      return (await kernelOrgSource.fetch(tmp.path, steps, () => {})).tarball;
    } finally {
      await steps.end();
    }
  }

  it('is taken when its SHA-256 is the published one, or the given one', async () => {
    const { createHash } = await import('node:crypto');
    const right = createHash('sha256').update(body).digest('hex');
    const tarball = await fetchWith(`${right}  linux-7.2.13.tar.xz\n`);
    expect(readFileSync(tarball, 'utf8')).toBe(body);
    vi.stubEnv('NODE_RDMA_KERNEL_SHA256', right.toUpperCase());
    expect(await fetchWith('')).toBe(tarball);
  });

  it('is refused otherwise', async () => {
    await expect(fetchWith(`${sum}  linux-7.2.13.tar.xz\n`)).rejects.toThrow(`not ${sum}`);
    await expect(fetchWith('')).rejects.toThrow('sha256sums.asc does not list linux-7.2.13.tar.xz');
  });
});

it('progress is plain lines where there is no terminal', () => {
  let text = '';
  const out = { isTTY: false, write: (chunk: string) => (text += chunk) } as unknown as NodeJS.WriteStream;
  const lines = terminalProgress(out);
  for (let i = 0; i <= 100; i++) lines.report('building', i / 100);
  lines.say('done');
  expect(text.split('\n')).toEqual([
    'softrdma: building',
    'softrdma: building 25 %',
    'softrdma: building 50 %',
    'softrdma: building 75 %',
    'softrdma: building 100 %',
    'softrdma: done',
    '',
  ]);
});
