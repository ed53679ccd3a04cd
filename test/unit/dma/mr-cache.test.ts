import { describe, expect, it } from 'vitest';
import { MrCache } from '../../../lib/dma/mr-cache.ts';
import { SgeBuilder } from '../../../lib/dma/sge-builder.ts';
import { RdmaError, WcStatus } from '../../../lib/errors.ts';
import { detach, foreign } from './bytes.ts';
import { FakePd } from './fake-memory.ts';
import { FakeQp } from './fake-qp.ts';

const KiB = 1024;
const setUp = (pinBudget = 1024 * KiB) => {
  const pd = new FakePd();
  const cache = new MrCache(pd, { pinBudget });
  return { pd, cache, builder: new SgeBuilder(new FakeQp(pd), { cache }) };
};

describe('the cache of regions', () => {
  it('keeps a region for the ArrayBuffer, and lends it again', async () => {
    const { pd, cache } = setUp();
    const { buffer } = foreign(100 * KiB);
    expect(cache.tryLease(buffer)).toBeUndefined();
    const [first, second] = await Promise.all([cache.lease(buffer), cache.lease(buffer)]);
    expect(first.mr).toBe(second.mr);
    expect(pd.live.size).toBe(1);
    expect(cache.stats).toEqual({
      entries: 1,
      pinned: 100 * KiB,
      inFlight: 1,
      hits: 1,
      misses: 1,
      evictions: 0,
    });
    first.release();
    first.release();
    expect(cache.stats.inFlight).toBe(1);
    second.release();
    expect(cache.tryLease(buffer)?.mr).toBe(first.mr);
    expect(cache.stats.hits).toBe(2);
  });

  it('gives up the least recently used idle regions for the budget, never those in use', async () => {
    const { pd, cache } = setUp(300 * KiB);
    const buffers = Array.from({ length: 4 }, () => foreign(100 * KiB).buffer);
    const leases = [];
    for (const buffer of buffers.slice(0, 3)) leases.push(await cache.lease(buffer));
    leases[0]!.release();
    leases[1]!.release();
    cache.tryLease(buffers[0]!)!.release();
    const last = await cache.lease(buffers[3]!);
    await cache.idle();
    expect(buffers.map((buffer) => cache.has(buffer))).toEqual([true, false, true, true]);
    expect(pd.live.size).toBe(3);
    last.release();
    leases[2]!.release();
    await cache.clear();
    expect(pd.live.size).toBe(0);
    expect(cache.stats).toMatchObject({ entries: 0, pinned: 0, evictions: 4 });
  });

  it('closes a region that was given up in use when its last operation ends', async () => {
    const { pd, cache } = setUp();
    const { buffer } = foreign(8 * KiB);
    const lease = await cache.lease(buffer);
    cache.evict(buffer);
    await cache.idle();
    expect(pd.live.size).toBe(1);
    const again = await cache.lease(buffer);
    expect(again.mr).not.toBe(lease.mr);
    lease.release();
    await cache.idle();
    expect(pd.live.size).toBe(1);
    expect(again.mr.closed).toBe(false);
  });

  it('never uses the region of a buffer that was detached', async () => {
    const { pd, cache } = setUp();
    const view = foreign(8 * KiB);
    const { buffer } = view;
    (await cache.lease(buffer)).release();
    detach(view);
    expect(cache.has(buffer)).toBe(false);
    expect(cache.tryLease(buffer)).toBeUndefined();
    await cache.idle();
    expect(pd.live.size).toBe(0);
    expect(cache.stats.entries).toBe(0);
  });

  it('makes room when memory cannot be locked, and says so when there is none', async () => {
    const { pd, cache } = setUp();
    pd.lockable = 150 * KiB;
    const [first, second] = [foreign(100 * KiB).buffer, foreign(100 * KiB).buffer];
    (await cache.lease(first)).release();
    const lease = await cache.lease(second);
    expect(cache.has(first)).toBe(false);
    await expect(cache.lease(first)).rejects.toThrow(/RLIMIT_MEMLOCK/);
    expect(cache.stats).toMatchObject({ entries: 1, pinned: 100 * KiB });
    lease.release();
  });

  it('lends what is there without registering, and is not troubled by what is not', async () => {
    const { pd, cache } = setUp();
    const { buffer } = foreign(8 * KiB);
    cache.evict(buffer);
    const first = await cache.lease(buffer);
    const second = await cache.lease(buffer);
    expect(second.mr).toBe(first.mr);
    expect(cache.stats).toMatchObject({ hits: 1, misses: 1, evictions: 0, inFlight: 1 });
    expect(pd.live.size).toBe(1);
  });

  it('forgets a registration that failed, for everybody who waited', async () => {
    const { pd, cache } = setUp();
    pd.failWith = new RdmaError('EFAULT', 'fake: bad address');
    const { buffer } = foreign(8 * KiB);
    const both = await Promise.allSettled([cache.lease(buffer), cache.lease(buffer)]);
    expect(both.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    pd.failWith = undefined;
    const lease = await cache.lease(buffer);
    expect(lease.mr.closed).toBe(false);
    expect(cache.stats).toMatchObject({ entries: 1, pinned: 8 * KiB, inFlight: 1 });
  });

  it('refuses a budget below 0', () => {
    expect(() => new MrCache(new FakePd(), { pinBudget: -1 })).toThrow(/pinBudget must be at least 0/);
    expect(() => new MrCache(new FakePd(), { pinBudget: Number.NaN })).toThrow(/pinBudget/);
  });
});

describe('a builder with the cache', () => {
  it('registers for one transfer first, to stay at the second, and not at all after', async () => {
    const { pd, cache, builder } = setUp();
    const memory = foreign(100 * KiB);
    const rows: number[] = [];
    for (let i = 0; i < 3; i++) {
      rows.push(builder.plan('write', memory).row);
      const mapping = await builder.map('write', memory.subarray(i, 80 * KiB + i));
      const [sge] = mapping.wrs[0]!.sges;
      expect(pd.resolve(sge!.addr, sge!.length, sge!.lkey, 0, false)[0]!.byteOffset).toBe(i);
      mapping.retire(WcStatus.SUCCESS);
    }
    expect(rows).toEqual([12, 11, 5]);
    await builder.idle();
    expect(cache.stats).toMatchObject({ entries: 1, inFlight: 0, misses: 1, hits: 1 });
  });

  it('does so at once when told that the memory will be used again', async () => {
    const { cache, builder } = setUp();
    const memory = foreign(100 * KiB);
    expect(builder.plan('read', memory, { reuse: true })).toMatchObject({ row: 11, registers: 1 });
    const mapping = await builder.map('read', memory, { reuse: true });
    expect(mapping.strategy).toBe('cachedMr');
    expect(builder.plan('read', memory)).toMatchObject({ row: 5, registers: 0 });
    mapping.retire(WcStatus.SUCCESS);
    expect(cache.stats.inFlight).toBe(0);
  });

  it('registers nothing to stay that exceeds the budget', async () => {
    const { builder } = setUp(10 * KiB);
    const memory = foreign(100 * KiB);
    for (let i = 0; i < 2; i++) {
      const mapping = await builder.map('read', memory, { reuse: true });
      expect(mapping.strategy).toBe('transientMr');
      mapping.retire(WcStatus.SUCCESS);
    }
  });

  it('gives up idle regions for a transfer that finds no memory to lock', async () => {
    const { pd, cache, builder } = setUp();
    pd.lockable = 200 * KiB;
    const kept = foreign(150 * KiB);
    (await builder.map('read', kept, { reuse: true })).retire(WcStatus.SUCCESS);
    const mapping = await builder.map('read', foreign(120 * KiB));
    expect(mapping.plan).toMatchObject({ row: 12, strategy: 'transientMr', registers: 1 });
    expect(cache.stats).toMatchObject({ entries: 0, evictions: 1 });
    mapping.retire(WcStatus.SUCCESS);
  });

  it('copies when memory cannot be locked (row 13)', async () => {
    const { pd, builder } = setUp();
    const block = await builder.arena.alloc(1);
    pd.lockable = [...pd.live].reduce((sum, mr) => sum + mr.length, 0);
    const memory = foreign(100 * KiB).fill(7);
    const mapping = await builder.map('write', [block, memory]);
    expect(mapping.plan).toMatchObject({ row: 13, strategy: 'bounce', bytesCopied: 100 * KiB + 1 });
    expect(mapping.plan.reason).toMatch(/no memory could be locked/);
    mapping.retire(WcStatus.SUCCESS);
    await expect(builder.map('write', memory, { force: 'transientMr' })).rejects.toThrow(/RLIMIT_MEMLOCK/);
    expect(builder.counters).toMatchObject({ inFlight: 0 });
  });
});
