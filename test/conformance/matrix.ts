/** The matrix case x device: what is expected (expected.json), and how it is told (docs/conformance.md). */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Baseline, type Case, cases } from './cases.ts';

/** The devices that the suite runs on. */
export const deviceNames = ['rxe0', 'siw0'] as const;

export type DeviceName = (typeof deviceNames)[number];

/** How a case can end on a device, besides failing. */
export type Verdict = 'pass' | 'absent' | 'not applicable';

/** How a case ended; `why` tells it for what is not a pass. */
export interface Outcome {
  readonly verdict: Verdict;
  readonly why?: string;
}

/** Outcomes by case and device. */
export type Matrix = Record<string, Partial<Record<DeviceName, Outcome>>>;

/** A case with its id, `file.Class.name`. */
export interface ListedCase {
  readonly id: string;
  readonly baseline: Baseline;
  readonly about: string;
}

/** All cases, in the order of the table. */
export function listCases(): ListedCase[] {
  const files: Record<string, Record<string, Record<string, Case>>> = cases;
  return Object.entries(files).flatMap(([file, classes]) =>
    Object.entries(classes).flatMap(([type, entries]) =>
      Object.entries(entries).map(([name, [baseline, about]]) => ({
        id: `${file}.${type}.${name}`,
        baseline,
        about,
      })),
    ),
  );
}

/** Where the expected outcomes are, from the package's root. */
export const EXPECTED = 'test/conformance/expected.json';
/** Where the matrix is told, from the package's root. */
export const DOCUMENT = 'docs/conformance.md';

export function readExpected(root: string): Matrix {
  return JSON.parse(readFileSync(join(root, EXPECTED), 'utf8')) as Matrix;
}

/** What is wrong with [outcome] when [expected] is on record; undefined when they agree. */
export function difference(
  id: string,
  device: DeviceName,
  outcome: Outcome,
  expected: Outcome | undefined,
): string | undefined {
  if (expected?.verdict === outcome.verdict) return undefined;
  const text = ({ verdict, why }: Outcome) => (why === undefined ? `"${verdict}"` : `"${verdict}" (${why})`);
  const before = expected === undefined ? 'is not on record' : `is on record as ${text(expected)}`;
  return (
    `conformance: ${id} on ${device} ended as ${text(outcome)}, but ${before}. ` +
    'If that is right, record it: npm run conformance -- --update'
  );
}

const passesForPyverbs: Record<Baseline, Record<DeviceName, string>> = {
  both: { rxe0: 'pass', siw0: 'pass' },
  rxe: { rxe0: 'pass', siw0: '' },
  none: { rxe0: '', siw0: '' },
  newer: { rxe0: 'newer', siw0: 'newer' },
  ours: { rxe0: 'none', siw0: 'none' },
};

const cells: Record<Verdict, string> = { pass: '**pass**', absent: 'absent', 'not applicable': 'n/a' };

function count(list: readonly ListedCase[], matrix: Matrix, device: DeviceName, verdict: Verdict): number {
  return list.filter(({ id }) => matrix[id]?.[device]?.verdict === verdict).length;
}

function totals(title: string, list: readonly ListedCase[], matrix: Matrix): string[] {
  return deviceNames.map((device) => {
    const pyverbs = list.filter(({ baseline }) => passesForPyverbs[baseline][device] === 'pass').length;
    const [pass, absent, other] = (['pass', 'absent', 'not applicable'] as const).map((verdict) =>
      count(list, matrix, device, verdict),
    );
    return `| ${title} | ${device} | ${list.length} | ${pass} | ${absent} | ${other} | ${pyverbs} |`;
  });
}

function section(title: string, list: readonly ListedCase[], matrix: Matrix, notes: Map<string, number>) {
  const cell = (id: string, device: DeviceName) => {
    const outcome = matrix[id]?.[device];
    if (outcome === undefined) return '?';
    if (outcome.why === undefined) return cells[outcome.verdict];
    if (!notes.has(outcome.why)) notes.set(outcome.why, notes.size + 1);
    return `${cells[outcome.verdict]} (${notes.get(outcome.why)})`;
  };
  const rows = list.map(({ id, baseline, about }) => {
    const name = id.slice(id.indexOf('.') + 1);
    const theirs = deviceNames.map((device) => passesForPyverbs[baseline][device]).join(' / ');
    const shown = { both: 'pass / pass', rxe: 'pass / –', none: '– / –', newer: 'newer', ours: '' }[baseline];
    return `| ${name} | ${about} | ${cell(id, 'rxe0')} | ${cell(id, 'siw0')} | ${theirs === '' ? '' : shown} |`;
  });
  return [
    `### ${title}`,
    '',
    '| case | what it checks | rxe0 | siw0 | pyverbs 44 |',
    '| --- | --- | --- | --- | --- |',
    ...rows,
    '',
  ];
}

const INTRODUCTION = `# Conformance

Every case of pyverbs' own test suite that belongs to no provider (rdma-core, \`tests/test_*.py\`: 24 files), written
anew from its intent, and cases that the suite lacks, on Soft-RoCE (rxe0) and on Soft-iWARP (siw0). This page is written
by \`npm run conformance -- --update\`; \`npm test\` fails when a case ends otherwise than it says here.

A case ends on a device as one of:

- **pass**: the bytes, statuses and errors are as they should be;
- absent: the device, its provider or rdma-core 44 lacks the capability, and the library says so, by \`device.caps\` or by
  an error that the test asserts: never a crash, a hang or a silent success;
- n/a: the case is about something that this library or rdma-core 44 does not have at all.

The numbers in brackets lead to the reasons at the end of the page. The last column is pyverbs 44 itself in the same
kernel, on rxe0 / siw0; "newer" are cases that came to pyverbs after rdma-core 44. pyverbs' rdma_cm cases skip on both
devices because its harness finds no network interface; here they run.
`;

/** The text of docs/conformance.md. */
export function render(matrix: Matrix): string {
  const all = listCases();
  const theirs = all.filter(({ baseline }) => baseline !== 'ours');
  const ours = all.filter(({ baseline }) => baseline === 'ours');
  const notes = new Map<string, number>();
  const files = [...new Set(theirs.map(({ id }) => id.slice(0, id.indexOf('.'))))];
  const sections = files.flatMap((file) =>
    section(
      file,
      theirs.filter(({ id }) => id.startsWith(`${file}.`)),
      matrix,
      notes,
    ),
  );
  const beyond = section('What pyverbs lacks', ours, matrix, notes);
  const lines = [
    INTRODUCTION,
    '## Totals',
    '',
    '| cases | device | cases | pass | absent | n/a | pyverbs 44 passes |',
    '| --- | --- | --- | --- | --- | --- | --- |',
    ...totals('of pyverbs', theirs, matrix),
    ...totals('ours', ours, matrix),
    '',
    '## Cases',
    '',
    ...sections,
    ...beyond,
    '## Reasons',
    '',
    ...[...notes].map(([why, number]) => `${number}. ${why}`),
    '',
  ];
  return lines.join('\n');
}
