/** One random case carried out and looked at; and many of them, with a seed to have them again. */
import { randomFillSync } from 'node:crypto';
import fc from 'fast-check';
import {
  DmaBatch,
  type DmaVec,
  type Fragment,
  type Fragments,
  type Plan,
  type Strategy,
} from '../../lib/dma/index.ts';
import { RdmaError } from '../../lib/errors.ts';
import type { RwContext, RwResult } from '../../lib/rw/index.ts';
import type { BatchSpec, CaseSpec, ListForm } from './cases.ts';
import { difference, FragmentList, type Grounds } from './memory.ts';

/** Two ends that cases are carried out between. */
export interface Link {
  readonly near: RwContext;
  readonly grounds: Grounds;
  /** The peer's memory for one-sided operations: [most] bytes and 64 KiB. */
  readonly remote: { readonly bytes: Buffer; readonly addr: number; readonly rkey: number };
  /** Where the peer takes messages: as large. */
  readonly inbox: Buffer;
  /** Waits for an operation, and makes it happen where nobody else does. */
  carryOut<T>(operation: Promise<T>): Promise<T>;
  /** Resolves when everything written so far is in the peer's memory. */
  arrived(): Promise<void>;
  /** The peer receives one message at [offset] of its inbox, of up to [length] bytes. */
  receive(offset: number, length: number): Promise<{ readonly bytes: number }>;
  /** The peer sends a message. */
  deliver(message: Buffer): Promise<unknown>;
  /** What is held now in excess of the start, in words; undefined when it is nothing. Cached regions were given up. */
  excess(): string | undefined;
}

/** What cases came to. */
export class Tally {
  cases = 0;
  bytes = 0;
  refused = 0;
  readonly strategies: Partial<Record<Strategy, number>> = {};
  readonly batches = { scatter: 0, linear: 0 };

  toString(): string {
    const each = Object.entries(this.strategies).map(([name, count]) => `${name} ${count}`);
    return (
      `${this.cases} cases, ${this.refused} refused with the reason, ${(this.bytes / 2 ** 20).toFixed(1)} MiB; ` +
      `${each.join(', ')}; batches: ${this.batches.scatter} scatter, ${this.batches.linear} linear`
    );
  }
}

/** The peer's bytes around the payload differ from the guards of this side. */
const FAR_GUARD = 0x5a;
const AROUND = 64 * 1024;
const noise = randomFillSync(Buffer.alloc(17 * 2 ** 20));

/** The bytes of a case: other ones for each, and for each round of it. */
function payloadOf(spec: CaseSpec, length: number, round = 0): Buffer {
  const at = (spec.payload * 13 + round * 7) % (noise.length - length + 1);
  return noise.subarray(at, at + length);
}

function handOver(fragments: readonly Fragment[], form: ListForm): Fragments {
  if (form === 'frozen') return Object.freeze([...fragments]);
  if (form === 'set') return new Set(fragments);
  if (form === 'array') return [...fragments];
  return (function* () {
    yield* fragments;
  })();
}

/** Carries out one case. Throws what is wrong. */
export async function carryOutCase(link: Link, spec: CaseSpec, tally: Tally): Promise<void> {
  const { near, grounds } = link;
  const list = await FragmentList.make(grounds, spec.fragments);
  try {
    tally.cases++;
    if (spec.batch === undefined) await withList(link, spec, list, tally);
    else await withBatch(link, spec, spec.batch, list, tally);
  } finally {
    list.release();
  }
  await near.builder.idle();
  const { cache, windows, counters } = near.builder;
  want('operations in flight', counters.inFlight, 0);
  want('cached regions in use', cache.stats.inFlight, 0);
  want('linked fragments', windows?.stats.links ?? 0, 0);
  if (!spec.clear) return;
  await cache.clear();
  await windows?.clear();
  want('what is held in excess', link.excess(), undefined);
}

async function withList(link: Link, spec: CaseSpec, list: FragmentList, tally: Tally): Promise<void> {
  const { near } = link;
  const { reuse } = spec;
  const remoteAddr = link.remote.addr + spec.remoteOffset;
  const asked = () => handOver(list.fragments, spec.list);
  let { force } = spec;
  const planned = planOrRefusal(near, spec, asked(), remoteAddr, force);
  if (planned instanceof RdmaError) {
    tally.refused++;
    list.fill(payloadOf(spec, list.total()));
    const options = force === undefined ? { reuse } : { reuse, force };
    const error = refusalOf(() => start(link, spec, asked(), options));
    want('the refusal', error.message, planned.message);
    want('the memory', list.flaw(payloadOf(spec, list.total())), undefined);
    if (force === undefined) {
      want('why no strategy serves', planned.code, 'EMSGSIZE');
      return;
    }
    want('why it can not be forced', planned.code, 'ERR_INVALID_ARG_VALUE');
    force = undefined;
  }
  const plan = planned instanceof RdmaError ? planOrRefusal(near, spec, asked(), remoteAddr) : planned;
  if (plan instanceof RdmaError) return;
  const options = force === undefined ? { reuse } : { reuse, force };
  const { strategies } = near.builder.counters;
  const before = { ...strategies[plan.strategy] };
  const result = await exchange(link, spec, list, list.count, () => start(link, spec, asked(), options));
  want('the strategy', result.strategy, plan.strategy);
  const after = strategies[plan.strategy];
  const extra = after.ops - before.ops - 1;
  want('the work requests', after.wrs - before.wrs - extra, plan.wrs);
  tally.bytes += result.bytes;
  tally.strategies[result.strategy] = (tally.strategies[result.strategy] ?? 0) + 1;
}

