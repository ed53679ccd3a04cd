/** Our program next to its twins in C, on one device: alternating pairs, medians of the ratios. */
import { digits, median } from '../stats.ts';
import { type Cell, isLatency, modesOf, type Outcome, type Test } from './options.ts';
import { runNode, runTwin, type Target, twinsOf } from './programs.ts';

/** One comparison. */
export interface PerfResult {
  readonly device: string;
  readonly cell: Cell;
  /** The fastest of our modes. */
  readonly mode: string;
  /** The fastest of those in C. */
  readonly twin: string;
  /** What each of our modes, and each of those in C, came to, once. */
  readonly found: Readonly<Record<string, number>>;
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

/** What is compared on [device]; [quick] leaves out all but one of a kind. */
export function cells(device: string, quick: boolean): Cell[] {
  // Large messages go ten times as fast over siw.
  const large = !quick && device.startsWith('siw') ? 10 : 1;
  // V8 compiles during the first tenth of a second.
  const small = quick ? 1 : 4;
  const tests: Test[] = quick ? ['write_bw'] : ['write_bw', 'read_bw', 'send_bw'];
  const streams = tests.flatMap((test) => [
    bandwidth(test, MiB, 1, 48 * large),
    bandwidth(test, 64 * KiB, 1, 512 * large),
    ...(quick ? [] : [bandwidth(test, 4 * KiB, 1, 8192)]),
    bandwidth(test, 64, 1, 16_384 * small),
    bandwidth(test, 64, 32, 32_768 * small),
  ]);
  const latency = (test: Test): Cell => ({
    test,
    size: 64,
    iterations: 2000,
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

/** One way of doing what a cell says. */
interface Way {
  readonly name: string;
  run(): Promise<Outcome>;
}

/** Runs each of [ways] once, and notes what it came to; the fastest. */
async function fastest(ways: readonly Way[], note: (name: string, outcome: Outcome) => void): Promise<Way> {
  let best: { readonly way: Way; readonly rate: number } | undefined;
  let failure: unknown;
  for (const way of ways) {
    try {
      const outcome = await way.run();
      note(way.name, outcome);
      if (best === undefined || outcome.messagesPerSecond > best.rate) {
        best = { way, rate: outcome.messagesPerSecond };
      }
    } catch (error) {
      failure = error;
    }
  }
  if (best === undefined) throw failure;
  return best.way;
}

/** Measures [cell] in [pairs] alternating pairs, ours first in every other one. */
export async function compare(target: Target, cell: Cell, pairs: number): Promise<PerfResult> {
  const unit = unitOf(cell);
  const node: number[] = [];
  const c: number[] = [];
  const aim = goal(cell);
  const found: Record<string, number> = {};
  let common = { device: target.device, cell, mode: '', twin: '', found, unit, target: aim?.text ?? '' };
  try {
    const note = (name: string, outcome: Outcome): void => {
      found[name] = figure(unit, outcome);
    };
    const modes = modesOf(cell.test).map((name) => ({ name, run: () => runNode(target, cell, name) }));
    const mode = await fastest(modes, note);
    const twins = twinsOf(target, cell).map((twin) => ({
      name: twin.name,
      run: () => runTwin(target, twin),
    }));
    const twin = await fastest(twins, note);
    common = { ...common, mode: mode.name, twin: twin.name };
    for (let pair = 0; pair < pairs; pair += 1) {
      const ours = async (): Promise<unknown> => node.push(figure(unit, await mode.run()));
      const theirs = async (): Promise<unknown> => c.push(figure(unit, await twin.run()));
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
  const { node, c, unit, ratio, bestRatio, target, met, mode, twin } = result;
  const verdict = met === undefined ? '' : `  ${target} ${met ? 'met' : 'missed'}`;
  const figures = `${digits(median(node)).padStart(8)} to ${digits(median(c)).padStart(8)} ${unit}`;
  return `${name} ${figures.padEnd(34)} ${digits(ratio).padStart(6)} x ${twin} (${mode}, best ${digits(bestRatio)})${verdict}`;
}
