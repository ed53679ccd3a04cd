/** A suite of tests as a whole: run on one machine or shared by several, and counted. */
import { relative } from 'node:path';
import { packageRoot } from '../softrdma/paths.ts';
import { type JsonReport, type Project, runVitest, type VitestOptions } from './vitest.ts';

/** The counts of one suite. */
export interface Counts {
  passed: number;
  failed: number;
  skipped: number;
  /** A line for everything that failed, and for every test that passed only when it was tried again: what was wrong. */
  readonly notes: readonly string[];
}

/** Whether a file failed before any of its tests was decided. */
const isBroken = ({ status, assertionResults }: JsonReport['testResults'][number]): boolean =>
  status === 'failed' && !assertionResults.some((test) => test.status === 'failed');

/**
 * Counts a report. A file that failed before any of its tests ran counts as one failure, and so does a run that ended
 * badly without saying why: nothing that went wrong may look like success.
 */
export function countReport(report: JsonReport | undefined, status: number): Counts {
  if (!report) return { ...NONE, failed: status === 0 ? 0 : 1 };
  const failed = report.numFailedTests + report.testResults.filter(isBroken).length;
  return {
    passed: report.numPassedTests,
    failed: failed === 0 && status !== 0 ? 1 : failed,
    skipped: report.numPendingTests + report.numTodoTests,
    notes: notes(report),
  };
}

const firstLine = (message = ''): string => message.split('\n')[0]!;

function notes({ testResults }: JsonReport): string[] {
  const broken = testResults
    .filter(isBroken)
    .map(({ name, message }) => `failed: ${relative(packageRoot, name)}: ${firstLine(message)}`);
  const tests = testResults
    .flatMap((file) => file.assertionResults)
    .filter(({ failureMessages = [] }) => failureMessages.length > 0)
    .map(
      ({ fullName, status, failureMessages }) =>
        `${status === 'passed' ? 'tried again' : status}: ${fullName}: ${firstLine(failureMessages![0])}`,
    );
  return [...broken, ...tests];
}

export function sum(a: Counts, b: Counts): Counts {
  return {
    passed: a.passed + b.passed,
    failed: a.failed + b.failed,
    skipped: a.skipped + b.skipped,
    notes: [...a.notes, ...b.notes],
  };
}

export const NONE: Counts = { passed: 0, failed: 0, skipped: 0, notes: [] };

/** The last lines of `npm test`: what went wrong, and the total. */
export function summary({ passed, failed, skipped, notes }: Counts): string {
  const total = `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`;
  return [...notes, total].join('\n');
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
  return countReport(report, status);
}
