import { describe, expect, it } from 'vitest';
import { Arena } from '../../../lib/dma/arena.ts';
import { dmaCounters } from '../../../lib/dma/counters.ts';
import type { Mapping } from '../../../lib/dma/mapping.ts';
import { SgeBuilder } from '../../../lib/dma/sge-builder.ts';
import type { ForceStrategy } from '../../../lib/dma/transfer.ts';
import type { DmaOp } from '../../../lib/dma/types.ts';
import { RdmaError, WcStatus } from '../../../lib/errors.ts';
import { Access } from '../../../lib/verbs/constants.ts';
import { detach, foreign, pattern } from './bytes.ts';
import { FakePd } from './fake-memory.ts';
import { FakeQp } from './fake-qp.ts';

const KiB = 1024;
const setUp = (options = {}) => {
  const pd = new FakePd();
  const builder = new SgeBuilder(new FakeQp(pd), options);
  return { pd, builder, arena: Arena.for(pd) };
};

/** What the device would see or fill through the SGEs. */
const seen = (pd: FakePd, mapping: Mapping): Uint8Array[] =>
  mapping.wrs.flatMap(({ sges }) =>
    sges.flatMap(({ addr, length, lkey }) => pd.resolve(addr, length, lkey, 0, false)),
  );

describe('SGEs by local key', () => {
  it('are filled for arena memory, without holding anything', async () => {
    const { pd, builder, arena } = setUp();
    const block = await arena.alloc(100);
    const sge = builder.mapSgeSingle(block.bytes.subarray(10, 30));
    expect(sge).toEqual({ addr: block.addr + 10, length: 20, lkey: block.lkey });
    expect(builder.mapSgeSingle(new Uint8Array(0))).toEqual({ addr: 0, length: 0, lkey: 0 });
    const view = block.bytes;
    expect(
      builder.fillSgeFromFragments([
        view.subarray(0, 10),
        view.subarray(10, 20),
        foreign(0),
        view.subarray(90),
      ]),
    ).toEqual([
      { addr: block.addr, length: 20, lkey: block.lkey },
      { addr: block.addr + 90, length: 10, lkey: block.lkey },
    ]);
    expect(pd.live.size).toBe(1);
  });

  it('are refused for foreign memory: never silently an MR', async () => {
    const { pd, builder, arena } = setUp();
    const block = await arena.alloc(100);
    const before = pd.live.size;
    expect(() => builder.mapSgeSingle(foreign(10))).toThrow(
      expect.objectContaining({ code: 'ERR_RDMA_NEEDS_MR' }),
    );
    expect(() => builder.fillSgeFromFragments([block, foreign(10)])).toThrow(
      /fragment 1 \(10 bytes\) is foreign/,
    );
    expect(pd.live.size).toBe(before);
  });
});

