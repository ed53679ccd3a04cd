/**
 * `npm test`: the host's suites here, the devices' suites inside softrdma (or on this machine's own devices), one
 * total at the end. Arguments: `--device host`, `--only host|device`, and patterns of test files.
 */
import { Command, Option } from 'commander';
import { buildCoreTests, sanitizers } from './native.ts';
import { type JsonReport, type Project, runVitest } from './vitest.ts';

/** The counts of one suite. */
export interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

/**
 * Counts a report. A file that failed before any of its tests ran counts as one failure, and so does a run that ended
 * badly without saying why: nothing that went wrong may look like success.
 */
export function countReport(report: JsonReport | undefined, status: number): Counts {
  if (!report) return { passed: 0, failed: status === 0 ? 0 : 1, skipped: 0 };
  const broken = report.testResults.filter(
    (file) => file.status === 'failed' && file.assertionResults.length === 0,
  );
  const failed = report.numFailedTests + broken.length;
  return {
    passed: report.numPassedTests,
    failed: failed === 0 && status !== 0 ? 1 : failed,
    skipped: report.numPendingTests + report.numTodoTests,
  };
}

function sum(a: Counts, b: Counts): Counts {
  return { passed: a.passed + b.passed, failed: a.failed + b.failed, skipped: a.skipped + b.skipped };
}

/** The last line of `npm test`. */
export function summary({ passed, failed, skipped }: Counts): string {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`;
}

/**
 * The suites of devices run one after the other, on a machine of soft devices of their own; with two such machines half of
 * them run on either, for most of their time is spent waiting.
 */
const MACHINES = 2;

/** The suite that runs the core's own tests, which have to be built. */
const CORE_TESTS = 'test/device/native/core.test.ts';

function isWanted(file: string, patterns: readonly string[]): boolean {
  return patterns.length === 0 || patterns.some((pattern) => file.includes(pattern));
}

async function runSuite(project: Project, device: string, patterns: readonly string[]): Promise<Counts> {
  if (project === 'device' && isWanted(CORE_TESTS, patterns))
    for (const one of sanitizers) buildCoreTests(one);
  const machines = project === 'device' && device === 'soft' && patterns.length === 0 ? MACHINES : 1;
  const runs = Array.from({ length: machines }, async (_, i) => {
    const shard = machines === 1 ? undefined : `${i + 1}/${machines}`;
    const { report, status } = await runVitest(project, device, patterns, { shard });
    return countReport(report, status);
  });
  return (await Promise.all(runs)).reduce(sum, { passed: 0, failed: 0, skipped: 0 });
}

async function main(patterns: readonly string[], options: { device: string; only?: Project }): Promise<void> {
  let total: Counts = { passed: 0, failed: 0, skipped: 0 };
  for (const project of options.only ? [options.only] : (['host', 'device'] as const)) {
    total = sum(total, await runSuite(project, options.device, patterns));
  }
  process.stdout.write(`${summary(total)}\n`);
  if (total.failed > 0 || total.passed === 0) process.exitCode = 1;
}

if (process.argv[1]?.endsWith('run.js')) {
  await new Command('npm test --')
    .argument('[patterns...]', 'run only test files whose path contains one of these')
    .addOption(
      new Option('--device <where>', 'where the devices are').choices(['soft', 'host']).default('soft'),
    )
    .addOption(new Option('--only <suites>', 'run only these suites').choices(['host', 'device']))
    .action(main)
    .parseAsync();
}
