import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  Arena,
  type ArenaBuffer,
  type DmaOp,
  defaultThresholds,
  dmaCounters,
  type ForceStrategy,
  type MemoryRegion,
  RwContext,
} from '../../../lib/index.ts';
import { devices } from '../helpers/devices.ts';
import { connectedPair, type Pair } from '../helpers/pair.ts';
import { rdmaErrorOf } from '../helpers/rejection.ts';
import { GUARD, Guarded, inArena, inForeign, inPages, pattern } from './memory.ts';

const REMOTE_BYTES = 256 * 1024;
/** Where the transfer starts in the peer's memory: not aligned, and not far from a page's end. */
const REMOTE_AT = 4096 - 6;

const ops: readonly DmaOp[] = ['send', 'recv', 'write', 'read'];
const lengths: Record<ForceStrategy, readonly number[]> = {
  inline: [10, 1, 21],
  single: [9001],
  multi: [33, 4096, 7],
  chain: [33, 4096, 1, 7000, 20, 5],
  bounce: [33, 4096, 1, 7000, 20, 5],
  transientMr: [5000, 33, 70_000],
  cachedMr: [5000, 33, 70_000],
  linear: [4096, 8192, 4096, 4096, 4096, 12_288, 1000],
  indirectMkey: [33, 4096],
};
const places = {
  arena: (block: ArenaBuffer, sizes: readonly number[]) =>
    sizes === lengths.linear ? inPages(block, sizes) : inArena(block, sizes),
  foreign: (_block: ArenaBuffer, sizes: readonly number[]) => inForeign(sizes),
} as const;

/** Why a combination cannot be, on this device. */
function refusal(
  force: ForceStrategy,
  op: DmaOp,
  place: keyof typeof places,
  siw: boolean,
): RegExp | undefined {
  if (force === 'indirectMkey') return /this device has no indirect memory keys/;
  if (force === 'linear' && place === 'foreign') return /fragment 0 is foreign memory/;
  if (force === 'cachedMr' && place === 'arena') return /there is no foreign memory/;
  if (force === 'inline' && (op === 'read' || op === 'recv')) return /only send and write can be inline/;
  if (place === 'foreign' && ['single', 'multi', 'chain'].includes(force)) {
    return op === 'send' || op === 'recv' ? /foreign memory|must be one work request/ : /foreign memory/;
  }
  if (force === 'chain' && (op === 'send' || op === 'recv')) return /must be one work request/;
  if (siw && force === 'multi' && op === 'read') return /exceed the limit of 1 SGEs/;
  return undefined;
}

