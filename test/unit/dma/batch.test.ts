import { describe, expect, it } from 'vitest';
import type { ArenaBuffer } from '../../../lib/dma/arena.ts';
import { type BatchDirection, DmaBatch, unmapBatch } from '../../../lib/dma/batch.ts';
import { SgeBuilder } from '../../../lib/dma/sge-builder.ts';
import { RdmaError } from '../../../lib/errors.ts';
import { RwContext } from '../../../lib/rw/rw-context.ts';
import { Access } from '../../../lib/verbs/constants.ts';
import { detach, foreign } from './bytes.ts';
import { FakePd } from './fake-memory.ts';
import { FakeQp } from './fake-qp.ts';

const PAGE = 4096;

async function setUp(features: { onDemandPaging?: boolean } = {}) {
  const pd = new FakePd('mlx5', 'ib', features);
  const peer = new FakePd();
  const qp = new FakeQp(pd, peer, { maxSendWr: 8 });
  const rw = new RwContext(qp);
  const { builder } = rw;
  const { arena } = builder;
  // Every second one, so that no two are neighbours.
  const all: ArenaBuffer[] = [];
  for (let i = 0; i < 32; i++) all.push(await arena.alloc(PAGE));
  const pages = all.filter((_, i) => i % 2 === 0);
  for (const [i, page] of pages.entries()) page.bytes.fill(i + 1);
  const far = foreign(64 * 1024);
  const mr = await peer.regMr(far, Access.REMOTE_WRITE | Access.REMOTE_READ | Access.LOCAL_WRITE);
  const remote = { addr: mr.addr, rkey: mr.rkey };
  const regions = pd.live.size;
  return { pd, qp, rw, builder, arena, pages, far, remote, regions };
}

const tick = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('a scatter batch', () => {
  it('has a vector for each stretch, and merges neighbours', async () => {
    const { builder, pages } = await setUp();
    const batch = DmaBatch.start(builder, 'scatter', 'toDevice');
    const [a, b] = pages as [ArenaBuffer, ArenaBuffer];
    for (const part of [a.bytes.subarray(0, 10), a.bytes.subarray(10, 30), foreign(0), b]) {
      expect(batch.add(part)).toBe(true);
    }
    expect(batch.length).toBe(30 + PAGE);
    expect(await batch.finalize()).toEqual([
      { addr: a.addr, length: 30, lkey: a.lkey },
      { addr: b.addr, length: PAGE, lkey: b.lkey },
    ]);
    expect(batch.vecs).toHaveLength(2);
  });

  it('is full at its limits, after trying to merge, and does not take the fragment then', async () => {
    const { builder, pages } = await setUp();
    const batch = DmaBatch.start(builder, 'scatter', 'toDevice', { maxVecs: 2, maxBytes: 9000 });
    expect(batch.add(pages[0]!)).toBe(true);
    expect(batch.add(pages[1]!.bytes.subarray(0, 100))).toBe(true);
    expect(batch.add(pages[2]!)).toBe(false);
    expect(batch.add(pages[1]!.bytes.subarray(100, 200))).toBe(true);
    expect(batch.add(foreign(8000))).toBe(false);
    expect(batch.length).toBe(PAGE + 200);
    expect(await batch.finalize()).toHaveLength(2);
  });

  it('keeps its vectors to maxSeg', async () => {
    const { builder, pages } = await setUp();
    const batch = DmaBatch.start(builder, 'scatter', 'toDevice', { maxSeg: 1500, maxVecs: 3 });
    expect(batch.add(pages[0]!)).toBe(true);
    expect(batch.add(pages[1]!.bytes.subarray(0, 1))).toBe(false);
    expect((await batch.finalize()).map(({ length }) => length)).toEqual([1500, 1500, 1096]);
  });

  it('copies foreign memory, and syncs it when told', async () => {
    const { builder, pages, pd } = await setUp();
    const batch = DmaBatch.start(builder, 'scatter', 'fromDevice');
    const target = foreign(100);
    batch.add(pages[0]!);
    batch.add(target);
    const [, vec] = await batch.finalize();
    pd.resolve(vec!.addr, 100, vec!.lkey, Access.LOCAL_WRITE, false)[0]!.fill(9);
    expect(target.every((byte) => byte === 0)).toBe(true);
    batch.syncForCpu();
    expect(target.every((byte) => byte === 9)).toBe(true);
    await batch.unmap();
  });

  it('takes what the CPU wrote since, when told', async () => {
    const { builder, rw, remote, qp, far, pages } = await setUp();
    const source = foreign(100).fill(1);
    const batch = DmaBatch.start(builder, 'scatter', 'toDevice');
    batch.add(pages[0]!);
    batch.add(source);
    await batch.finalize();
    const sent = async () => {
      const written = rw.write(batch, remote);
      qp.run();
      await written;
      return far[PAGE];
    };
    source.fill(2);
    expect(await sent()).toBe(1);
    batch.syncForDevice();
    expect(await sent()).toBe(2);
    await batch.unmap();
  });

  it('registers larger foreign memory, and undoes it', async () => {
    const { builder, pd, regions } = await setUp();
    const batch = DmaBatch.start(builder, 'scatter', 'fromDevice');
    batch.add(foreign(100 * 1024));
    await batch.finalize();
    expect(pd.live.size).toBe(regions + 1);
    await batch.unmap();
    expect(pd.live.size).toBe(regions);
  });
});

