/** A suite of tests as a whole: run on one machine or shared by several, and counted. */
import { type JsonReport, type Project, runVitest, type VitestOptions } from './vitest.ts';

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

/** A line for every test that passed only when it was tried again: what was wrong the first time. */
export function hiddenFailures(report: JsonReport): string[] {
  return report.testResults
    .flatMap((file) => file.assertionResults)
    .filter(({ status, failureMessages = [] }) => status === 'passed' && failureMessages.length > 0)
    .map(
      ({ fullName, failureMessages }) => `tried again: ${fullName}: ${failureMessages![0]!.split('\n')[0]}`,
    );
}

export function sum(a: Counts, b: Counts): Counts {
  return { passed: a.passed + b.passed, failed: a.failed + b.failed, skipped: a.skipped + b.skipped };
}

export const NONE: Counts = { passed: 0, failed: 0, skipped: 0 };

/** The last line of `npm test`. */
export function summary({ passed, failed, skipped }: Counts): string {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`;
}

/**
 * The suites of devices run one after the other, on a machine of soft devices of their own; with two such machines half of
 * them run on either, for most of their time is spent waiting.
 */
const MACHINES = 2;

/** Runs all suites of [project]. [args] are options and patterns for vitest. */
export async function runWhole(
  project: Project,
  device: string,
  args: readonly string[] = [],
  options: VitestOptions = {},
): Promise<Counts> {
  if (project === 'host' || device === 'host') return await runSome(project, device, args, options);
  const shards = Array.from({ length: MACHINES }, (_, i) =>
    runSome(project, device, args, { ...options, shard: `${i + 1}/${MACHINES}` }),
  );
  return (await Promise.all(shards)).reduce(sum, NONE);
}

/** Runs those suites of [project] whose path contains one of the patterns among [args], on one machine. */
export async function runSome(
  project: Project,
  device: string,
  args: readonly string[],
  options: VitestOptions = {},
): Promise<Counts> {
  const { report, status } = await runVitest(project, device, args, options);
  for (const line of report ? hiddenFailures(report) : []) process.stdout.write(`${line}\n`);
  return countReport(report, status);
}