describe.each(devices)('strategies on $name', ({ name }) => {
  let pair: Pair;
  let near: RwContext;
  let far: RwContext;
  let remote: { bytes: Buffer; mr: MemoryRegion };
  let block: ArenaBuffer;
  let farBlock: ArenaBuffer;

  beforeAll(async () => {
    pair = await connectedPair(name, { maxSendWr: 32, maxRecvWr: 8, maxSendSge: 4, maxRecvSge: 4 });
    near = new RwContext(pair.client.qp, defaultThresholds.pinned);
    far = new RwContext(pair.server.qp);
    remote = await pair.memory(REMOTE_BYTES);
    block = await Arena.for(pair.pd).alloc(REMOTE_BYTES);
    farBlock = await Arena.for(pair.pd).alloc(REMOTE_BYTES);
  });
  afterAll(() => pair.close());

  const at = (offset = REMOTE_AT) => ({ addr: remote.mr.addr + offset, rkey: remote.mr.rkey });

  /** Moves [bytes] with [op] between the near fragments and the far side; returns what arrived where it should. */
  async function move(op: DmaOp, memory: Guarded, bytes: Buffer, force?: ForceStrategy) {
    const options = force === undefined ? {} : { force };
    remote.bytes.fill(GUARD);
    farBlock.bytes.fill(GUARD);
    if (op === 'send' || op === 'write') memory.put(bytes);
    if (op === 'write') {
      const result = await near.write(memory.fragments, at(), options);
      // On iWARP a WRITE is complete when TCP has it; the answer to a READ behind it says that it has arrived.
      await near.read(block.bytes.subarray(-1), at(REMOTE_BYTES - 1), { force: 'single' });
      const arrived = Buffer.from(remote.bytes.subarray(REMOTE_AT, REMOTE_AT + bytes.length));
      remote.bytes.fill(GUARD, REMOTE_AT, REMOTE_AT + bytes.length);
      return { result, arrived, beyond: remote.bytes.filter((byte) => byte !== GUARD).length };
    }
    if (op === 'read') {
      remote.bytes.set(bytes, REMOTE_AT);
      const result = await near.read(memory.fragments, at(), options);
      return { result, arrived: memory.get(), beyond: memory.damage() };
    }
    if (op === 'send') {
      const received = far.recv(farBlock.bytes.subarray(100, 100_000));
      const result = await near.send(memory.fragments, options);
      expect((await received).bytes).toBe(bytes.length);
      const arrived = Buffer.from(farBlock.bytes.subarray(100, 100 + bytes.length));
      farBlock.bytes.fill(GUARD, 100, 100 + bytes.length);
      return { result, arrived, beyond: farBlock.bytes.filter((byte) => byte !== GUARD).length };
    }
    const received = near.recv(memory.fragments, options);
    farBlock.bytes.set(bytes);
    await near.ready();
    await far.send(farBlock.bytes.subarray(0, bytes.length));
    return { result: await received, arrived: memory.get(), beyond: memory.damage() };
  }

  describe.each(Object.keys(lengths) as ForceStrategy[])('%s', (force) => {
    describe.each(ops)('%s', (op) => {
      it.each(Object.keys(places) as (keyof typeof places)[])('of %s memory', async (place) => {
        const memory = places[place](block, lengths[force]);
        const why = refusal(force, op, place, name === 'siw0');
        if (why !== undefined) {
          const error = await rdmaErrorOf(() => near.builder.plan(op, memory.fragments, { force }));
          expect(error.message).toMatch(why);
          return;
        }
        const total = lengths[force].reduce((sum, length) => sum + length);
        const bytes = pattern(total, force.length * 16 + op.length);
        const counters = near.builder.counters;
        const before = structuredClone(counters);
        const { result, arrived, beyond } = await move(op, memory, bytes, force);
        expect(result).toEqual({ bytes: total, strategy: force });
        expect(arrived.equals(bytes)).toBe(true);
        expect(beyond).toBe(0);
        await near.builder.idle();
        const own = counters.strategies[force];
        // A write is followed by the 1-byte read of the test itself.
        const extra = op === 'write' && force === 'single' ? 1 : 0;
        expect(own.ops - before.strategies[force].ops).toBe(1 + extra);
        expect(own.bytes - before.strategies[force].bytes).toBe(total + extra);
        expect(counters.inFlight).toBe(0);
        expect(counters.registrations - before.registrations).toBe(
          force === 'transientMr' ? lengths[force].length : 0,
        );
        expect(near.builder.cache.stats.inFlight).toBe(0);
        expect(near.builder.windows!.stats.links).toBe(0);
        expect(dmaCounters()[name]!.strategies[force].ops).toBeGreaterThanOrEqual(own.ops);
      });
    });
  });

  it.each(ops)('mixes arena, foreign and pool memory in one %s, unforced', async (op) => {
    const keyed = inArena(block, [3000, 10]);
    const own = inForeign([20, 8000]);
    const pooled = Buffer.from('a slice of the pool'.repeat(3));
    const mixed = [keyed.fragments[0]!, own.fragments[0]!, pooled, own.fragments[1]!, keyed.fragments[1]!];
    const bytes = pattern(
      mixed.reduce((sum, part) => sum + part.length, 0),
      99,
    );
    const memory = Object.assign(Object.create(Guarded.prototype) as Guarded, {
      fragments: mixed,
      damage: () => keyed.damage() + own.damage(),
    });
    const { result, arrived, beyond } = await move(op, memory, bytes);
    expect(result.strategy).toBe('bounce');
    expect(arrived.equals(bytes)).toBe(true);
    expect(beyond).toBe(0);
  });

  it.each(ops)('moves nothing with an empty %s, in one work request', async (op) => {
    const memory = new Guarded(block.bytes.subarray(0, 1000), []);
    const { result, beyond } = await move(op, memory, Buffer.alloc(0));
    expect(result).toEqual({ bytes: 0, strategy: 'empty' });
    expect(beyond).toBe(0);
  });

  it('drops empty fragments between others', async () => {
    for (const op of ops) {
      const memory = inArena(block, [0, 100, 0, 200, 0]);
      const bytes = pattern(300, 5);
      const { result, arrived, beyond } = await move(op, memory, bytes);
      expect(result.bytes).toBe(300);
      expect(arrived.equals(bytes)).toBe(true);
      expect(beyond).toBe(0);
    }
  });

  it('reads and writes tiny ranges that cross pages, here and there', async () => {
    for (const length of [2, 8, 20, 31, 32, 33, 64]) {
      for (const before of [1, 3, length - 1]) {
        const bytes = pattern(length, length);
        remote.bytes.fill(GUARD);
        remote.bytes.set(bytes, 8192 - before);
        const target = block.bytes.subarray(4096 - before, 4096 - before + length);
        target.fill(0);
        await near.read(target, at(8192 - before));
        expect(Buffer.from(target).equals(bytes), `read ${length} bytes, ${before} before a page end`).toBe(
          true,
        );
      }
    }
    // Chained, so that the driver's own thread sends what follows the first: the tail of 20 bytes crosses a page here.
    const tail = block.bytes.subarray(8192 - 6, 8192 + 14);
    const head = [0, 1, 2, 3].map((i) => block.bytes.subarray(16384 + i * 2000, 16384 + i * 2000 + 1000));
    const bytes = pattern(4020, 3);
    [...head, tail].forEach((part, i) => {
      part.set(bytes.subarray(i * 1000, i * 1000 + part.length));
    });
    for (let round = 0; round < 20; round++) {
      remote.bytes.fill(GUARD);
      await near.write([...head, tail], at(0), { force: 'chain' });
      await near.read(block.bytes.subarray(-1), at(REMOTE_BYTES - 1));
      expect(remote.bytes.subarray(0, 4020).equals(bytes)).toBe(true);
    }
  });

  it('sends shared memory and every kind of view', async () => {
    const shared = new SharedArrayBuffer(16);
    new Uint8Array(shared).set(pattern(16, 1));
    const floats = new Float64Array(pattern(80_000, 2).buffer.slice(0));
    const view = new DataView(pattern(24, 3).buffer.slice(0), 4, 10);
    const parts = [shared, floats, view, new Uint8Array(pattern(9, 4)).buffer];
    const whole = Buffer.concat([
      new Uint8Array(shared),
      new Uint8Array(floats.buffer),
      new Uint8Array(view.buffer, 4, 10),
      pattern(9, 4),
    ]);
    const result = await near.write(parts, at());
    expect(result).toEqual({ bytes: whole.length, strategy: 'transientMr' });
    await near.read(block.bytes.subarray(-1), at(REMOTE_BYTES - 1));
    expect(remote.bytes.subarray(REMOTE_AT, REMOTE_AT + whole.length).equals(whole)).toBe(true);
  });
});