async function withBatch(
  link: Link,
  spec: CaseSpec,
  { mode, maxVecs, maxSeg, again }: BatchSpec,
  list: FragmentList,
  tally: Tally,
): Promise<void> {
  const { builder } = link.near;
  const direction = spec.op === 'send' || spec.op === 'write' ? 'toDevice' : 'fromDevice';
  const limits = {
    ...(maxVecs === undefined ? {} : { maxVecs }),
    ...(maxSeg === undefined ? {} : { maxSeg }),
  };
  if (mode === 'linear' && builder.windows === undefined) {
    const error = refusalOf(() => DmaBatch.start(builder, mode, direction, limits));
    want('why there is no linear batch', error.code, 'EOPNOTSUPP');
    return;
  }
  const batch = DmaBatch.start(builder, mode, direction, limits);
  const count = addUntilRefused(batch, list);
  if (batch.length === 0) {
    batch.abort();
    return;
  }
  want('the bytes of the batch', batch.length, list.total(count));
  list.fill(direction === 'toDevice' ? payloadOf(spec, list.total(count)) : Buffer.alloc(0));
  const vecs = await link.carryOut(batch.finalize());
  want(
    'the bytes of the vectors',
    vecs.reduce((sum, { length }) => sum + length, 0),
    batch.length,
  );
  if (mode === 'linear') want('the vectors', vecs.length, 1);
  try {
    for (let round = 0; round <= (again ? 1 : 0); round++) {
      const begin = (): Promise<RwResult> => {
        if (direction === 'toDevice') batch.syncForDevice();
        return start(link, spec, batch, {});
      };
      if (tooMany(link.near, spec, vecs)) {
        tally.refused++;
        want('why the batch is refused', refusalOf(begin).code, 'EMSGSIZE');
        return;
      }
      const result = await exchange(link, spec, list, count, begin, round);
      tally.bytes += result.bytes;
      tally.batches[mode]++;
    }
  } finally {
    await batch.unmap();
  }
}

/** Whether a batch of [vecs] needs more work requests than it may have. */
function tooMany({ builder }: RwContext, { op }: CaseSpec, vecs: readonly DmaVec[]): boolean {
  const { maxSendSge, maxRecvSge, maxReadSge, maxMessage, sendSlots } = builder.limits;
  const total = vecs.reduce((sum, { length }) => sum + length, 0);
  if (op === 'send') return vecs.length > maxSendSge || total > maxMessage;
  if (op === 'recv') return vecs.length > maxRecvSge || total > maxMessage;
  const wrs = Math.ceil(vecs.length / (op === 'read' ? Math.min(maxReadSge, maxSendSge) : maxSendSge));
  return wrs > sendSlots;
}

/** Adds fragments until one is refused; returns how many were taken. */
function addUntilRefused(batch: DmaBatch, list: FragmentList): number {
  let count = 0;
  try {
    for (const fragment of list.fragments) {
      if (!batch.add(fragment)) break;
      count++;
    }
  } catch (error) {
    if (!(error instanceof RdmaError) || error.code !== 'ENOTLINEAR') throw error;
    const named = error.flaw === 'end' ? error.fragment! <= count : error.fragment === count;
    if (!named) throw new Error(`refused fragment ${count}, but named ${error.fragment}: ${error.message}`);
  }
  return count;
}

