import { describe, expect, it } from 'vitest';
import { Arena } from '../../../lib/dma/arena.ts';
import { SgeBuilder } from '../../../lib/dma/sge-builder.ts';
import { RdmaError, WcStatus } from '../../../lib/errors.ts';
import { RwContext, type RwContextOptions } from '../../../lib/rw/rw-context.ts';
import type { RwQp } from '../../../lib/rw/types.ts';
import { Access, SendFlags } from '../../../lib/verbs/constants.ts';
import { detach, foreign, pattern } from '../dma/bytes.ts';
import { FakePd } from '../dma/fake-memory.ts';
import { FakeQp } from '../dma/fake-qp.ts';

const KiB = 1024;
const ALL = Access.LOCAL_WRITE | Access.REMOTE_READ | Access.REMOTE_WRITE;
const tick = () => new Promise((resolve) => setImmediate(resolve));

async function setUp(
  caps: Partial<RwQp['caps']> = {},
  options: RwContextOptions = {},
  provider: 'card' | 'siw' = 'card',
) {
  const pd = new FakePd(provider, provider === 'siw' ? 'iwarp' : 'ib');
  const peer = new FakePd();
  const qp = new FakeQp(pd, peer, caps);
  const far = peer.register(new Uint8Array(256 * KiB), ALL);
  const rw = new RwContext(qp, options);
  const arena = Arena.for(pd);
  const block = await arena.alloc(256 * KiB);
  const at = (offset: number) => ({ addr: far.addr + offset, rkey: far.rkey });
  return { pd, qp, rw, far, at, arena, block };
}

