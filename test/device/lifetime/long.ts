/**
 * `npm run test:lifetime`: what takes too long for every run of the suite. 10 000 connections that come and go, and 100
 * worker threads, on each device; prints what was open before and after, and fails unless it is the same.
 */
import { devices } from '../helpers/devices.ts';
import { startProgram } from './run.ts';

const WARM_UP = 1000;
const CYCLES = 10_000;
const WORKERS = 100;
/** 400 bytes for each connection: less than its objects in librdmacm. */
const MAX_RSS_GROWTH_KIB = 4000;
/** Young objects of V8 would hide what grows behind 48 MiB of noise. */
const CYCLES_FLAGS = ['--max-semi-space-size=1'];
const LIMIT_MS = 3_600_000;

/** Open descriptors, and what the rest is about. */
interface Counts {
  readonly fds: number;
}
interface Cycles {
  readonly count: number;
  readonly msPerCycle: number;
  readonly before: Counts;
  readonly after: Counts;
  readonly rssKiB: number[];
}
interface Workers {
  readonly results: Record<string, number>;
  readonly before: Counts;
  readonly after: Counts;
  readonly works: boolean;
}

async function run<T>(program: string, args: readonly (string | number)[], flags: string[] = []): Promise<T> {
  const { ended } = startProgram(program, args.map(String), flags, LIMIT_MS);
  const { code, signal, out, err } = await ended;
  if (code !== 0) throw new Error(`${program} ended with ${signal ?? code}: ${err}`);
  return JSON.parse(out) as T;
}

function report(title: string, flat: boolean, result: { before: Counts; after: Counts }): void {
  console.log(`${flat ? 'flat' : 'NOT FLAT'}: ${title}`);
  console.log(`  before ${JSON.stringify(result.before)}\n  after  ${JSON.stringify(result.after)}`);
  if (!flat) process.exitCode = 1;
}

for (const { name, host } of devices) {
  const cycles = await run<Cycles>('cycles', [name, host, WARM_UP, CYCLES], CYCLES_FLAGS);
  const growth = Math.min(...cycles.rssKiB.slice(-3)) - Math.min(...cycles.rssKiB.slice(0, 3));
  const same = JSON.stringify(cycles.before) === JSON.stringify(cycles.after);
  const title = `${cycles.count} connections on ${name}, ${cycles.msPerCycle} ms each`;
  report(title, same && growth < MAX_RSS_GROWTH_KIB, cycles);
  console.log(`  resident KiB at every tenth: ${cycles.rssKiB.join(' ')}`);

  const started = performance.now();
  const workers = await run<Workers>('workers', ['many', name, host, WORKERS]);
  const seconds = Math.round((performance.now() - started) / 1000);
  // A descriptor fewer is not a leak: one that the start had open may have been closed since.
  const { fds } = workers.before;
  const left =
    workers.after.fds > fds || JSON.stringify({ ...workers.after, fds }) !== JSON.stringify(workers.before);
  const right = workers.works && workers.results['right 0'] === WORKERS;
  report(
    `${WORKERS} worker threads on ${name}, ${seconds} s; ${JSON.stringify(workers.results)}`,
    right && !left,
    workers,
  );
}
