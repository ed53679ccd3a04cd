/** Runs vitest: the host's suites here, the devices' inside softrdma or on this machine's own devices. */
import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../softrdma/paths.ts';

/** A project of vitest.config.ts. */
export type Project = 'host' | 'device';

/** What is used of the report of vitest's json reporter. */
export interface JsonReport {
  numPassedTests: number;
  numFailedTests: number;
  numPendingTests: number;
  numTodoTests: number;
  testResults: { name: string; status: string; message: string; assertionResults: TestReport[] }[];
}

/** What is used of the report on one test. */
export interface TestReport {
  fullName: string;
  status: string;
  meta: unknown;
  /** Why it failed; of a test that passed: why it had to be tried again. */
  failureMessages?: string[];
}

/** Options of {@link runVitest}. */
export interface VitestOptions {
  readonly env?: NodeJS.ProcessEnv | undefined;
  /** What comes before the command that runs the devices' suites, such as env(1). */
  readonly prefix?: readonly string[] | undefined;
  /** Which part of the files, of how many: '1/2'. */
  readonly shard?: string | undefined;
}

const RESULTS = join(packageRoot, '.vitest-results');

/**
 * Runs the suites of [project] whose path contains one of [patterns].
 *
 * @param device 'soft' or 'host': where the devices are
 * @returns no report when vitest itself, or the machine, did not get as far
 */
export async function runVitest(
  project: Project,
  device: string,
  patterns: readonly string[],
  { env = process.env, prefix = [], shard }: VitestOptions = {},
): Promise<{ report: JsonReport | undefined; status: number }> {
  mkdirSync(RESULTS, { recursive: true });
  const part = shard === undefined ? '' : `-${shard.replace('/', '-of-')}`;
  const file = join(RESULTS, `${project}${part}.json`);
  rmSync(file, { force: true });
  const vitest = [
    join(packageRoot, 'node_modules/vitest/vitest.mjs'),
    ...['run', '--project', project, '--passWithNoTests'],
    ...['--reporter=default', '--reporter=json', `--outputFile.json=${file}`],
    ...(shard === undefined ? [] : [`--shard=${shard}`]),
    ...patterns,
  ];
  const softrdma = [
    join(packageRoot, 'dist/tools/softrdma/cli.js'),
    '--device',
    device,
    '--',
    ...prefix,
    process.execPath,
  ];
  const args = project === 'device' ? [...softrdma, ...vitest] : vitest;
  const child = spawn(process.execPath, args, {
    cwd: packageRoot,
    env,
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  const status = await new Promise<number>((resolve, reject) => {
    child.on('error', reject);
    child.on('exit', (code) => resolve(code ?? 1));
  });
  try {
    return { report: JSON.parse(readFileSync(file, 'utf8')) as JsonReport, status };
  } catch {
    return { report: undefined, status };
  }
}