describe('a mapping', () => {
  const strategies: [ForceStrategy, DmaOp][] = [
    ['inline', 'send'],
    ['inline', 'write'],
    ...(['bounce', 'transientMr', 'multi'] as const).flatMap((force) =>
      (['send', 'write', 'recv', 'read'] as const).map((op): [ForceStrategy, DmaOp] => [force, op]),
    ),
    ['chain', 'write'],
    ['chain', 'read'],
  ];
  it.each(strategies)('%s of a %s reaches the bytes and undoes everything', async (force, op) => {
    const { pd, builder, arena } = setUp();
    const keyed = ['multi', 'chain'].includes(force);
    const blocks = [await arena.alloc(100), await arena.alloc(100)];
    const source = pattern(40);
    const outgoing = op === 'send' || op === 'write';
    for (const { bytes } of blocks) bytes.fill(0xee);
    const own = keyed
      ? [blocks[0]!.bytes.subarray(3, 23), blocks[1]!.bytes.subarray(50, 70)]
      : [foreign(20), foreign(20)];
    if (outgoing) {
      own[0]!.set(source.subarray(0, 20));
      own[1]!.set(source.subarray(20));
    }
    const regions = pd.live.size;
    const { blocks: blocksBefore } = arena.stats;

    const mapping = await builder.map(op, own, { force });
    expect(mapping.strategy).toBe(force);
    if (outgoing) {
      const parts = mapping.inlineBytes !== undefined ? [mapping.inlineBytes] : seen(pd, mapping);
      expect(Buffer.concat(parts)).toEqual(source);
    } else {
      let at = 0;
      for (const part of seen(pd, mapping)) {
        part.set(source.subarray(at, at + part.length));
        at += part.length;
      }
      expect(at).toBe(40);
    }
    expect(mapping.retire(WcStatus.SUCCESS, 40)).toBeUndefined();
    if (!outgoing) expect(Buffer.concat(own)).toEqual(source);
    for (const { bytes } of blocks) {
      expect(bytes.filter((byte) => byte === 0xee)).toHaveLength(keyed ? 80 : 100);
    }
    await builder.idle();
    expect(pd.live.size).toBe(regions);
    expect(arena.stats.blocks).toBe(blocksBefore);
    expect(builder.counters).toMatchObject({ inFlight: 0, completed: 1, failed: 0 });
    expect(builder.counters.strategies[force]).toMatchObject({ ops: 1, bytes: 40 });
  });

  it('is ready at once unless something must be registered or the arena must grow', async () => {
    const { builder, arena } = setUp();
    expect(builder.tryMap('read', foreign(1000))).toBeUndefined();
    expect(builder.counters).toMatchObject({ inFlight: 0, refused: 0 });
    const block = await arena.alloc(1000);
    for (const memory of [block, block.bytes, foreign(1000)]) {
      const mapping = builder.tryMap('read', memory);
      expect(mapping?.total).toBe(1000);
      mapping!.retire(WcStatus.SUCCESS);
    }
    expect(builder.tryMap('read', foreign(65 * KiB))).toBeUndefined();
    expect(builder.tryMap('send', foreign(10))?.inline).toBe(true);
    expect(arena.stats.blocks).toBe(1);
  });

  it('copies out only what a RECV brought, and nothing after a failure', async () => {
    const { pd, builder } = setUp();
    const parts = [foreign(10), foreign(10), foreign(10)];
    for (const part of parts) part.fill(1);
    const receive = async (status: number, byteLen: number) => {
      const mapping = await builder.map('recv', parts);
      for (const bytes of seen(pd, mapping)) bytes.fill(9);
      mapping.retire(status, byteLen);
      return [...Buffer.concat(parts)].filter((byte) => byte === 9).length;
    };
    expect(await receive(WcStatus.WR_FLUSH_ERR, 30)).toBe(0);
    expect(await receive(WcStatus.SUCCESS, 15)).toBe(15);
    expect(parts.map((part) => part[9])).toEqual([9, 1, 1]);
    expect(builder.counters).toMatchObject({ completed: 1, failed: 1, bytesCopied: 15 });
  });

  it('retires once', async () => {
    const { builder, arena } = setUp();
    const mapping = await builder.map('send', foreign(1000));
    mapping.retire(WcStatus.SUCCESS);
    const block = arena.tryAlloc(1000)!;
    mapping.retire(WcStatus.SUCCESS);
    expect(arena.stats.blocks).toBe(1);
    expect(builder.counters).toMatchObject({ inFlight: 0, completed: 1 });
    block.free();
  });

  it('keeps a freed arena block reserved until it retires', async () => {
    const { builder, arena } = setUp();
    const block = await arena.alloc(4096);
    const mapping = builder.tryMap('read', block.bytes.subarray(100, 200))!;
    block.free();
    expect(arena.stats.blocks).toBe(1);
    expect(() => arena.close()).toThrow(/in use/);
    mapping.retire(WcStatus.SUCCESS);
    expect(arena.stats.blocks).toBe(0);
  });

  it('refuses a view of a block that was freed', async () => {
    const { builder, arena } = setUp();
    const [block, other] = [await arena.alloc(64), await arena.alloc(64)];
    const view = block.bytes;
    block.free();
    expect(() => builder.tryMap('read', [other, view])).toThrow(/view of arena memory that was freed/);
    other.free();
    expect(arena.stats.blocks).toBe(0);
  });

  it('undoes everything when a registration fails', async () => {
    const { pd, builder, arena } = setUp();
    const block = await arena.alloc(64);
    pd.failWith = new RdmaError('EFAULT', 'fake: bad address');
    await expect(builder.map('write', [block, foreign(100 * KiB), foreign(8)])).rejects.toThrow(
      'bad address',
    );
    pd.failWith = undefined;
    await builder.idle();
    expect(pd.live.size).toBe(1);
    block.free();
    expect(arena.stats.blocks).toBe(0);
    expect(builder.counters).toMatchObject({ inFlight: 0 });
  });

  it('notices memory that was detached before the bytes could be handed over', async () => {
    const { builder, arena, pd } = setUp();
    for (const length of [1000, 100 * KiB]) {
      const target = foreign(length);
      const mapping = await builder.map('read', [foreign(1), target]);
      detach(target);
      const error = mapping.retire(WcStatus.SUCCESS);
      expect(error?.message).toMatch(/fragment 1 was detached/);
    }
    const late = foreign(1000);
    const empty = new SgeBuilder(new FakeQp(new FakePd()));
    const waiting = empty.map('write', late);
    detach(late);
    await expect(waiting).rejects.toThrow(/fragment 0 was detached/);
    await builder.idle();
    expect(arena.stats.blocks).toBe(0);
    expect(pd.live.size).toBe(1);
    expect(builder.counters).toMatchObject({ failed: 2, inFlight: 0 });
  });

  it('registers for no more access than the operation needs', async () => {
    const { pd, builder } = setUp();
    const accessOf = async (b: SgeBuilder, domain: FakePd, op: DmaOp) => {
      const known = new Set(domain.live);
      const mapping = await b.map(op, foreign(100), { force: 'transientMr' });
      const [mr] = [...domain.live].filter((region) => !known.has(region));
      mapping.retire(WcStatus.SUCCESS);
      return mr!.access;
    };
    expect(await accessOf(builder, pd, 'send')).toBe(0);
    expect(await accessOf(builder, pd, 'write')).toBe(0);
    expect(await accessOf(builder, pd, 'recv')).toBe(Access.LOCAL_WRITE);
    expect(await accessOf(builder, pd, 'read')).toBe(Access.LOCAL_WRITE);
    const nic = new FakePd('cxgb4', 'iwarp');
    const onNic = new SgeBuilder(new FakeQp(nic));
    expect(await accessOf(onNic, nic, 'read')).toBe(Access.LOCAL_WRITE | Access.REMOTE_WRITE);
    expect(await accessOf(onNic, nic, 'recv')).toBe(Access.LOCAL_WRITE);
  });

  it('registers exactly the range of a slice, and a copy of a pool slice', async () => {
    const { pd, builder } = setUp();
    const large = foreign(1024 * KiB);
    const mapping = await builder.map('read', large.subarray(1000, 1000 + 100 * KiB));
    const [mr] = [...pd.live];
    expect(mr!.length).toBe(100 * KiB);
    expect(mr!.addr).toBe(pd.addressOf(large) + 1000);
    mapping.retire(WcStatus.SUCCESS);
  });
});

