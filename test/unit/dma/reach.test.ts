// The ways to reach memory that soft devices do not have, and memory given to a peer: on fake devices.

import { describe, expect, it } from 'vitest';
import { DmabufFragment, type Fragment, toPieces } from '../../../lib/dma/fragments.ts';
import type { Extent } from '../../../lib/dma/layout.ts';
import { type DmaOps, dmaOpsOf, setDmaOps } from '../../../lib/dma/ops.ts';
import { SgeBuilder } from '../../../lib/dma/sge-builder.ts';
import type { DmaMr } from '../../../lib/dma/types.ts';
import { RdmaError, WcStatus } from '../../../lib/errors.ts';
import { RwContext } from '../../../lib/rw/rw-context.ts';
import { Access } from '../../../lib/verbs/constants.ts';
import { foreign, pattern } from './bytes.ts';
import { FakePd } from './fake-memory.ts';
import { FakeQp } from './fake-qp.ts';

const PAGE = 4096;
const tick = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('memory of another device', () => {
  const setUp = (peerToPeer: boolean, provider = 'mlx5') => {
    const pd = new FakePd(provider, 'ib', { peerToPeer });
    const memory = foreign(pattern(1000));
    const asked: object[] = [];
    const withDmabuf = Object.assign(pd, {
      regDmabufMr: async (range: { access: number }) => {
        asked.push(range);
        return pd.register(memory, range.access);
      },
    });
    return { pd: withDmabuf, builder: new SgeBuilder(new FakeQp(pd)), asked };
  };

  it('is registered by its descriptor, also of little length, and let go', async () => {
    const { pd, builder, asked } = setUp(true);
    const piece = new DmabufFragment(7, 4096, 1000);
    expect(builder.plan('write', piece)).toMatchObject({ row: 2, strategy: 'transientMr', registers: 1 });
    const mapping = await builder.map('read', [piece]);
    expect(asked).toEqual([{ fd: 7, offset: 4096, length: 1000, access: Access.LOCAL_WRITE }]);
    expect(mapping.wrs[0]!.sges).toMatchObject([{ length: 1000 }]);
    expect(mapping.retire(WcStatus.SUCCESS)).toBeUndefined();
    await builder.idle();
    expect(pd.live.size).toBe(0);
  });

  it('can be forced to what it is anyway, and is refused with the reason where nothing serves', () => {
    const { builder } = setUp(true);
    const piece = new DmabufFragment(7, 0, 20);
    expect(builder.plan('write', [piece, foreign(100)], { force: 'transientMr' })).toMatchObject({
      registers: 2,
    });
    expect(builder.plan('write', [piece, foreign(70_000)], { force: 'cachedMr' })).toMatchObject({
      registers: 2,
    });
    expect(builder.plan('write', [piece, Buffer.from('pool')], {})).toMatchObject({ row: 2, bytesCopied: 4 });
    expect(() =>
      builder.plan(
        'send',
        Array.from({ length: 5 }, () => piece),
      ),
    ).toThrow(/no strategy serves this send: 5 pieces, 100 bytes, 100 of them foreign/);
  });

  it('is never inline, copied or linear', () => {
    const { builder } = setUp(true);
    for (const force of ['inline', 'bounce', 'linear', 'single'] as const) {
      expect(() => builder.plan('write', new DmabufFragment(7, 0, 20), { force })).toThrow(
        /dma-buf memory|dmabuf memory/,
      );
    }
  });

  it.each([
    ['rxe', true],
    ['siw', true],
    ['mlx4', false],
  ] as const)('is refused by %s before any call, by fragment', (provider, dmaBuf) => {
    const { builder, asked } = setUp(dmaBuf, provider);
    const call = () => builder.plan('write', [foreign(10), new DmabufFragment(7, 0, 1000)]);
    expect(call).toThrow(/fragment 1 is dma-buf memory/);
    expect(call).toThrow(expect.objectContaining({ code: 'EOPNOTSUPP' }));
    expect(asked).toEqual([]);
  });

  it('has a descriptor, an offset and a length', () => {
    expect(() => new DmabufFragment(-1, 0, 10)).toThrow(/fd must be an integer/);
    expect(() => new DmabufFragment(1, 0.5, 10)).toThrow(/offset must be an integer/);
    expect(() => new DmabufFragment(1, 0, -1)).toThrow(/length must be an integer/);
    const { builder } = setUp(true);
    expect(builder.plan('write', new DmabufFragment(1, 0, 0))).toMatchObject({ strategy: 'empty' });
  });
});

