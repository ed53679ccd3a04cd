/** What a process, and the kernel for it, holds: counts that must come back to where they were. */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

/** Objects of one device that the kernel knows of, as `rdma resource show` counts them (rdma-resource(8)). */
export interface KernelObjects {
  readonly pd: number;
  readonly cq: number;
  readonly qp: number;
  readonly cm_id: number;
  readonly mr: number;
  readonly ctx: number;
  readonly srq: number;
}

/** The objects of all processes on [device]. */
export function kernelObjects(device: string): KernelObjects {
  const all = JSON.parse(
    execFileSync('rdma', ['-j', 'resource', 'show'], { encoding: 'utf8' }),
  ) as (KernelObjects & {
    ifname: string;
    ifindex: number;
  })[];
  const found = all.find((one) => one.ifname === device);
  if (found === undefined) throw new Error(`rdma resource show knows no ${device}`);
  const { ifname: _name, ifindex: _index, ...counts } = found;
  return counts;
}

/** Waits until [look] gives what is [wanted], for the kernel may take its time to let go; returns what it gave last. */
export async function settled<T>(look: () => T, wanted: T, limitMs = 20_000): Promise<T> {
  const text = JSON.stringify(wanted);
  const end = performance.now() + limitMs;
  for (;;) {
    const got = look();
    if (JSON.stringify(got) === text || performance.now() > end) return got;
    await sleep(20);
  }
}

/** What [look] gives once it has given the same for a while. */
export async function stable<T>(look: () => T): Promise<T> {
  for (let last = look(), same = 0; ; same += 1) {
    await sleep(20);
    const now = look();
    if (JSON.stringify(now) !== JSON.stringify(last)) same = 0;
    if (same === 20) return now;
    last = now;
  }
}

/** Waits until [condition] holds; false when it does not for [limitMs]. */
export async function eventually(condition: () => boolean, limitMs = 20_000): Promise<boolean> {
  return settled(condition, true, limitMs);
}

/** Open file descriptors of a process. */
export function openFds(pid: number | 'self' = 'self'): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

/** A field of /proc/self/status in KiB: VmRSS, or VmPin for the pages that devices have pinned. */
export function processMemory(field: 'VmRSS' | 'VmPin'): number {
  const value = new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(
    readFileSync('/proc/self/status', 'utf8'),
  )?.[1];
  return Number(value);
}

/** Collects garbage and lets finalizers run, until [done] or for [rounds] rounds; returns whether it was done. */
export async function collectUntil(done: () => boolean, rounds = 100): Promise<boolean> {
  const collect = (globalThis as { gc?: () => void }).gc;
  if (collect === undefined) throw new Error('this needs node --expose-gc');
  for (let i = 0; i < rounds; i += 1) {
    // A reference that this turn looked at through a WeakRef lives until the turn ends.
    await sleep(5);
    collect();
    if (done()) return true;
  }
  return false;
}