describe.each([false, true])('a linear batch, on-demand paging %s', (onDemandPaging) => {
  it('is one address and one key over discontiguous pages', async () => {
    const { builder, rw, qp, pages, far, remote, arena, pd, regions } = await setUp({ onDemandPaging });
    const batch = DmaBatch.start(builder, 'linear', 'toDevice');
    const parts = [pages[4]!.bytes.subarray(100), pages[1]!, pages[7]!, pages[2]!.bytes.subarray(0, 50)];
    for (const part of parts) expect(batch.add(part)).toBe(true);
    const total = 3996 + PAGE + PAGE + 50;
    const [vec, ...others] = await batch.finalize();
    expect(others).toEqual([]);
    expect(vec).toMatchObject({ length: total });
    expect(vec!.addr % PAGE).toBe(100);

    const written = rw.write(batch, remote);
    expect(batch.state).toBe('busy');
    qp.run();
    await expect(written).resolves.toEqual({ bytes: total, strategy: 'linear' });
    expect(batch.state).toBe('mapped');
    const expected = [
      [5, 3996],
      [2, PAGE],
      [8, PAGE],
      [3, 50],
    ].map(([value, length]) => Buffer.alloc(length!, value));
    expect(Buffer.from(far.buffer, 0, total).equals(Buffer.concat(expected))).toBe(true);
    expect(far[total]).toBe(0);

    await batch.unmap();
    expect(batch.state).toBe('done');
    expect(builder.windows!.stats).toEqual({ windows: 1, links: 0 });
    expect(pd.windows[0]!.links).toEqual([]);
    expect(pd.live.size).toBe(regions + (onDemandPaging ? 1 : 0));
    for (const page of pages) page.free();
    expect(arena.stats.blocks).toBe(16);
  });

  it('uses one window and, on demand, one key again and again', async () => {
    const { builder, pages, pd } = await setUp({ onDemandPaging });
    const keys = new Set<number>();
    for (let i = 0; i < 20; i++) {
      const batch = DmaBatch.start(builder, 'linear', 'toDevice');
      for (let k = 0; k < 3; k++) batch.add(pages[(i * 5 + k * 7) % pages.length]!);
      const [vec] = await batch.finalize();
      keys.add(vec!.lkey);
      await batch.unmap();
    }
    expect(pd.windows).toHaveLength(1);
    expect(keys.size).toBe(onDemandPaging ? 1 : 20);
  });
});

it('on rxe a window has a standing key only for whole pages in every packet', async () => {
  const pd = new FakePd('rxe', 'ib', { onDemandPaging: true });
  const qp = new FakeQp(pd);
  const { builder } = new RwContext(qp);
  const all = await Promise.all(Array.from({ length: 4 }, () => builder.arena.alloc(PAGE)));
  const keyOf = async (first: number): Promise<number> => {
    const batch = DmaBatch.start(builder, 'linear', 'toDevice');
    batch.add(all[0]!.bytes.subarray(first));
    batch.add(all[2]!);
    const [vec] = await batch.finalize();
    await batch.unmap();
    return vec!.lkey;
  };
  const standing = await keyOf(0);
  expect(await keyOf(0)).toBe(standing);
  const others = [await keyOf(64)];
  for (const pathMtu of [1024, undefined]) {
    qp.pathMtu = pathMtu;
    others.push(await keyOf(0));
  }
  expect(new Set([...others, standing]).size).toBe(4);
  qp.pathMtu = 4096;
  expect(await keyOf(0)).toBe(standing);
  await builder.windows!.clear();
  expect(builder.windows!.stats).toEqual({ windows: 0, links: 0 });
  expect(pd.windows.every(({ closed }) => closed)).toBe(true);
  expect(pd.live.size).toBe(1);
});

