import { describe, expect, it } from 'vitest';
import { openLocalKey } from '../../../lib/dma/local-key.ts';
import { SgeBuilder } from '../../../lib/dma/sge-builder.ts';
import { RdmaError } from '../../../lib/errors.ts';
import { RwContext } from '../../../lib/rw/rw-context.ts';
import { Access } from '../../../lib/verbs/constants.ts';
import { addressOf } from '../../../lib/verbs/memory-region.ts';
import { foreign, pattern } from './bytes.ts';
import { FakePd } from './fake-memory.ts';
import { FakeQp } from './fake-qp.ts';

const KiB = 1024;
const ALL = Access.LOCAL_WRITE | Access.REMOTE_READ | Access.REMOTE_WRITE;

// No soft device has implicit on-demand paging: this is the fake's alone.
describe('the local key of a device with implicit on-demand paging', () => {
  it('reaches all memory: nothing is registered, nothing copied', async () => {
    const pd = new FakePd('mlx5', 'ib', { implicit: true });
    const peer = new FakePd();
    expect(await openLocalKey(pd)).toBe('allMemory');
    expect(await openLocalKey(pd)).toBe('allMemory');
    expect(pd.live.size).toBe(1);
    const qp = new FakeQp(pd, peer);
    const rw = new RwContext(qp);
    expect(rw.builder.ops.kind).toBe('odp');
    const far = peer.register(new Uint8Array(256 * KiB), ALL);
    const at = { addr: far.addr, rkey: far.rkey };
    const source = [
      foreign(pattern(100 * KiB)),
      Buffer.from('a slice of the pool'),
      foreign(pattern(1000, 3)),
    ];
    const plan = rw.builder.plan('write', source);
    expect(plan).toMatchObject({ row: 6, strategy: 'multi', registers: 0, bytesCopied: 0 });
    expect(plan.reason).toMatch(/memory under the key for all memory/);
    const write = rw.write(source, at);
    qp.run();
    expect((await write).strategy).toBe('multi');
    expect(Buffer.from(far.view.subarray(0, Buffer.concat(source).length))).toEqual(Buffer.concat(source));
    const target = foreign(50 * KiB);
    const read = rw.read(target, at);
    qp.run();
    expect((await read).strategy).toBe('single');
    expect(Buffer.from(target)).toEqual(pattern(100 * KiB).subarray(0, 50 * KiB));
    expect(pd.live.size).toBe(1);
    expect(rw.builder.counters).toMatchObject({ registrations: 0, bytesCopied: 0, inFlight: 0 });
  });

  it("has the processor's addresses where the domain has none of its own", async () => {
    const pd = Object.assign(new FakePd('mlx5', 'ib', { implicit: true }), { addressOf: undefined as never });
    await openLocalKey(pd);
    const builder = new SgeBuilder(new FakeQp(pd, pd, { maxInlineData: 0 }));
    const memory = foreign(100);
    const { wrs } = await builder.map('send', [memory.subarray(10, 20), memory.subarray(50)]);
    const start = addressOf(memory);
    expect(start).toBeGreaterThan(4096);
    expect(wrs[0]!.sges.map(({ addr, length }) => [addr - start, length])).toEqual([
      [10, 10],
      [50, 50],
    ]);
  });

  it('is obtained before there are builders', async () => {
    const pd = new FakePd('mlx5', 'ib', { implicit: true });
    new SgeBuilder(new FakeQp(pd));
    await expect(openLocalKey(pd)).rejects.toThrow(/has builders or contexts already/);
    const late = new FakePd('mlx5', 'ib', { implicit: true });
    const opening = openLocalKey(late);
    new SgeBuilder(new FakeQp(late));
    await expect(opening).rejects.toThrow(/has builders or contexts already/);
    expect(late.live.size).toBe(0);
  });

  it('can be tried again when it could not be registered', async () => {
    const pd = new FakePd('mlx5', 'ib', { implicit: true });
    pd.failWith = new RdmaError('ENOMEM', 'fake');
    await expect(openLocalKey(pd)).rejects.toThrow('fake');
    pd.failWith = undefined;
    expect(await openLocalKey(pd)).toBe('allMemory');
  });
});

describe('the local key of other devices', () => {
  it('is the arena', async () => {
    const pd = new FakePd('rxe', 'ib', { onDemandPaging: true });
    expect(await openLocalKey(pd)).toBe('arena');
    expect(pd.slabSizes).toHaveLength(1);
    const builder = new SgeBuilder(new FakeQp(pd));
    expect(builder.ops.kind).toBe('soft');
    expect(builder.arena.stats).toMatchObject({ slabs: 1, blocks: 0 });
  });
});