describe('a region that cannot be closed', () => {
  const warning = () => new Promise((resolve) => process.once('warning', resolve));

  it.each([
    ['of one transfer', { bounceMax: 0 }, {}, /transient memory region could not be closed: fake: busy/],
    [
      'of the cache',
      { bounceMax: 0 },
      { reuse: true },
      /cached memory region could not be closed: fake: busy/,
    ],
  ])('%s is warned of; the memory and later operations are as ever', async (_, options, how, why) => {
    const { pd, builder } = setUp(options);
    const mapping = await builder.map('write', foreign(100 * KiB), how);
    for (const mr of pd.live) mr.close = () => Promise.reject(new Error('fake: busy'));
    const warned = warning();
    expect(mapping.retired).toBe(false);
    mapping.retire(WcStatus.SUCCESS);
    expect(mapping.retired).toBe(true);
    await Promise.all([builder.idle(), builder.cache.clear()]);
    expect(await warned).toMatchObject({ message: expect.stringMatching(why) });
    (await builder.map('write', foreign(100 * KiB))).retire(WcStatus.SUCCESS);
    expect(builder.counters).toMatchObject({ completed: 2, inFlight: 0 });
  });
});

describe('SgeBuilder', () => {
  it('checks its options', () => {
    const qp = new FakeQp();
    expect(() => new SgeBuilder(qp, { bounceMax: -1 })).toThrow(/bounceMax must be an integer from 0/);
    expect(() => new SgeBuilder(qp, { bounceMax: 2 ** 27 })).toThrow(/bounceMax/);
    expect(() => new SgeBuilder(qp, { chainMax: 0 })).toThrow(/chainMax/);
    expect(() => new SgeBuilder(qp, { inlineMax: -1 })).toThrow(/inlineMax/);
    expect(() => new SgeBuilder(qp, { arena: new Arena(new FakePd()) })).toThrow(/another protection domain/);
    expect(() => new SgeBuilder(qp).plan('pull' as 'read', [])).toThrow(/op must be one of send/);
  });

  it('planning changes nothing', () => {
    const { pd, builder, arena } = setUp();
    const plan = builder.plan('read', [foreign(100 * KiB), foreign(10)]);
    expect(plan).toMatchObject({ registers: 1, bytesCopied: 10 });
    expect(pd.live.size).toBe(0);
    expect(arena.stats.slabs).toBe(0);
    expect(builder.counters.inFlight).toBe(0);
  });

  it('adds to the totals of its device, and counts refusals', async () => {
    const before = dmaCounters()['fake-card']?.strategies.single.bytes ?? 0;
    const { builder, arena } = setUp();
    const block = await arena.alloc(500);
    builder.tryMap('read', block)!.retire(WcStatus.SUCCESS);
    builder.tryMap('read', block)!.retire(WcStatus.SUCCESS);
    expect(() => builder.plan('read', [foreign(1)], { force: 'single' })).toThrow();
    const totals = dmaCounters()['fake-card']!;
    expect(totals.strategies.single.bytes - before).toBe(1000);
    expect(builder.counters).toMatchObject({ refused: 1, completed: 2 });
    totals.completed = -1;
    expect(dmaCounters()['fake-card']!.completed).toBeGreaterThan(0);
  });
});