it('a linear batch of many fragments costs no more for each than the first', async () => {
  const { builder, pages } = await setUp();
  const batch = DmaBatch.start(builder, 'linear', 'toDevice', { maxBytes: 20_000 * PAGE });
  let count = 0;
  while (batch.add(pages[count % pages.length]!)) count++;
  expect(count).toBe(20_000);
  expect(batch.length).toBe(20_000 * PAGE);
  batch.abort();
});

describe('a linear batch', () => {
  it('refuses what cannot join, by fragment and reason, and goes on', async () => {
    const { builder, pages } = await setUp();
    const batch = DmaBatch.start(builder, 'linear', 'toDevice');
    const refusal = (fragment: Parameters<typeof batch.add>[0]): unknown => {
      try {
        return batch.add(fragment);
      } catch (error) {
        const { code, fragment: index, flaw } = error as RdmaError;
        return { code, index, flaw };
      }
    };
    expect(refusal(foreign(PAGE))).toEqual({ code: 'ENOTLINEAR', index: 0, flaw: 'foreign' });
    expect(refusal(pages[0]!.bytes.subarray(7))).toBe(true);
    expect(refusal(pages[1]!.bytes.subarray(7))).toEqual({ code: 'ENOTLINEAR', index: 1, flaw: 'start' });
    expect(refusal(pages[1]!.bytes.subarray(0, 9))).toBe(true);
    expect(refusal(pages[2]!)).toEqual({ code: 'ENOTLINEAR', index: 1, flaw: 'end' });
    expect(refusal(pages[1]!.bytes.subarray(9))).toBe(true);
    expect(refusal(pages[2]!)).toBe(true);
    expect(batch.length).toBe(3 * PAGE - 7);
    expect(await batch.finalize()).toHaveLength(1);
  });

  it('is full when its pages exceed maxBytes', async () => {
    const { builder, pages } = await setUp();
    const batch = DmaBatch.start(builder, 'linear', 'toDevice', { maxBytes: 2 * PAGE });
    expect(batch.add(pages[0]!.bytes.subarray(PAGE - 1))).toBe(true);
    expect(batch.add(pages[1]!)).toBe(true);
    expect(batch.add(pages[2]!.bytes.subarray(0, 1))).toBe(false);
    expect(batch.length).toBe(PAGE + 1);
  });

  it('needs windows', async () => {
    const pd = new FakePd();
    delete pd.reserveWindow;
    const builder = new SgeBuilder(new FakeQp(pd));
    expect(() => DmaBatch.start(builder, 'linear', 'toDevice')).toThrow(
      expect.objectContaining({ code: 'EOPNOTSUPP' }),
    );
  });

  it('leaves nothing behind when linking or registering fails', async () => {
    const { builder, pages, pd, arena, regions } = await setUp();
    for (const message of ['fake: no mappings', 'fake: no memory']) {
      const batch = DmaBatch.start(builder, 'linear', 'toDevice');
      batch.add(pages[0]!);
      batch.add(pages[1]!);
      pd.failWith = new RdmaError('ENOMEM', message);
      await expect(batch.finalize()).rejects.toThrow(message);
      pd.failWith = undefined;
      expect(batch.state).toBe('failed');
      batch.abort();
    }
    expect(builder.windows!.stats.links).toBe(0);
    expect(pd.live.size).toBe(regions);
    pages[0]!.free();
    expect(arena.stats.blocks).toBe(31);
    const batch = DmaBatch.start(builder, 'linear', 'toDevice');
    batch.add(pages[2]!);
    batch.add(pages[1]!);
    await expect(batch.finalize()).resolves.toHaveLength(1);
  });
});

