/** The boundary alone: what Node adds to an operation, on a device that costs nothing. Runs on any machine. */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { digits, median } from '../stats.ts';
import { buildNullVerbs } from './build.ts';

const nodeLoop = fileURLToPath(new URL('loop.js', import.meta.url));

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

/** Measures every case in [pairs] alternating pairs of [seconds] each. */
export function measureNullVerbs(pairs: number, seconds: number): NullResult[] {
  const { library, loop } = buildNullVerbs();
  const env = { ...process.env, LD_PRELOAD: library };
  const run = (file: string, args: readonly (string | number)[]): number =>
    Number(execFileSync(file, args.map(String), { env, encoding: 'utf8' }));
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