/** Carries out the operation that [begin] starts, with guards around everything, and compares every byte. */
async function exchange(
  link: Link,
  spec: CaseSpec,
  list: FragmentList,
  count: number,
  begin: () => Promise<RwResult>,
  round = 0,
): Promise<RwResult> {
  const { op, remoteOffset } = spec;
  const total = list.total(count);
  const length = op === 'recv' ? total - Math.floor((total * spec.short) / 256) : total;
  const payload = payloadOf(spec, length, round);
  const far = op === 'send' ? link.inbox : link.remote.bytes;
  const around = Buffer.alloc(remoteOffset + length + AROUND, FAR_GUARD);
  far.set(around);
  if (op === 'read') far.set(payload, remoteOffset);
  list.fill(op === 'read' || op === 'recv' ? Buffer.alloc(0) : payload);

  let result: RwResult;
  if (op === 'send') {
    const capacity = length + (spec.payload % 3) * 100;
    const received = link.receive(remoteOffset, Math.max(1, capacity));
    result = await link.carryOut(begin());
    want('the length of the message', (await link.carryOut(received)).bytes, length);
  } else if (op === 'recv') {
    const received = begin();
    await link.near.ready();
    await link.deliver(payload);
    result = await link.carryOut(received);
  } else {
    result = await link.carryOut(begin());
    if (op === 'write') await link.arrived();
  }
  want('the bytes of the result', result.bytes, length);

  want('the memory', list.flaw(payload), undefined);
  if (op === 'recv') return result;
  around.set(payload, remoteOffset);
  const at = difference(far, around);
  if (at !== undefined)
    throw new Error(`byte ${at - remoteOffset} of ${length} at the peer is ${far[at]}, not ${around[at]}`);
  return result;
}

function start(
  { near, remote }: Link,
  { op, remoteOffset }: CaseSpec,
  fragments: Fragments | DmaBatch,
  options: object,
): Promise<RwResult> {
  const at = { addr: remote.addr + remoteOffset, rkey: remote.rkey };
  return op === 'read' || op === 'write' ? near[op](fragments, at, options) : near[op](fragments, options);
}

function planOrRefusal(
  { builder }: RwContext,
  { op, reuse }: CaseSpec,
  fragments: Fragments,
  remoteAddr: number,
  force?: CaseSpec['force'],
): Plan | RdmaError {
  const at = op === 'read' || op === 'write' ? remoteAddr : 0;
  try {
    return builder.plan(op, fragments, { remoteAddr: at, reuse, force });
  } catch (error) {
    if (error instanceof RdmaError) return error;
    throw error;
  }
}

function refusalOf(action: () => unknown): RdmaError {
  try {
    Promise.resolve(action()).catch(() => undefined);
  } catch (error) {
    if (error instanceof RdmaError) return error;
    throw error;
  }
  throw new Error('taken, and should have been refused');
}

function want<T>(what: string, got: T, wanted: T): void {
  if (got !== wanted) throw new Error(`${what}: ${String(got)}, not ${String(wanted)}`);
}

/** Rejects when [work] takes too long. */
async function inTime(work: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Hang(`not over after ${CASE_MS} ms`)), CASE_MS);
  });
  try {
    await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** A case that does not end: reported as it is, for smaller ones would not end either. */
export class Hang extends Error {}

/** How many cases, and which. */
export interface RunOptions {
  readonly runs: number;
}

const { env } = process;

/** How long to go on with new cases; 0: a number of them. */
export const propertySeconds = Number(env.NODE_RDMA_PROPERTY_SECONDS ?? 0);

/** How long a number of cases may take: on a slow machine there are fewer. */
const MOST_SECONDS = 40;

/** A case that takes longer hangs. */
const CASE_MS = 20_000;

/**
 * Checks [property] on random cases; throws with the smallest case that fails and how to have it again.
 *
 * `NODE_RDMA_PROPERTY_SEED` and `NODE_RDMA_PROPERTY_PATH` repeat a failure; `NODE_RDMA_PROPERTY_RUNS` or
 * `NODE_RDMA_PROPERTY_SECONDS` make a run longer.
 */
export async function checkCases(
  cases: fc.Arbitrary<CaseSpec>,
  { runs }: RunOptions,
  property: (spec: CaseSpec) => Promise<void>,
): Promise<void> {
  const parameters: fc.Parameters<[CaseSpec]> = {
    numRuns: propertySeconds > 0 ? 2 ** 31 - 1 : Number(env.NODE_RDMA_PROPERTY_RUNS ?? runs),
    interruptAfterTimeLimit: (propertySeconds > 0 ? propertySeconds : MOST_SECONDS) * 1000,
    ...(env.NODE_RDMA_PROPERTY_SEED === undefined ? {} : { seed: Number(env.NODE_RDMA_PROPERTY_SEED) }),
    ...(env.NODE_RDMA_PROPERTY_PATH === undefined ? {} : { path: env.NODE_RDMA_PROPERTY_PATH }),
  };
  let hung = false;
  const limited = fc.asyncProperty(cases, async (spec) => {
    // A smaller case would take as long to find: what hangs is reported as it is.
    if (hung) return;
    try {
      await inTime(property(spec));
    } catch (error) {
      hung = error instanceof Hang;
      throw error;
    }
  });
  const details = await fc.check(limited, parameters);
  if (!details.failed || (details.interrupted && details.counterexample === null)) return;
  throw new Error(
    `again: NODE_RDMA_PROPERTY_SEED=${details.seed} NODE_RDMA_PROPERTY_PATH=${details.counterexamplePath}\n` +
      `${fc.defaultReportMessage(details)}`,
    { cause: details.errorInstance },
  );
}
