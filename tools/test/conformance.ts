/**
 * `npm run conformance`: the conformance suite alone, with its totals. `--update` records what comes out in
 * test/conformance/expected.json and writes docs/conformance.md; what `-t` leaves out stays as it is there.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import {
  DOCUMENT,
  deviceNames,
  EXPECTED,
  listCases,
  type Matrix,
  type Outcome,
  readExpected,
  render,
} from '../../test/conformance/matrix.ts';
import { packageRoot } from '../softrdma/paths.ts';
import { type JsonReport, runVitest } from './vitest.ts';

interface Recorded {
  readonly conformance?: { id: string; device: (typeof deviceNames)[number]; outcome: Outcome };
}

/** The outcomes in a report. */
function outcomesOf(report: JsonReport): Matrix {
  const matrix: Matrix = {};
  for (const { meta } of report.testResults.flatMap((file) => file.assertionResults)) {
    const { conformance } = meta as Recorded;
    if (conformance === undefined) continue; // a test that is no case
    const { id, device, outcome } = conformance;
    matrix[id] = { ...matrix[id], [device]: outcome };
  }
  return matrix;
}

/** What is on record, with [found] in its place, in the order of the table; cases that are no more are dropped. */
function merge(expected: Matrix, found: Matrix): Matrix {
  const ids = listCases().map(({ id }) => id);
  return Object.fromEntries(ids.map((id) => [id, { ...expected[id], ...found[id] }]));
}

async function main(options: { update?: boolean; test?: string }): Promise<void> {
  const update = options.update === true;
  const env = update ? { ...process.env, CONFORMANCE_RECORD: '1' } : process.env;
  const only = options.test === undefined ? [] : ['-t', options.test];
  const { report, status } = await runVitest('device', 'soft', ['test/conformance/', ...only], { env });
  if (report === undefined || status !== 0) {
    process.exitCode = 1;
    if (update) process.stdout.write('Nothing recorded: only what ends without a failure can be.\n');
    return;
  }
  const found = outcomesOf(report);
  for (const device of deviceNames) {
    const verdicts = Object.values(found).map((entry) => entry[device]?.verdict);
    const count = (verdict: string) => verdicts.filter((one) => one === verdict).length;
    const other = count('not applicable');
    process.stdout.write(
      `${device}: ${count('pass')} pass, ${count('absent')} absent, ${other} not applicable\n`,
    );
  }
  if (!update) return;
  const matrix = merge(readExpected(packageRoot), found);
  writeFileSync(join(packageRoot, EXPECTED), `${JSON.stringify(matrix, null, 2)}\n`);
  writeFileSync(join(packageRoot, DOCUMENT), render(matrix));
  process.stdout.write(`${EXPECTED} and ${DOCUMENT} are written.\n`);
}

await new Command('npm run conformance --')
  .option('-t, --test <pattern>', 'run only cases whose name matches, like test_qp')
  .option('--update', 'record the outcomes instead of checking them')
  .action(main)
  .parseAsync();