describe('the states of a batch', () => {
  it('refuse what does not fit them', async () => {
    const { builder, pages, rw, remote, qp } = await setUp();
    const batch = DmaBatch.start(builder, 'scatter', 'toDevice');
    await expect(batch.finalize()).rejects.toThrow(expect.objectContaining({ code: 'EBADSTATE' }));
    expect(batch.state).toBe('open');
    expect(() => rw.write(batch, remote)).toThrow(/write of a batch that is open, not mapped or busy/);
    batch.add(pages[0]!);
    await batch.finalize();
    for (const call of [() => batch.add(pages[1]!), () => batch.abort()]) {
      expect(call).toThrow(expect.objectContaining({ code: 'EBADSTATE' }));
    }
    await expect(batch.finalize()).rejects.toThrow(/finalize of a batch that is mapped, not open/);
    expect(() => rw.read(batch, remote)).toThrow(/a batch toDevice cannot serve a read/);
    const used = [rw.write(batch, remote), rw.write(batch, remote)];
    const gone = batch.unmap();
    expect(batch.state).toBe('busy');
    expect(() => rw.write(batch, remote)).toThrow(/write of a batch that is being unmapped/);
    await tick();
    qp.run();
    await Promise.all([...used, gone]);
    expect(batch.state).toBe('done');
    await batch.unmap();
    expect(() => batch.syncForCpu()).toThrow(expect.objectContaining({ code: 'EBADSTATE' }));
    const given = DmaBatch.start(builder, 'scatter', 'toDevice');
    given.abort();
    expect(given.state).toBe('done');
  });

  it('survive an operation that fails', async () => {
    const { builder, pages, rw, remote, qp } = await setUp();
    const batch = DmaBatch.start(builder, 'scatter', 'toDevice');
    batch.add(pages[0]!);
    await batch.finalize();
    const lost = rw.write(batch, { ...remote, rkey: 1 });
    qp.run();
    await expect(lost).rejects.toThrow(/REM_ACCESS_ERR/);
    expect(batch.state).toBe('mapped');
    await batch.unmap();
  });

  it('are over once: giving up and unmapping can be asked for again', async () => {
    const { builder, pages, rw, remote, qp } = await setUp();
    const batch = DmaBatch.start(builder, 'scatter', 'toDevice');
    batch.add(pages[0]!);
    await batch.finalize();
    const written = rw.write(batch, remote);
    const gone = [batch.unmap(), batch.unmap()];
    qp.run();
    await Promise.all([written, ...gone, batch.unmap()]);
    expect(batch.state).toBe('done');
    for (const end of ['abort', 'dispose'] as const) {
      const given = DmaBatch.start(builder, 'scatter', 'toDevice');
      given.add(pages[0]!);
      if (end === 'abort') given.abort();
      else await given[Symbol.asyncDispose]();
      await given.unmap();
      expect(given.state).toBe('done');
      expect(() => given.add(pages[0]!)).toThrow(/add of a batch that is done, not open/);
    }
  });

  it('fail when memory was detached before it could be mapped, and nothing stays', async () => {
    const { builder, pages, arena } = await setUp();
    const { blocks } = arena.stats;
    const lost = foreign(100);
    const batch = DmaBatch.start(builder, 'scatter', 'toDevice');
    for (const fragment of [pages[0]!, foreign(5), pages[1]!, lost]) batch.add(fragment);
    detach(lost);
    await expect(batch.finalize()).rejects.toThrow(/fragment 3 was detached/);
    expect(batch.state).toBe('failed');
    expect(arena.stats.blocks).toBe(blocks);
    await batch[Symbol.asyncDispose]();
    expect(batch.state).toBe('done');
  });

  it('report memory that was detached while the device wrote it', async () => {
    const { builder, rw, remote, qp } = await setUp();
    const target = foreign(100);
    const batch = DmaBatch.start(builder, 'scatter', 'fromDevice');
    batch.add(target);
    await batch.finalize();
    const read = rw.read(batch, remote);
    detach(target);
    qp.run();
    await expect(read).rejects.toThrow(/fragment 0 was detached/);
    await unmapBatch([batch]);
    expect(batch.state).toBe('done');
  });

  it('refuse arguments out of range', async () => {
    const { builder } = await setUp();
    expect(() => DmaBatch.start(builder, 'round' as 'linear', 'toDevice')).toThrow(/mode must be one of/);
    expect(() => DmaBatch.start(builder, 'linear', 'up' as 'toDevice')).toThrow(/direction must be one of/);
    expect(() => DmaBatch.start(builder, 'linear', 'toDevice', { maxBytes: 0 })).toThrow(/limits.maxBytes/);
    expect(() => DmaBatch.start(builder, 'scatter', 'toDevice', { maxVecs: 1.5 })).toThrow(/limits.maxVecs/);
  });
});

