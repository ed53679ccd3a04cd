import { describe, expect, it } from 'vitest';
import { Arena, MAX_SLAB_BYTES, slabOf } from '../../../lib/dma/arena.ts';
import { toPieces } from '../../../lib/dma/fragments.ts';
import { RdmaError } from '../../../lib/errors.ts';
import { Access } from '../../../lib/verbs/constants.ts';
import { detach } from './bytes.ts';
import { FakePd } from './fake-memory.ts';

const code = (expected: string) => expect.objectContaining({ code: expected });

describe('Arena', () => {
  it('is one per protection domain and access', () => {
    const pd = new FakePd();
    const arena = Arena.for(pd);
    expect(Arena.for(pd)).toBe(arena);
    expect(Arena.for(new FakePd())).not.toBe(arena);
    expect(arena.access).toBe(Access.LOCAL_WRITE);
    const open = Arena.for(pd, { access: Access.LOCAL_WRITE | Access.REMOTE_WRITE });
    expect(open).not.toBe(arena);
    expect(() => Arena.for(pd, { slabBytes: 8192 })).toThrow(/slabBytes is 8192.*already has 16777216/);
    expect(Arena.for(pd, { slabBytes: arena.slabBytes })).toBe(arena);
  });

  it('hands out registered memory of exactly the length asked for', async () => {
    const pd = new FakePd();
    const arena = Arena.for(pd, { slabBytes: 65536 });
    expect(arena.tryAlloc(100)).toBeUndefined();
    const buffer = await arena.alloc(100);
    expect(buffer.bytes.length).toBe(100);
    expect(buffer.length).toBe(100);
    const [mr] = [...pd.live];
    expect(mr!.access).toBe(Access.LOCAL_WRITE);
    expect(buffer.lkey).toBe(mr!.lkey);
    expect(buffer.addr).toBe(pd.addressOf(buffer.bytes));
    const second = arena.tryAlloc(1)!;
    expect(second.addr).toBe(buffer.addr + 128);
    expect(slabOf(second.bytes.subarray(0, 1).buffer)?.lkey).toBe(mr!.lkey);
    expect(arena.owns(second.bytes)).toBe(true);
    expect(arena.owns(new Uint8Array(8))).toBe(false);
    expect(arena.stats).toEqual({
      slabs: 1,
      reserved: 65536,
      inUse: 192,
      peak: 192,
      blocks: 2,
      allocations: 2,
    });
    buffer.free();
    expect(arena.stats).toMatchObject({ inUse: 64, peak: 192, blocks: 1, allocations: 2 });
  });

  it('makes a double free an error, and dispose idempotent', async () => {
    const arena = new Arena(new FakePd(), { slabBytes: 4096 });
    const buffer = await arena.alloc(64);
    buffer.free();
    const other = arena.tryAlloc(64)!;
    expect(() => buffer.free()).toThrow(code('ERR_INVALID_STATE'));
    expect(() => buffer.bytes).toThrow(/freed/);
    buffer[Symbol.dispose]();
    expect(other.freed).toBe(false);
    expect(arena.stats.blocks).toBe(1);
    other[Symbol.dispose]();
    expect(arena.stats.blocks).toBe(0);
  });

  it('lets concurrent growths share one slab, and grows again when it is not enough', async () => {
    const pd = new FakePd();
    const arena = new Arena(pd, { slabBytes: 8192 });
    await Promise.all([arena.alloc(4096), arena.alloc(4096)]);
    expect(pd.slabSizes).toEqual([8192]);
    await Promise.all([arena.alloc(8192), arena.alloc(64), arena.alloc(64)]);
    expect(pd.slabSizes).toEqual([8192, 8192, 8192]);
    expect(arena.stats.slabs).toBe(3);
  });

  it('gives a block larger than a slab a slab of its own', async () => {
    const pd = new FakePd();
    const arena = new Arena(pd, { slabBytes: 4096 });
    const big = await arena.alloc(10_000);
    expect(pd.slabSizes).toEqual([16384]);
    expect(big.bytes.length).toBe(10_000);
    big.free();
  });

  it('stays within maxBytes, with a smaller last slab, and says what is in use', async () => {
    const pd = new FakePd();
    const arena = new Arena(pd, { slabBytes: 16384, maxBytes: 24576 });
    await arena.alloc(16384);
    await arena.alloc(8192);
    expect(pd.slabSizes).toEqual([16384, 8192]);
    await expect(arena.alloc(64)).rejects.toThrow(/24576 of maxBytes 24576 are registered and 24576 in use/);
    await expect(arena.alloc(64)).rejects.toMatchObject({ code: 'ENOMEM', errno: -12 });
  });

  it('fails only the allocation whose growth failed, and recovers', async () => {
    const pd = new FakePd();
    const arena = new Arena(pd, { slabBytes: 4096, maxBytes: 8192 });
    const [big, small] = await Promise.allSettled([arena.alloc(16384), arena.alloc(64)]);
    expect(big.status).toBe('rejected');
    expect(small.status).toBe('fulfilled');
    pd.failWith = new RdmaError('ENOMEM', 'fake: RLIMIT_MEMLOCK');
    await expect(arena.alloc(4096)).rejects.toThrow('RLIMIT_MEMLOCK');
    pd.failWith = undefined;
    await expect(arena.alloc(4096)).resolves.toMatchObject({ length: 4096 });
  });

  it('makes do with smaller slabs where little memory may be locked', async () => {
    const pd = new FakePd();
    pd.lockable = 3 * 8192;
    const arena = new Arena(pd, { slabBytes: 65536 });
    await arena.alloc(16384);
    await arena.alloc(100);
    await arena.alloc(4096);
    expect(pd.slabSizes).toEqual([16384, 4096, 4096]);
    await expect(arena.alloc(8192)).rejects.toThrow(/exceed RLIMIT_MEMLOCK/);
    expect(arena.stats).toMatchObject({ slabs: 3, reserved: 24576 });
  });

  it('refuses sizes it cannot serve', () => {
    const arena = new Arena(new FakePd());
    for (const bytes of [0, -1, 1.5, Number.NaN, MAX_SLAB_BYTES + 1]) {
      expect(() => arena.alloc(bytes), String(bytes)).toThrow(code('ERR_OUT_OF_RANGE'));
    }
    for (const slabBytes of [0, 2048, 5000, MAX_SLAB_BYTES * 2]) {
      expect(() => new Arena(new FakePd(), { slabBytes }), String(slabBytes)).toThrow(/slabBytes/);
    }
    expect(() => new Arena(new FakePd(), { maxBytes: 100 })).toThrow(/maxBytes/);
  });

  it('never uses a slab whose buffer was detached', async () => {
    const pd = new FakePd();
    const arena = new Arena(pd, { slabBytes: 4096 });
    const buffer = await arena.alloc(64);
    const { slab } = buffer;
    detach(buffer.bytes);
    expect(slab.usable).toBe(false);
    expect(slab.trouble).toMatch(/detached/);
    const next = await arena.alloc(64);
    expect(next.slab === slab).toBe(false);
    buffer.free();
  });

  it('never uses a slab whose registration is closed, as by its protection domain', async () => {
    const pd = new FakePd();
    const arena = new Arena(pd, { slabBytes: 4096 });
    const block = await arena.alloc(64);
    const view = block.bytes;
    await block.slab.memory.mr.close();
    expect(() => toPieces([view], pd)).toThrow(
      /fragment 0 lies in an arena slab whose registration is closed/,
    );
    expect((await arena.alloc(64)).slab === block.slab).toBe(false);
    expect([arena.owns(view), arena.owns(view.buffer), arena.owns(new ArrayBuffer(1))]).toEqual([
      true,
      true,
      false,
    ]);
  });

  it('asks for huge pages where it was told to, and only there', async () => {
    const pd = new FakePd();
    const asked: unknown[] = [];
    const allocSlab = pd.allocSlab.bind(pd);
    pd.allocSlab = (bytes, access, options?: object) => {
      asked.push(options);
      return allocSlab(bytes, access);
    };
    await new Arena(pd, { hugePages: true }).alloc(1);
    await new Arena(pd).alloc(1);
    expect(asked).toEqual([{ hugePages: true }, undefined]);
  });

  it('has a remote key, which is of use where the access allows it', async () => {
    const pd = new FakePd();
    const access = Access.LOCAL_WRITE | Access.REMOTE_READ;
    const arena = new Arena(pd, { access });
    const { addr, rkey, lkey } = await arena.alloc(100);
    expect(rkey).not.toBe(lkey);
    expect(pd.resolve(addr, 100, rkey, Access.REMOTE_READ, true)[0]).toHaveLength(100);
    expect(() => pd.resolve(addr, 100, rkey, Access.REMOTE_WRITE, true)).toThrow();
    expect(arena.closed).toBe(false);
  });

  it('refuses to close while blocks are in use, then deregisters', async () => {
    const pd = new FakePd();
    const arena = Arena.for(pd, { slabBytes: 4096 });
    const buffer = await arena.alloc(64);
    expect(() => arena.close()).toThrow(/1 blocks \(64 bytes\) in use/);
    expect(pd.live.size).toBe(1);
    buffer.free();
    await arena.close();
    await arena.close();
    expect(pd.live.size).toBe(0);
    expect(() => arena.alloc(1)).toThrow(code('ERR_RDMA_CLOSED'));
    expect(Arena.for(pd)).not.toBe(arena);
  });

  it('closes a slab that was still being registered', async () => {
    const pd = new FakePd();
    const arena = new Arena(pd, { slabBytes: 4096 });
    const late = arena.alloc(64);
    const closed = arena.close();
    await expect(late).rejects.toMatchObject({ code: 'ERR_RDMA_CLOSED' });
    await closed;
    expect(pd.live.size).toBe(0);
  });
});
