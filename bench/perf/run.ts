/** Our program next to its twins in C, on one device: alternating pairs, medians of the ratios. */
import { digits, median } from '../stats.ts';
import { type Cell, isLatency, type Outcome, type Test } from './options.ts';
import { runNode, runTwin, type Target, type Twin, twinsOf } from './programs.ts';

/** One comparison. */
export interface PerfResult {
  readonly device: string;
  readonly cell: Cell;
  /** The fastest of those in C. */
  readonly twin: string;
  /** What each of those in C came to, once. */
  readonly twins: Readonly<Record<string, number>>;
  readonly unit: 'MB/s' | 'messages/s' | 'µs';
  /** One of each pair, in order. */
  readonly node: readonly number[];
  readonly c: readonly number[];
  /** Median of the pairs' ratios, Node to C. */
  readonly ratio: number;
  /** Node's best run to that of C: what is left when runs differ by the turns that the scheduler takes. */
  readonly bestRatio: number;
  readonly target: string;
  /** Undefined when there is no target. */
  readonly met: boolean | undefined;
  /** Why there are no figures. */
  readonly failure?: string;
}

const KiB = 1024;
const MiB = 1024 * KiB;

function bandwidth(test: Test, size: number, list: number, iterations: number): Cell {
  // As perftest has it: moderation is for messages up to 8 KiB, and one of a list is signalled.
  const moderation = size > 8 * KiB ? 1 : Math.max(list, 32);
  return { test, size, iterations, depth: 128, list, moderation };
}

/** What is compared; [quick] leaves out all but one of a kind. */
export function cells(quick: boolean): Cell[] {
  const tests: Test[] = quick ? ['write_bw'] : ['write_bw', 'read_bw', 'send_bw'];
  const streams = tests.flatMap((test) => [
    bandwidth(test, MiB, 1, 48),
    bandwidth(test, 64 * KiB, 1, 512),
    ...(quick ? [] : [bandwidth(test, 4 * KiB, 1, 8192)]),
    bandwidth(test, 64, 1, 16_384),
    bandwidth(test, 64, 32, 32_768),
  ]);
  const latency = (test: Test): Cell => ({
    test,
    size: 64,
    iterations: 1000,
    depth: 16,
    list: 1,
    moderation: 1,
  });
  const latencies: Test[] = quick ? ['send_lat', 'event_lat'] : ['send_lat', 'write_lat', 'event_lat'];
  return [...latencies.map(latency), ...streams];
}

function goal({
  test,
  size,
  list,
}: Cell): { readonly text: string; met(ratio: number): boolean } | undefined {
  const atLeast = (limit: number) => ({ text: `≥ ${limit}`, met: (ratio: number) => ratio >= limit });
  const atMost = (limit: number) => ({ text: `≤ ${limit}`, met: (ratio: number) => ratio <= limit });
  if (test === 'send_lat' || test === 'write_lat') return atMost(1.2);
  if (test === 'event_lat') return atMost(1.3);
  if (size >= 64 * KiB) return atLeast(0.95);
  if (size === 64) return atLeast(list === 1 ? 0.8 : 0.9);
  return undefined;
}

function unitOf({ test, size }: Cell): PerfResult['unit'] {
  if (isLatency(test)) return 'µs';
  return size <= 64 ? 'messages/s' : 'MB/s';
}

function figure(unit: PerfResult['unit'], outcome: Outcome): number {
  if (unit === 'µs') return outcome.microseconds;
  return unit === 'MB/s' ? outcome.bytesPerSecond / 1e6 : outcome.messagesPerSecond;
}

/** Runs every twin once; the fastest one, and what each came to. */
async function chooseTwin(target: Target, cell: Cell): Promise<[Twin, Record<string, number>]> {
  const unit = unitOf(cell);
  const found: Record<string, number> = {};
  let best: { readonly twin: Twin; readonly rate: number } | undefined;
  let failure: unknown;
  for (const twin of twinsOf(target, cell)) {
    try {
      const outcome = await runTwin(target, twin);
      found[twin.name] = figure(unit, outcome);
      if (best === undefined || outcome.messagesPerSecond > best.rate) {
        best = { twin, rate: outcome.messagesPerSecond };
      }
    } catch (error) {
      failure = error;
    }
  }
  if (best === undefined) throw failure;
  return [best.twin, found];
}

/** Measures [cell] in [pairs] alternating pairs, ours first in every other one. */
export async function compare(target: Target, cell: Cell, pairs: number): Promise<PerfResult> {
  const unit = unitOf(cell);
  const node: number[] = [];
  const c: number[] = [];
  const aim = goal(cell);
  let common = { device: target.device, cell, twin: '', twins: {}, unit, target: aim?.text ?? '' };
  try {
    const [twin, twins] = await chooseTwin(target, cell);
    common = { ...common, twin: twin.name, twins };
    for (let pair = 0; pair < pairs; pair += 1) {
      const ours = async (): Promise<unknown> => node.push(figure(unit, await runNode(target, cell)));
      const theirs = async (): Promise<unknown> => c.push(figure(unit, await runTwin(target, twin)));
      for (const run of pair % 2 === 0 ? [ours, theirs] : [theirs, ours]) await run();
    }
  } catch (error) {
    const failure = error instanceof Error ? error.message : String(error);
    return {
      ...common,
      node,
      c,
      ratio: Number.NaN,
      bestRatio: Number.NaN,
      met: aim === undefined ? undefined : false,
      failure,
    };
  }
  const ratio = median(node.map((value, i) => value / (c[i] as number)));
  const best = isLatency(cell.test) ? Math.min : Math.max;
  return { ...common, node, c, ratio, bestRatio: best(...node) / best(...c), met: aim?.met(ratio) };
}

/** What a comparison is called. */
export function nameOf({ device, cell }: Pick<PerfResult, 'device' | 'cell'>): string {
  const size =
    cell.size >= MiB
      ? `${cell.size / MiB} MiB`
      : cell.size >= KiB
        ? `${cell.size / KiB} KiB`
        : `${cell.size} B`;
  return `${device} ${cell.test} ${size}${cell.list > 1 ? `, lists of ${cell.list}` : ''}`;
}

/** One line of the table. */
export function describe(result: PerfResult): string {
  const name = nameOf(result).padEnd(38);
  if (result.failure !== undefined) return `${name} ${result.failure.split('\n').slice(0, 3).join(' | ')}`;
  const { node, c, unit, ratio, bestRatio, target, met, twin } = result;
  const verdict = met === undefined ? '' : `  ${target} ${met ? 'met' : 'missed'}`;
  const figures = `${digits(median(node)).padStart(8)} to ${digits(median(c)).padStart(8)} ${unit}`;
  return `${name} ${figures.padEnd(34)} ${digits(ratio).padStart(6)} x ${twin} (best ${digits(bestRatio)})${verdict}`;
}