describe('an indirect memory key', () => {
  it('covers more pieces than SGEs, of any alignment, and is given back', async () => {
    const pd = new FakePd('mlx5');
    delete pd.reserveWindow;
    const built: (readonly Extent[])[] = [];
    let released = 0;
    const indirect = {
      maxExtents: 8,
      build: async (extents: readonly Extent[]) => {
        built.push(extents);
        return {
          addr: 0,
          lkey: 0xabc,
          release: async () => {
            released++;
          },
        };
      },
    };
    const builder = new SgeBuilder(new FakeQp(pd), { indirect, bounceMax: 0 });
    const block = await builder.arena.alloc(PAGE);
    const pieces = Array.from({ length: 6 }, (_, i) => block.bytes.subarray(i * 100, i * 100 + 33));
    expect(builder.plan('send', pieces)).toMatchObject({ row: 9, strategy: 'indirectMkey', sges: 1 });
    const mapping = await builder.map('send', pieces, { force: 'indirectMkey' });
    expect(mapping.wrs[0]!.sges).toEqual([{ addr: 0, length: 6 * 33, lkey: 0xabc }]);
    expect(built[0]!.map(({ addr }) => addr - block.addr)).toEqual([0, 100, 200, 300, 400, 500]);
    mapping.retire(WcStatus.SUCCESS);
    await builder.idle();
    expect(released).toBe(1);
    const many = Array.from({ length: 9 }, (_, i) => block.bytes.subarray(i * 100, i * 100 + 33));
    expect(() => builder.plan('send', many, { force: 'indirectMkey' })).toThrow(
      /9 pieces exceed the 8 extents/,
    );
  });
});

describe('memory for a peer', () => {
  const setUp = async () => {
    const pd = new FakePd('mlx5');
    const builder = new SgeBuilder(new FakeQp(pd));
    const pages = await Promise.all(Array.from({ length: 4 }, () => builder.arena.alloc(PAGE)));
    return { pd, builder, pages, regions: pd.live.size, blocks: builder.arena.stats.blocks };
  };

  it('is one region of exactly its range, or of a window over its pages', async () => {
    const { pd, builder, pages, regions } = await setUp();
    const memory = foreign(70_000);
    const one = await builder.expose(memory.subarray(5, 60_000), Access.REMOTE_WRITE);
    expect(one.descriptor).toMatchObject({ addr: pd.addressOf(memory) + 5, length: 59_995 });
    const linear = await builder.expose([pages[0]!, pages[2]!], Access.REMOTE_READ);
    expect(linear.descriptor.length).toBe(2 * PAGE);
    expect(builder.windows!.stats.links).toBe(2);
    await Promise.all([one.revoke(), one.revoke(), linear[Symbol.asyncDispose]()]);
    expect(builder.windows!.stats.links).toBe(0);
    expect(pd.live.size).toBe(regions);
  });

  it('is a descriptor for each piece that does not join; blocks stay until it is revoked', async () => {
    const { builder, pages, pd, regions, blocks } = await setUp();
    const exposure = await builder.expose(
      [pages[0]!.bytes.subarray(1), pages[2]!.bytes.subarray(3)],
      Access.REMOTE_READ,
    );
    expect(exposure.descriptors.map(({ length }) => length)).toEqual([PAGE - 1, PAGE - 3]);
    expect(exposure.length).toBe(2 * PAGE - 4);
    expect(() => exposure.descriptor).toThrow(/has 2 descriptors/);
    pages[0]!.free();
    expect(builder.arena.stats.blocks).toBe(blocks);
    await exposure.revoke();
    expect(builder.arena.stats.blocks).toBe(blocks - 1);
    expect(pd.live.size).toBe(regions);
  });

  it('is refused where it gives nothing or too much away, and nothing stays', async () => {
    const { builder, pages, pd, regions, blocks } = await setUp();
    const refused: [Parameters<typeof builder.expose>[0], number, RegExp][] = [
      [foreign(10), Access.LOCAL_WRITE, /gives a peer nothing/],
      [[], Access.REMOTE_READ, /no bytes to expose/],
      [Buffer.from('pool'), Access.REMOTE_READ, /fragment 0 is a slice of a shared pool/],
      [[foreign(10), new DmabufFragment(3, 0, 10)], Access.REMOTE_READ, /fragment 1 is dma-buf memory/],
    ];
    for (const [memory, access, why] of refused)
      await expect(builder.expose(memory, access)).rejects.toThrow(why);
    const stale = pages[3]!.bytes;
    pages[3]!.free();
    await expect(builder.expose([pages[0]!, stale], Access.REMOTE_READ)).rejects.toThrow(
      /fragment 1 .*freed/,
    );
    pd.failWith = new RdmaError('ENOMEM', 'fake: no memory');
    await expect(builder.expose([foreign(10), foreign(10)], Access.REMOTE_READ)).rejects.toThrow(/no memory/);
    pd.failWith = undefined;
    expect(pd.live.size).toBe(regions);
    expect(builder.arena.stats.blocks).toBe(blocks - 1);
  });
});

