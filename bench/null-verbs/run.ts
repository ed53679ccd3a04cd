/** The boundary alone: what Node adds to an operation, on a device that costs nothing. Runs on any machine. */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { findPython, NO_PYVERBS } from '../python.ts';
import { digits, median } from '../stats.ts';
import { buildNullVerbs } from './build.ts';

const nodeLoop = fileURLToPath(new URL('loop.js', import.meta.url));

/** Python is no program for dist/, so it stays where it is. */
const pythonLoop = fileURLToPath(new URL('../../../bench/null-verbs/loop.py', import.meta.url));
const PYTHON_COUNT = 200_000;

/** One way to post, with the C loop that it is compared with. */
interface Case {
  readonly name: string;
  readonly way: 'batch' | 'objects' | 'promises';
  readonly list: number;
  readonly every: number;
  /** Nanoseconds that it may take, and how many times the C loop. */
  readonly limit?: { readonly nanoseconds: number; readonly ratio?: number };
}

const cases: readonly Case[] = [
  {
    name: 'batch, lists of 32, all signalled',
    way: 'batch',
    list: 32,
    every: 1,
    limit: { nanoseconds: 80, ratio: 6 },
  },
  {
    name: 'batch, lists of 32, one signalled',
    way: 'batch',
    list: 32,
    every: 32,
    limit: { nanoseconds: 80, ratio: 6 },
  },
  { name: 'batch, lists of 1', way: 'batch', list: 1, every: 1 },
  { name: 'objects, lists of 32', way: 'objects', list: 32, every: 1 },
  { name: 'objects, lists of 1', way: 'objects', list: 1, every: 1 },
  { name: 'promises, 32 in flight', way: 'promises', list: 32, every: 1, limit: { nanoseconds: 1000 } },
  { name: 'promises, one after the other', way: 'promises', list: 1, every: 1 },
];

/** Median costs of one case, in nanoseconds of the processor per operation. */
export interface NullResult {
  readonly name: string;
  readonly node: number;
  readonly c: number;
  /** Median of the ratios of the pairs. */
  readonly ratio: number;
  readonly limit?: Case['limit'];
}

/** Runs a program on the null device; the number that it prints. */
const runner =
  (library: string) =>
  (file: string, args: readonly (string | number)[]): number =>
    Number(
      execFileSync(file, args.map(String), {
        env: { ...process.env, LD_PRELOAD: library },
        encoding: 'utf8',
      }),
    );

/** Measures every case in [pairs] alternating pairs of [seconds] each. */
export function measureNullVerbs(pairs: number, seconds: number): NullResult[] {
  const { library, loop } = buildNullVerbs();
  const run = runner(library);
  return cases.map(({ name, way, list, every, limit }) => {
    const node: number[] = [];
    const c: number[] = [];
    for (let pair = 0; pair < pairs; pair += 1) {
      node.push(run(process.execPath, [nodeLoop, way, list, every, seconds]));
      c.push(run(loop, [list, every, seconds / 3]));
    }
    const ratio = median(node.map((cost, i) => cost / (c[i] as number)));
    const result = { name, node: median(node), c: median(c), ratio };
    return limit === undefined ? result : { ...result, limit };
  });
}

/** Costs of pyverbs and of a batch (lists of 32, all signalled), and how many times as much pyverbs takes: medians. */
export interface PyverbsResult {
  readonly node: number;
  readonly pyverbs: number;
  readonly ratio: number;
}

/** Measures both in [pairs] alternating pairs; undefined where there is no pyverbs. */
export function measurePyverbs(pairs: number, seconds: number): PyverbsResult | undefined {
  const python = findPython();
  if (python === undefined) return undefined;
  const run = runner(buildNullVerbs().library);
  const node: number[] = [];
  const pyverbs: number[] = [];
  for (let pair = 0; pair < pairs; pair += 1) {
    node.push(run(process.execPath, [nodeLoop, 'batch', 32, 1, seconds]));
    pyverbs.push(run(python, [pythonLoop, PYTHON_COUNT]));
  }
  const ratio = median(pyverbs.map((cost, i) => cost / (node[i] as number)));
  return { node: median(node), pyverbs: median(pyverbs), ratio };
}

/** The result as a line of text. */
export function describePyverbs(result: PyverbsResult | undefined): string {
  if (result === undefined) return `  ${NO_PYVERBS}`;
  const { node, pyverbs, ratio } = result;
  const name = 'pyverbs, one work request again'.padEnd(36);
  return `  ${name} ${digits(pyverbs).padStart(6)} ns, ${digits(ratio)} x a batch of ${digits(node)} ns  (at least 10 x)`;
}

/** The results as lines of text. */
export function describeNullVerbs(results: readonly NullResult[]): string {
  const lines = results.map(({ name, node, c, ratio, limit }) => {
    const wanted = [
      limit === undefined ? [] : [`at most ${limit.nanoseconds} ns`],
      limit?.ratio === undefined ? [] : [`${limit.ratio} x C`],
    ].flat();
    const figures = `${digits(node).padStart(6)} ns  C ${digits(c).padStart(5)} ns  ${digits(ratio).padStart(5)} x C`;
    return `  ${name.padEnd(36)} ${figures}${wanted.length > 0 ? `  (${wanted.join(', ')})` : ''}`;
  });
  return ['null device: processor time per operation, post and completion', ...lines].join('\n');
}
