// Where copying ends and registering begins: by the kind of device, and by what is known of the memory. Fake devices.

import { describe, expect, it } from 'vitest';
import { DmaBatch } from '../../../lib/dma/batch.ts';
import { openLocalKey } from '../../../lib/dma/local-key.ts';
import { SgeBuilder, type SgeBuilderOptions } from '../../../lib/dma/sge-builder.ts';
import { defaultThresholds } from '../../../lib/dma/thresholds.ts';
import { WcStatus } from '../../../lib/errors.ts';
import { foreign } from './bytes.ts';
import { FakePd } from './fake-memory.ts';
import { FakeQp } from './fake-qp.ts';

const KiB = 1024;
const MiB = 1024 * KiB;

const on = (provider: string, options: SgeBuilderOptions = {}) =>
  new SgeBuilder(new FakeQp(new FakePd(provider, provider === 'siw' ? 'iwarp' : 'ib')), options);

describe('the defaults', () => {
  it('are those of the kind of device, each of which can be set', async () => {
    for (const soft of ['rxe', 'siw']) expect(on(soft).thresholds).toEqual(defaultThresholds.soft);
    expect(on('mlx5').thresholds).toEqual(defaultThresholds.pinned);
    const pd = new FakePd('mlx5', 'ib', { implicit: true });
    await openLocalKey(pd);
    expect(new SgeBuilder(new FakeQp(pd)).thresholds).toEqual(defaultThresholds.odp);
    const own = { bounceMax: 1, keepMin: 2, chainMax: 3, inlineMax: 4 };
    expect(on('rxe', own).thresholds).toEqual(own);
    expect(() => on('rxe', { keepMin: -1 })).toThrow(/options\.keepMin must be an integer from 0/);
  });

  it('copy up to 1 MiB where the driver copies too, and up to 64 KiB elsewhere', () => {
    const rowOf = (provider: string, bytes: number) => on(provider).plan('write', foreign(bytes)).row;
    expect([rowOf('rxe', MiB), rowOf('siw', MiB), rowOf('rxe', MiB + 1)]).toEqual([10, 10, 12]);
    expect([rowOf('mlx5', 64 * KiB), rowOf('mlx5', 64 * KiB + 1)]).toEqual([10, 12]);
  });

  it('copy rather than chain what is little: two work requests on soft devices, three elsewhere', async () => {
    const plan = async (provider: string, count: number, bytes: number) => {
      const builder = on(provider);
      const block = await builder.arena.alloc(1 * MiB);
      const pieces = Array.from({ length: count }, (_, i) =>
        block.bytes.subarray(2 * i * bytes, (2 * i + 1) * bytes),
      );
      return builder.plan('write', pieces).strategy;
    };
    // Four SGEs in a work request: five pieces are two, nine are three.
    expect([await plan('mlx5', 5, 100), await plan('mlx5', 9, 100)]).toEqual(['chain', 'bounce']);
    expect([await plan('rxe', 4, 100), await plan('rxe', 5, 100)]).toEqual(['multi', 'bounce']);
    // What costs more to copy than a work request.
    expect([await plan('rxe', 5, 13 * KiB), await plan('rxe', 6, 12 * KiB)]).toEqual(['chain', 'chain']);
  });
});

describe('memory that is used again', () => {
  it('is registered to stay at its second use, though one use alone would be copied', async () => {
    const builder = on('rxe');
    const memory = foreign(1 * MiB);
    const rows: number[] = [];
    for (let i = 0; i < 3; i++) {
      const mapping = await builder.map('write', memory);
      rows.push(mapping.plan.row);
      mapping.retire(WcStatus.SUCCESS);
    }
    expect(rows).toEqual([10, 11, 5]);
    expect(builder.cache.stats).toMatchObject({ entries: 1, hits: 1, misses: 1 });
  });

  it('is copied all the same below keepMin, whatever the size of its buffer', async () => {
    const builder = on('rxe');
    const memory = foreign(8 * MiB);
    for (let i = 0; i < 3; i++) {
      const mapping = await builder.map('write', memory.subarray(0, 64 * KiB - 1));
      expect(mapping.plan).toMatchObject({ row: 10, strategy: 'bounce' });
      mapping.retire(WcStatus.SUCCESS);
    }
    expect(builder.plan('write', memory.subarray(0, 64 * KiB)).row).toBe(11);
    expect(builder.cache.stats.entries).toBe(0);
  });

  it.each(['rxe', 'mlx5'])(
    'is registered from a page on where the caller says so, on %s',
    async (provider) => {
      const builder = on(provider);
      const memory = foreign(4096);
      const reuse = { reuse: true };
      expect(builder.plan('write', foreign(4095), reuse)).toMatchObject({ row: 10, registers: 0 });
      expect(
        builder.plan('write', Buffer.from('a slice of the pool, and not inline'.repeat(3)), reuse),
      ).toMatchObject({
        row: 10,
      });
      const first = await builder.map('write', memory, reuse);
      expect(first.plan).toMatchObject({ row: 11, strategy: 'cachedMr', bytesCopied: 0 });
      first.retire(WcStatus.SUCCESS);
      expect(builder.plan('write', memory)).toMatchObject({
        row: 5,
        strategy: 'single',
        registers: 0,
        bytesCopied: 0,
      });
    },
  );

  it('is copied where there is no room to keep it', () => {
    const builder = on('rxe');
    const { pinBudget } = builder.cache;
    expect(pinBudget).toBeGreaterThan(4 * MiB);
    const many = Array.from({ length: 5 }, () => foreign(64 * KiB));
    // Five regions are more than the SGEs of one message.
    expect(builder.plan('send', many, { reuse: true })).toMatchObject({
      row: 10,
      strategy: 'bounce',
      sges: 1,
    });
  });
});

it('a batch, which is used more than once, registers what it would pay to copy each time', async () => {
  const builder = on('rxe');
  for (const [bytes, regions] of [
    [64 * KiB, 0],
    [64 * KiB + 1, 1],
  ] as const) {
    const batch = DmaBatch.start(builder, 'scatter', 'toDevice');
    batch.add(foreign(bytes));
    const before = (builder.pd as FakePd).live.size - builder.arena.stats.slabs;
    await batch.finalize();
    expect((builder.pd as FakePd).live.size - builder.arena.stats.slabs - before).toBe(regions);
    await batch.unmap();
  }
});