it('a write with a message behind it is one list of work requests', async () => {
  const peer = new FakePd();
  const qp = new FakeQp(new FakePd(), peer);
  const far = foreign(200_000);
  const mr = await peer.regMr(far, Access.REMOTE_WRITE);
  const rw = new RwContext(qp);
  const bytes = foreign(pattern(100_000));
  const written = rw.write(bytes, mr, { message: Buffer.from('done') });
  while (qp.posted.length === 0) await tick();
  expect(qp.calls.map((wrs) => wrs.length)).toEqual([2]);
  qp.run();
  expect((await written).bytes).toBe(100_000);
  expect(qp.messages.map(String)).toEqual(['done']);
  expect(Buffer.from(far).subarray(0, 100_000).equals(Buffer.from(bytes))).toBe(true);
});

it('DmaOps can be replaced, for tests without a device', async () => {
  const pd = new FakePd();
  const real = dmaOpsOf(pd);
  const calls: string[] = [];
  const fake: DmaOps = {
    kind: 'fake',
    maxSegSize: real.maxSegSize,
    p2pSupported: false,
    localKey: (piece) => real.localKey(piece),
    mapSingle: (view, access) => {
      calls.push(`map ${view.length}`);
      return real.mapSingle(view, access);
    },
    unmapSingle: (mr) => {
      calls.push(`unmap ${mr.length}`);
      return real.unmapSingle(mr);
    },
    mapSg: (pieces, access) => real.mapSg(pieces, access),
    unmapSg: (mrs) => real.unmapSg(mrs),
    mappingError: () => false,
    syncForDevice: (block, pieces) => real.syncForDevice(block, pieces),
    syncForCpu: (block, pieces, byteLen) => real.syncForCpu(block, pieces, byteLen),
  };
  setDmaOps(pd, fake);
  const builder = new SgeBuilder(new FakeQp(pd));
  expect(builder.ops.kind).toBe('fake');
  const mapping = await builder.map('write', foreign(100_000));
  mapping.retire(WcStatus.SUCCESS);
  await builder.idle();
  expect(calls).toEqual(['map 100000', 'unmap 100000']);
});

describe('DmaOps', () => {
  it('tell memory without a key from memory with one', async () => {
    const pd = new FakePd('mlx5', 'ib', { peerToPeer: true });
    const { arena, ops } = new SgeBuilder(new FakeQp(pd));
    const block = await arena.alloc(100);
    const keyOf = (fragment: Fragment) => ops.localKey(toPieces(fragment, pd).pieces[0]!);
    expect(keyOf(block.bytes.subarray(10))).toEqual({ addr: block.addr + 10, lkey: block.lkey });
    expect(keyOf(foreign(10))).toBeUndefined();
    expect(keyOf(new DmabufFragment(3, 0, 10))).toBeUndefined();
  });

  it('close the regions of all operations that end together with one call', async () => {
    const pd = new FakePd('mlx5');
    const calls: number[] = [];
    const batched = Object.assign(pd, {
      deregMrs: async (regions: readonly DmaMr[]) => {
        calls.push(regions.length);
        await Promise.all(regions.map((mr) => mr.close()));
      },
    });
    const builder = new SgeBuilder(new FakeQp(batched));
    const memory = () => [foreign(70_000), foreign(80_000)];
    const mappings = await Promise.all([1, 2, 3].map(() => builder.map('write', memory())));
    expect(pd.live.size).toBe(6);
    for (const mapping of mappings) mapping.retire(WcStatus.SUCCESS);
    await builder.idle();
    expect(calls).toEqual([6]);
    expect(pd.live.size).toBe(0);
  });
});