describe('RwContext', () => {
  it('moves bytes both ways, and resolves with what it did', async () => {
    const { qp, rw, far, at, block } = await setUp();
    const data = pattern(5000);
    data.copy(block.bytes);
    const write = rw.write([block.bytes.subarray(0, 2000), block.bytes.subarray(2000, 5000)], at(100));
    expect(qp.posted).toHaveLength(1);
    qp.run();
    await expect(write).resolves.toEqual({ bytes: 5000, strategy: 'single' });
    expect(Buffer.from(far.view.subarray(100, 5100))).toEqual(data);
    const target = foreign(5000);
    const read = rw.read(target, { addr: BigInt(far.addr + 100), rkey: far.rkey });
    qp.run();
    await expect(read).resolves.toEqual({ bytes: 5000, strategy: 'bounce' });
    expect(Buffer.from(target)).toEqual(data);
    const sent = rw.send([foreign(pattern(30)), foreign(pattern(20, 9))]);
    qp.run();
    await expect(sent).resolves.toEqual({ bytes: 50, strategy: 'inline' });
    expect(qp.messages).toEqual([Buffer.concat([pattern(30), pattern(20, 9)])]);
    const received = rw.recv([target.subarray(0, 10), target.subarray(20)]);
    qp.deliver(pattern(15, 77));
    await expect(received).resolves.toMatchObject({ bytes: 15 });
    expect(Buffer.from(target.subarray(20, 25))).toEqual(pattern(15, 77).subarray(10));
    expect(Buffer.from(target.subarray(10, 20))).toEqual(data.subarray(10, 20));
    expect(rw.waiting + rw.outstanding).toBe(0);
  });

  it('signals only the last work request; on siw also those of a page or more', async () => {
    const flags = async (provider: 'card' | 'siw') => {
      const { qp, rw, at, block } = await setUp({ maxSendSge: 1 }, {}, provider);
      void rw.write([block.bytes.subarray(0, 8192), block.bytes.subarray(9000, 9500), block.bytes], at(0));
      return qp.posted.map(({ wr }) => wr.flags);
    };
    expect(await flags('card')).toEqual([0, 0, SendFlags.SIGNALED]);
    expect(await flags('siw')).toEqual([SendFlags.SIGNALED, 0, SendFlags.SIGNALED]);
  });

  it('posts the first operation of a turn at once and the others in one call', async () => {
    const { qp, rw, at, block } = await setUp();
    const reads = Array.from({ length: 5 }, (_, i) =>
      rw.read(block.bytes.subarray(i * 10, i * 10 + 10), at(0)),
    );
    expect(qp.calls.map((call) => call.length)).toEqual([1]);
    await tick();
    expect(qp.calls.map((call) => call.length)).toEqual([1, 4]);
    qp.run();
    await Promise.all(reads);
  });

  it('waits in order when the queue is full: a large operation is not overtaken', async () => {
    const { qp, rw, at, block } = await setUp({ maxSendWr: 4, maxReadSge: 1 }, { chainMax: 4 });
    const done: string[] = [];
    const piece = (i: number) => block.bytes.subarray(i * 100, i * 100 + 50);
    const start = (name: string, pieces: number) =>
      rw
        .read(
          Array.from({ length: pieces }, (_, i) => piece(i)),
          at(0),
        )
        .then(() => done.push(name));
    const all = [start('a', 2), start('b', 4), start('c', 1), start('d', 1), start('e', 3)];
    await tick();
    expect(rw.waiting).toBe(4);
    expect(qp.posted).toHaveLength(2);
    for (let i = 0; i < 50 && done.length < 5; i++) {
      expect(qp.posted.length).toBeLessThanOrEqual(4);
      qp.run(1);
      await tick();
    }
    await Promise.all(all);
    expect(done).toEqual(['a', 'b', 'c', 'd', 'e']);
  });

  it('keeps the order also behind an operation that waits for a registration', async () => {
    const { qp, rw, block } = await setUp();
    const first = rw.send(foreign(100 * KiB));
    const second = rw.send(block.bytes.subarray(0, 100));
    await tick();
    await tick();
    qp.run();
    await Promise.all([first, second]);
    expect(qp.messages.map((message) => message.length)).toEqual([100 * KiB, 100]);
  });

  it('does not send a request before the receive for its answer is posted', async () => {
    const { pd, qp, rw, block } = await setUp();
    const answer = rw.recv(foreign(100 * KiB));
    const request = rw.send(block.bytes.subarray(0, 100));
    expect(qp.posted).toHaveLength(0);
    expect(qp.receives).toHaveLength(0);
    await rw.ready();
    expect(qp.receives).toHaveLength(1);
    expect(qp.posted).toHaveLength(1);
    qp.run();
    qp.deliver(pattern(10));
    await expect(request).resolves.toMatchObject({ bytes: 100 });
    await expect(answer).resolves.toMatchObject({ bytes: 10 });

    // A send called before is not kept waiting, and a receive that fails lets the others go.
    pd.failWith = new RdmaError('EFAULT', 'fake: bad address');
    const before = rw.send(block.bytes.subarray(0, 70));
    const fails = expect(rw.recv(foreign(100 * KiB))).rejects.toThrow('bad address');
    const after = rw.send(block.bytes.subarray(0, 80));
    await fails;
    await tick();
    qp.run();
    await Promise.all([before, after, rw.ready()]);
    expect(qp.messages.map((message) => message.length)).toEqual([100, 70, 80]);
  });

  it('a full receive queue does not hold up sends', async () => {
    const { qp, rw, block } = await setUp();
    const receives = Array.from({ length: 20 }, (_, i) =>
      rw.recv(block.bytes.subarray(i * 100, i * 100 + 50)),
    );
    expect(rw.waiting).toBeGreaterThan(0);
    const send = rw.send(block.bytes.subarray(5000, 5100));
    await tick();
    qp.run();
    await expect(send).resolves.toMatchObject({ bytes: 100 });
    for (let i = 0; i < 20; i++) {
      qp.deliver(pattern(1 + i));
      await tick();
    }
    expect((await Promise.all(receives)).map(({ bytes }) => bytes)).toEqual(receives.map((_, i) => i + 1));
  });

  it('goes on behind an operation whose registration failed', async () => {
    const { pd, qp, rw, block } = await setUp();
    pd.failWith = new RdmaError('EFAULT', 'fake: bad address');
    const sends = [
      rw.send(block.bytes.subarray(0, 90)),
      rw.send(foreign(100 * KiB)),
      rw.send(block.bytes.subarray(0, 100)),
    ];
    await expect(sends[1]).rejects.toThrow('bad address');
    await tick();
    qp.run();
    await Promise.all([sends[0], sends[2]]);
    expect(qp.messages.map((message) => message.length)).toEqual([90, 100]);
    expect(rw.waiting).toBe(0);
  });

  it('waits for slots that somebody else holds', async () => {
    const { qp, rw, block } = await setUp({ maxSendWr: 4 });
    qp.foreignSlots = 4;
    const sent = rw.send(block.bytes.subarray(0, 100));
    await tick();
    expect(qp.posted).toHaveLength(0);
    qp.foreignSlots = 0;
    await new Promise((resolve) => setTimeout(resolve, 20));
    qp.run();
    await expect(sent).resolves.toMatchObject({ bytes: 100 });
  });

  it('keeps the first status that is not a flush, flushes the rest, and unmaps all', async () => {
    const { qp, rw, at, arena } = await setUp({ maxReadSge: 1 });
    const blocks = arena.stats.blocks;
    const bad = rw.read([foreign(10), foreign(20)], { ...at(0), rkey: 1 }, { force: 'bounce' });
    const next = rw.write(foreign(1000), at(0));
    await tick();
    qp.run();
    await expect(bad).rejects.toMatchObject({
      code: 'ERR_RDMA_WC_REM_ACCESS_ERR',
      vendorErr: 42,
      qpNum: 7,
      device: 'fake-card',
    });
    await expect(bad).rejects.toThrow(/read of 30 bytes \(bounce\)/);
    await expect(next).rejects.toMatchObject({ code: 'ERR_RDMA_WC_WR_FLUSH_ERR' });
    expect(qp.errors).toBe(1);
    expect(arena.stats.blocks).toBe(blocks);
    expect(rw.builder.counters).toMatchObject({ inFlight: 0, failed: 2 });
  });

  it('posts nothing more after a failure: what waits ends with a flush', async () => {
    const { pd, qp, rw, at, arena } = await setUp({ maxSendWr: 1 });
    const blocks = arena.stats.blocks;
    const bad = rw.write(foreign(100), { ...at(0), rkey: 1 });
    const waiting = [
      rw.write(foreign(100), at(0)),
      rw.read(foreign(100 * KiB), at(0)),
      rw.recv(foreign(100 * KiB)),
    ];
    qp.run();
    const codes = (await Promise.allSettled([bad, ...waiting])).map((result) =>
      result.status === 'rejected' ? result.reason.code : 'none',
    );
    const flush = 'ERR_RDMA_WC_WR_FLUSH_ERR';
    expect(codes).toEqual(['ERR_RDMA_WC_REM_ACCESS_ERR', flush, flush, flush]);
    await expect(rw.send(foreign(1000))).rejects.toMatchObject({ code: flush });
    expect(qp.posted.length + qp.receives.length).toBe(0);
    expect(qp.calls).toHaveLength(1);
    await rw.builder.idle();
    expect(arena.stats.blocks).toBe(blocks);
    // The peer's region is not of this domain: only the slab's is left.
    expect(pd.live.size).toBe(1);
    expect(rw.builder.counters).toMatchObject({ inFlight: 0, failed: 5 });
  });

  it('reports the cause, not the flush, of a chain that fails in the middle', async () => {
    const { qp, rw, at, far, block } = await setUp({ maxReadSge: 1 });
    const pieces = [0, 1, 2].map((i) => block.bytes.subarray(i * 200, i * 200 + 100));
    const read = rw.read(pieces, at(far.length - 150));
    qp.run();
    await expect(read).rejects.toMatchObject({ code: 'ERR_RDMA_WC_REM_ACCESS_ERR' });
  });

  it('reports the cause also when a flush comes before it', async () => {
    const { qp, rw, at, block } = await setUp({ maxReadSge: 1 });
    const read = rw.read([block.bytes.subarray(0, 10), block.bytes.subarray(20, 30)], at(0));
    for (const status of [WcStatus.WR_FLUSH_ERR, WcStatus.REM_OP_ERR])
      qp.posted.shift()!.retired!(status, 0, 0, 0);
    await expect(read).rejects.toMatchObject({ code: 'ERR_RDMA_WC_REM_OP_ERR' });
  });

  it('a post that fails outright rejects that operation and unmaps it', async () => {
    const { qp, rw, at, arena } = await setUp();
    const blocks = arena.stats.blocks;
    qp.refuseAfter = 0;
    await expect(rw.write(foreign(1000), at(0))).rejects.toMatchObject({ code: 'ENOMEM', posted: 0 });
    expect(arena.stats.blocks).toBe(blocks);
    expect(rw.outstanding).toBe(0);
    expect(rw.builder.counters).toMatchObject({ inFlight: 0, failed: 1 });
    qp.refuseAfter = undefined;
    const good = rw.write(foreign(1000), at(0));
    qp.run();
    await expect(good).resolves.toMatchObject({ bytes: 1000 });
  });

  // The fake's alone: the addon checks all of a list before a provider sees it, and no soft device refuses a later one.
  it('a partial post keeps the mapping until what went has come back', async () => {
    const { qp, rw, at, arena } = await setUp({ maxSendSge: 1 });
    const blocks = arena.stats.blocks;
    qp.refuseAfter = 1;
    const write = rw.write([foreign(50 * KiB), foreign(50 * KiB)], at(0), { force: 'transientMr' });
    let settled = false;
    write
      .catch(() => undefined)
      .finally(() => {
        settled = true;
      });
    await tick();
    await tick();
    expect(qp.posted).toHaveLength(1);
    expect(qp.errors).toBe(1);
    expect(settled).toBe(false);
    expect(rw.builder.counters.inFlight).toBe(1);
    qp.run();
    await expect(write).rejects.toMatchObject({ code: 'ENOMEM', posted: 1, wrIndex: 1, fragment: 1 });
    expect(rw.outstanding).toBe(0);
    await rw.builder.idle();
    expect(arena.stats.blocks).toBe(blocks);
    expect(rw.builder.counters.inFlight).toBe(0);
  });

  it('one bad work request of a batch does not fail the others', async () => {
    const { qp, rw, at, block } = await setUp();
    const post = qp.postSend.bind(qp);
    qp.postSend = (wrs, onRetired) => {
      if ([wrs].flat().some((wr) => (wr as { rkey?: number }).rkey === 666)) {
        throw new RdmaError('ERR_OUT_OF_RANGE', 'fake: checked before the post', { posted: 0 });
      }
      post(wrs, onRetired);
    };
    const write = (i: number, rkey: number) =>
      rw.write(block.bytes.subarray(i * 100, i * 100 + 90), { ...at(0), rkey });
    const good = at(0).rkey;
    const results = Promise.allSettled([write(0, good), write(1, good), write(2, 666), write(3, good)]);
    await tick();
    qp.run();
    expect((await results).map((result) => result.status)).toEqual([
      'fulfilled',
      'fulfilled',
      'rejected',
      'fulfilled',
    ]);
    expect(rw.outstanding).toBe(0);
  });

  it('gives up an operation that waits when its signal was aborted', async () => {
    const { qp, rw, block } = await setUp({ maxSendWr: 1 });
    const controller = new AbortController();
    const first = rw.send(block.bytes.subarray(0, 100));
    const second = rw.send(block.bytes.subarray(0, 200), { signal: controller.signal });
    const third = rw.send(block.bytes.subarray(0, 300));
    controller.abort();
    await tick();
    qp.run(1);
    await expect(second).rejects.toMatchObject({ name: 'AbortError' });
    await tick();
    qp.run(1);
    await Promise.all([first, third]);
    expect(qp.messages.map((message) => message.length)).toEqual([100, 300]);
    expect(() => rw.send(block, { signal: controller.signal })).toThrow(
      expect.objectContaining({ name: 'AbortError' }),
    );
  });

  it('rejects a read whose memory was detached under way', async () => {
    const { qp, rw, at } = await setUp();
    const target = foreign(1000);
    const read = rw.read(target, at(0));
    detach(target);
    qp.run();
    await expect(read).rejects.toThrow(/fragment 0 was detached/);
    expect(rw.builder.counters).toMatchObject({ inFlight: 0, failed: 1 });
  });

  it('throws mistakes at once, before anything is posted', async () => {
    const { qp, rw, at, block } = await setUp({ maxSendWr: 2, maxReadSge: 1 });
    const { rkey, addr } = at(0);
    expect(() => rw.read('text' as never, at(0))).toThrow(/fragments must be/);
    for (const bad of [-1, 2 ** 53, 1.5, Number.NaN, 2n ** 64n]) {
      expect(() => rw.read(block, { addr: bad, rkey }), String(bad)).toThrow(/remote\.addr/);
    }
    for (const bad of [-1, 2 ** 32, 1.5]) {
      expect(() => rw.read(block, { addr, rkey: bad }), String(bad)).toThrow(/remote\.rkey/);
    }
    const five = [0, 1, 2, 3, 4].map((i) => block.bytes.subarray(i * 30_000, i * 30_000 + 20_000));
    expect(() => rw.read(five, at(0))).toThrow(/needs 5 work requests and the send queue has 2/);
    expect(() => new RwContext(qp, { builder: new SgeBuilder(new FakeQp()) })).toThrow(/another queue pair/);
    expect(qp.calls).toEqual([]);
    expect(rw.waiting).toBe(0);
    expect(rw.builder.counters.inFlight).toBe(0);
  });

  it('reaches addresses of all 64 bits', async () => {
    const { qp, rw, block } = await setUp({ maxSendSge: 1 });
    const high = 0xffff_8880_1234_5000n;
    const pieces = [block.bytes.subarray(0, 100), block.bytes.subarray(200, 300)];
    for (const addr of [high, 2 ** 53 - 200, 4096n]) rw.write(pieces, { addr, rkey: 1 }).catch(() => {});
    await tick();
    const addresses = qp.posted.map(({ wr }) => (wr as { remoteAddr: number | bigint }).remoteAddr);
    expect(addresses).toEqual([high, high + 100n, 2n ** 53n - 200n, 2n ** 53n - 100n, 4096, 4196]);
    qp.run();
  });
});