describe('an operation on a batch', () => {
  const filled = async (
    builder: SgeBuilder,
    fragments: readonly ArenaBuffer[],
    direction: BatchDirection,
  ) => {
    const batch = DmaBatch.start(builder, 'scatter', direction, { maxVecs: 100 });
    for (const fragment of fragments) expect(batch.add(fragment)).toBe(true);
    await batch.finalize();
    return batch;
  };

  it('may be several READs or WRITEs, as many as the send queue has slots; a message must be one', async () => {
    const { builder, pages, rw, remote, qp, far } = await setUp();
    const many = await filled(builder, [...pages, ...pages, ...pages], 'toDevice');
    expect(() => rw.write(many, remote)).toThrow(
      /a write of this batch needs 12 work requests, and the send queue has 8; use a smaller maxVecs, or linear mode/,
    );
    const some = await filled(builder, pages.slice(0, 9), 'toDevice');
    expect(() => rw.send(some)).toThrow(/a send of this batch needs 3 work requests, and must be one/);
    const received = await filled(builder, pages.slice(0, 9), 'fromDevice');
    expect(() => rw.recv(received)).toThrow(/a recv of this batch needs 3 work requests/);
    expect([many, some, received].map(({ state }) => state)).toEqual(['mapped', 'mapped', 'mapped']);
    const written = rw.write(some, remote);
    expect(qp.posted).toHaveLength(3);
    qp.run();
    await expect(written).resolves.toEqual({ bytes: 9 * PAGE, strategy: 'multi' });
    expect(Array.from({ length: 9 }, (_, i) => far[i * PAGE])).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
    await unmapBatch([many, some, received]);
  });

  it('that is refused names the fragment, by its place', async () => {
    const { builder, pages, rw, remote, qp } = await setUp();
    const batch = await filled(builder, pages.slice(0, 9), 'toDevice');
    const { postSend } = qp;
    qp.postSend = () => {
      throw new RdmaError('EINVAL', 'fake: refused', { posted: 0, wrIndex: 1 });
    };
    await expect(rw.write(batch, remote)).rejects.toMatchObject({ code: 'EINVAL', wrIndex: 1, fragment: 4 });
    qp.postSend = postSend;
    expect(batch.state).toBe('mapped');
    const written = rw.write(batch, remote);
    qp.run();
    await written;
    await batch.unmap();
  });

  it('goes over another queue pair only if its packets are whole pages, where that matters', async () => {
    const pd = new FakePd('rxe', 'ib', { onDemandPaging: true });
    const first = new RwContext(new FakeQp(pd));
    const qp = new FakeQp(pd);
    const second = new RwContext(qp);
    const pages = await Promise.all(Array.from({ length: 3 }, () => first.builder.arena.alloc(PAGE)));
    const batch = DmaBatch.start(first.builder, 'linear', 'toDevice');
    for (const page of [pages[0]!, pages[2]!]) batch.add(page);
    await batch.finalize();
    qp.pathMtu = 1024;
    expect(() => second.send(batch)).toThrow(
      /this send would reach the batch wrongly: .* packets of queue pair 7 are not of whole pages \(path MTU\)/,
    );
    expect(batch.state).toBe('mapped');
    qp.pathMtu = 4096;
    const sent = second.send(batch);
    qp.run();
    await expect(sent).resolves.toEqual({ bytes: 2 * PAGE, strategy: 'linear' });
    await batch.unmap();
  });
});

it('a scatter batch of READ sinks on iWARP hardware has a region for each, never the key of the arena', async () => {
  const pd = new FakePd('cxgb4', 'iwarp');
  const { builder } = new RwContext(new FakeQp(pd));
  const block = await builder.arena.alloc(PAGE);
  const batch = DmaBatch.start(builder, 'scatter', 'fromDevice', { maxVecs: 2 });
  batch.add(block.bytes.subarray(0, 100));
  batch.add(Buffer.from('a slice of the pool'));
  const vecs = await batch.finalize();
  expect(vecs.map(({ length }) => length)).toEqual([100, 19]);
  for (const { lkey } of vecs) expect(lkey).not.toBe(block.lkey);
  expect(pd.live.size).toBe(3);
  await batch.unmap();
  expect(pd.live.size).toBe(1);
});

it('vectors of neighbours under one key are joined, up to maxSeg', async () => {
  const { builder } = await setUp();
  const memory = foreign(300 * 1024);
  const batch = DmaBatch.start(builder, 'scatter', 'toDevice', { maxSeg: 150_000 });
  // Noted by its first use, kept registered from now on.
  (await builder.map('write', memory)).retire(0);
  for (const [from, to] of [
    [0, 200_000],
    [200_000, 230_000],
  ] as const) {
    expect(batch.add(memory.subarray(from, to))).toBe(true);
  }
  const vecs = await batch.finalize();
  expect(vecs.map(({ length }) => length)).toEqual([150_000, 80_000]);
  expect(builder.cache.stats).toMatchObject({ entries: 1, inFlight: 1 });
  await batch.unmap();
  expect(builder.cache.stats.inFlight).toBe(0);
});

it('a batch is unmapped by await using', async () => {
  const { builder, pages, pd, regions } = await setUp();
  {
    const batch = DmaBatch.start(builder, 'linear', 'toDevice');
    batch.add(pages[0]!);
    batch.add(pages[3]!);
    await batch.finalize();
    expect(pd.live.size).toBe(regions + 1);
    await batch[Symbol.asyncDispose]();
  }
  await tick();
  expect(pd.live.size).toBe(regions);
});
