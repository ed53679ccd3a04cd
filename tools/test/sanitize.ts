/**
 * `npm run test:sanitize`: the core's own tests with AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer; the
 * suites of host and devices on an addon with the first two; a hunt for leaks. Arguments: patterns of test files, to
 * run those alone.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../softrdma/paths.ts';
import { addressAddon, buildAddressAddon, buildCoreTests, sanitizers } from './native.ts';
import { type Counts, NONE, runSome, runWhole, sum, summary } from './suite.ts';
import type { VitestOptions } from './vitest.ts';

/** What a sanitizer has to say comes here, whichever process or thread it is in. */
const REPORTS = join(packageRoot, '.vitest-results', 'sanitize');
const CORE_TESTS = 'test/device/native/';
const BENCH = 'test/device/bench';
/** Sanitizers make everything slower: a test that hangs is what these are for. */
const PATIENCE = ['--testTimeout=300000', '--hookTimeout=300000'];

function libraryPath(name: string): string {
  return spawnSync('g++', [`-print-file-name=${name}`], { encoding: 'utf8' }).stdout.trim();
}

/**
 * The environment of node with the addon. The runtime has to be the first library of a process, and the standard library
 * be there when it starts, or it does not see exceptions.
 */
function addressEnvironment(leaks: boolean): Record<string, string> {
  const address = [
    `log_path=${REPORTS}/address`,
    `detect_leaks=${leaks ? 1 : 0}`,
    'exitcode=66',
    // In the emulated machine a page that comes back from the host costs more than all checks together.
    'quarantine_size_mb=8',
    'allocator_release_to_os_interval_ms=-1',
    // Frames of a leak's origin: enough to leave the addon, too few to reach through it into node.
    ...(leaks ? ['malloc_context_size=6'] : []),
  ];
  return {
    LD_PRELOAD: `${libraryPath('libasan.so')} ${libraryPath('libstdc++.so')}`,
    ASAN_OPTIONS: address.join(':'),
    UBSAN_OPTIONS: `log_path=${REPORTS}/undefined:print_stacktrace=1:halt_on_error=1`,
    LSAN_OPTIONS: `suppressions=${join(packageRoot, 'tools/test/leaks.supp')}:print_suppressions=0`,
    NODE_RDMA_ADDON: addressAddon,
  };
}

/** The same as a command that what follows is run by. */
function addressCommand(leaks: boolean): string[] {
  return ['env', ...Object.entries(addressEnvironment(leaks)).map(([name, value]) => `${name}=${value}`)];
}

/** Programs of the lifetime tests that make and close everything, run to their natural end with a hunt for leaks. */
function huntLeaks(): Counts {
  const counts: Counts = { ...NONE };
  for (const [device, host] of [
    ['rxe0', '10.0.1.1'],
    ['siw0', '10.0.2.1'],
  ] as const) {
    for (const [program, ...args] of [
      ['closing-orders', device, host, '128'],
      ['cycles', device, host, '20', '200'],
      ['workers', 'terminate', device, host],
    ] as const) {
      const { status } = spawnSync(
        process.execPath,
        [
          join(packageRoot, 'dist/tools/softrdma/cli.js'),
          '--',
          ...addressCommand(true),
          process.execPath,
          '--expose-gc',
          join(packageRoot, `dist/test/device/lifetime/${program}.js`),
          ...args,
        ],
        { cwd: packageRoot, stdio: ['ignore', 'inherit', 'inherit'] },
      );
      if (status === 0) counts.passed += 1;
      else counts.failed += 1;
      process.stdout.write(
        `leaks of ${program} on ${device}: ${status === 0 ? 'none' : `status ${status}`}\n`,
      );
    }
  }
  return counts;
}

/** The devices' machine has an environment of its own. */
const ON_DEVICES: VitestOptions = { prefix: addressCommand(false) };

async function runEverything(): Promise<Counts[]> {
  sanitizers.forEach(buildCoreTests);
  const env = { ...process.env, ...addressEnvironment(false) };
  return [
    // Not with the runtime of another sanitizer in the process.
    await runSome('device', 'soft', [...PATIENCE, CORE_TESTS]),
    // test/softrdma is about the machine, not about the addon.
    await runSome('host', 'soft', [...PATIENCE, 'test/unit/'], { env }),
    huntLeaks(),
    // Nor is a program in C to be measured with one.
    await runWhole(
      'device',
      'soft',
      [...PATIENCE, ...[CORE_TESTS, BENCH].map((path) => `--exclude=${path}**`)],
      ON_DEVICES,
    ),
  ];
}

async function main(patterns: readonly string[]): Promise<void> {
  rmSync(REPORTS, { recursive: true, force: true });
  mkdirSync(REPORTS, { recursive: true });
  buildAddressAddon();
  const counts =
    patterns.length > 0
      ? [await runSome('device', 'soft', [...PATIENCE, ...patterns], ON_DEVICES)]
      : await runEverything();
  const total = counts.reduce(sum, NONE);
  const reports = readdirSync(REPORTS).sort();
  for (const name of reports) {
    process.stdout.write(`\n===== ${name}\n${readFileSync(join(REPORTS, name), 'utf8')}`);
  }
  process.stdout.write(`${summary(total)}; ${reports.length} sanitizer reports\n`);
  if (total.failed > 0 || reports.length > 0 || total.passed === 0) process.exitCode = 1;
}

await main(process.argv.slice(2));
