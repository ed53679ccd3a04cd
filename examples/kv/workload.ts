/** GETs in several lanes, timed one by one: for the command `bench` and the benchmark. */
import type { Stored } from './store.ts';

/** What can be measured. */
export interface Gettable {
  get(key: Buffer): Promise<Stored | undefined>;
}

/** Figures of a run. */
export interface Measured {
  readonly gets: number;
  /** GETs for one second. */
  readonly rate: number;
  /** Microseconds. */
  readonly p50: number;
  /** Microseconds. */
  readonly p99: number;
}

/** Names of [count] keys. */
export function benchKeys(count: number): Buffer[] {
  return Array.from({ length: count }, (_, index) => Buffer.from(`bench-${index}`));
}

/**
 * GETs random keys of [keys] for [seconds], [depth] at a time.
 *
 * @param onGet called after each GET
 * @throws Error when a key is missing or its value has not [size] bytes
 */
export async function measureGets(
  client: Gettable,
  keys: readonly Buffer[],
  { size, depth, seconds }: { size: number; depth: number; seconds: number },
  onGet: () => void = () => {},
): Promise<Measured> {
  const times: number[] = [];
  const start = performance.now();
  const end = start + seconds * 1000;
  const lane = async (): Promise<void> => {
    for (let from = performance.now(); from < end; ) {
      const key = keys[Math.floor(Math.random() * keys.length)]!;
      const stored = await client.get(key);
      if (stored?.value.length !== size) {
        throw new Error(`${key} has ${stored?.value.length ?? 'no'} bytes; stored were ${size}`);
      }
      const now = performance.now();
      times.push(now - from);
      from = now;
      onGet();
    }
  };
  await Promise.all(Array.from({ length: depth }, lane));
  const rate = times.length / ((performance.now() - start) / 1000);
  times.sort((a, b) => a - b);
  const at = (share: number): number =>
    times[Math.min(times.length - 1, Math.floor(times.length * share))]! * 1000;
  return { gets: times.length, rate, p50: at(0.5), p99: at(0.99) };
}
