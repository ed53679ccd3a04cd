// What a message can carry beside its bytes, and atomic operations.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  Access,
  Arena,
  type ForceStrategy,
  incRkey,
  liveObjects,
  type MemoryRegion,
  RwContext,
  type RwOptions,
} from '../../../lib/index.ts';
import { inArena, inForeign, inPages, pattern } from '../dma/memory.ts';
import { devices } from '../helpers/devices.ts';
import { connectedPair, type Pair } from '../helpers/pair.ts';
import { rdmaErrorOf } from '../helpers/rejection.ts';

const KiB = 1024;
const ALL = Access.LOCAL_WRITE | Access.REMOTE_READ | Access.REMOTE_WRITE;

describe.each(devices)('operations on $name', ({ name }) => {
  const rxe = name === 'rxe0';
  let pair: Pair;
  let near: RwContext;
  let far: RwContext;
  let remote: { bytes: Buffer; mr: MemoryRegion };

  beforeAll(async () => {
    pair = await connectedPair(name, { maxSendWr: 16, maxRecvWr: 8, maxSendSge: 4, maxRecvSge: 4 });
    near = new RwContext(pair.client.qp);
    far = new RwContext(pair.server.qp);
    remote = await pair.memory(64 * KiB, rxe ? ALL | Access.REMOTE_ATOMIC : ALL);
  });
  afterAll(() => pair.close());

  const at = (offset = 0) => ({ addr: remote.mr.addr + offset, rkey: remote.mr.rkey });
  const arrived = () => near.read(new Uint8Array(1), at());

  describe('atomics', () => {
    it('fetch and add, compare and swap; or a refusal by name', async () => {
      if (!rxe) {
        for (const attempt of [() => near.fetchAdd(at(), 1), () => near.compareAndSwap(at(), 0, 1)]) {
          const error = await rdmaErrorOf(attempt);
          expect(error.code).toBe('EOPNOTSUPP');
          expect(error.message).toBe('siw0 has no atomic operations');
        }
        return;
      }
      // A region from V8 need not begin at a multiple of 8.
      const start = (8 - (remote.mr.addr % 8)) % 8;
      const cell = at(start + 16);
      const value = () => remote.bytes.readBigUInt64LE(start + 16);
      remote.bytes.fill(0xa5);
      remote.bytes.writeBigUInt64LE(2n ** 63n + 5n, start + 16);
      expect(await near.fetchAdd(cell, 7)).toBe(2n ** 63n + 5n);
      expect(value()).toBe(2n ** 63n + 12n);
      expect(await near.fetchAdd(cell, -12)).toBe(2n ** 63n + 12n);
      expect(await near.fetchAdd(cell, 2n ** 63n)).toBe(2n ** 63n);
      expect(value()).toBe(0n);
      expect(await near.compareAndSwap(cell, 0, 2n ** 64n - 1n)).toBe(0n);
      expect(await near.compareAndSwap(cell, 3n, 9)).toBe(2n ** 64n - 1n);
      expect(value()).toBe(2n ** 64n - 1n);
      const around = [remote.bytes.subarray(0, start + 16), remote.bytes.subarray(start + 24)];
      expect(around.every((bytes) => bytes.every((byte) => byte === 0xa5))).toBe(true);

      // Each in an arena slot of its own, none of which stays.
      remote.bytes.writeBigUInt64LE(0n, start + 16);
      const { blocks } = Arena.for(pair.pd).stats;
      const objects = liveObjects();
      const olds = await Promise.all(Array.from({ length: 100 }, () => near.fetchAdd(cell, 1n)));
      expect(olds.sort((a, b) => Number(a - b))).toEqual(Array.from({ length: 100 }, (_, i) => BigInt(i)));
      expect(value()).toBe(100n);
      expect(Arena.for(pair.pd).stats.blocks).toBe(blocks);
      expect(liveObjects()).toBe(objects);
      expect(near.builder.counters.inFlight).toBe(0);
    });

    it('refuse what cannot be', async () => {
      if (!rxe) return expect(pair.device.caps.hasAtomics).toBe(false);
      const start = (8 - (remote.mr.addr % 8)) % 8;
      const cell = at(start);
      for (const [attempt, text] of [
        [() => near.fetchAdd(at(start + 4), 1), /remote.addr 0x[0-9a-f]+ is not divisible by 8/],
        [() => near.fetchAdd(cell, 2n ** 64n), /add must be an integer of 64 bits/],
        [() => near.fetchAdd(cell, 0.5), /add must be an integer of 64 bits/],
        [() => near.compareAndSwap(cell, -1, 0), /expected must be an integer of 64 bits/],
        [() => near.compareAndSwap(cell, 0, 2n ** 70n), /replacement must be an integer of 64 bits/],
        [() => near.fetchAdd({ addr: -8, rkey: 1 }, 1), /remote.addr must be an address/],
      ] as const) {
        expect((await rdmaErrorOf(attempt)).message).toMatch(text);
      }
      expect(() => near.builder.plan('atomic', new Uint8Array(16))).toThrow(/brings 8 bytes.*have 16/);
      const block = await Arena.for(pair.pd).alloc(64);
      expect(near.builder.plan('atomic', block.bytes.subarray(0, 8))).toMatchObject({ strategy: 'single' });
      expect(near.builder.plan('atomic', new Uint8Array(8))).toMatchObject({ strategy: 'bounce' });
      block.free();
    });
  });

  describe('immediate data', () => {
    it('comes with a message', async () => {
      const sink = new Uint8Array(100);
      const received = far.recv(sink);
      await far.ready();
      if (!rxe) {
        const error = await rdmaErrorOf(() => near.send(pattern(10, 1), { immData: 1 }));
        expect(error.code).toBe('EOPNOTSUPP');
        expect(error.message).toMatch(/siw0 has no immediate data/);
        await near.send(pattern(10, 1));
        expect(await received).toEqual({ bytes: 10, strategy: 'bounce' });
        return;
      }
      await near.send(pattern(10, 1), { immData: 0xfedcba98 });
      expect(await received).toEqual({ bytes: 10, strategy: 'bounce', immData: 0xfedcba98 });
      expect(Buffer.from(sink.subarray(0, 10)).equals(pattern(10, 1))).toBe(true);
    });

    it.each(['arena', 'foreign'] as const)(
      'comes with a write, whose receive in %s memory stays as it was',
      async (place) => {
        const block = await Arena.for(pair.pd).alloc(8 * KiB);
        const sink = place === 'arena' ? block.bytes : new Uint8Array(8 * KiB);
        sink.fill(0x5c);
        remote.bytes.fill(0);
        const bytes = pattern(5000, 3);
        const options: RwOptions = { immData: 77 };
        if (!rxe) {
          expect((await rdmaErrorOf(() => near.write(bytes, at(100), options))).code).toBe('EOPNOTSUPP');
          block.free();
          return;
        }
        const received = far.recv(sink);
        await far.ready();
        await near.write(bytes, at(100), options);
        const strategy = place === 'arena' ? 'single' : 'bounce';
        expect(await received).toEqual({ bytes: 0, strategy, immData: 77, writtenBytes: 5000 });
        expect(remote.bytes.subarray(100, 5100).equals(bytes)).toBe(true);
        expect(sink.every((byte) => byte === 0x5c)).toBe(true);

        // A chain: only its last work request takes a receive.
        const second = far.recv(sink);
        await far.ready();
        const parts = inArena(block, [100, 200, 300, 400, 500, 600]);
        parts.put(bytes.subarray(0, 2100));
        const wrote = await near.write(parts.fragments, at(9000), { immData: 0, force: 'chain' });
        expect(wrote).toEqual({ bytes: 2100, strategy: 'chain' });
        expect(await second).toMatchObject({ bytes: 0, immData: 0, writtenBytes: 600 });
        expect(remote.bytes.subarray(9000, 11_100).equals(bytes.subarray(0, 2100))).toBe(true);
        block.free();
      },
    );

    it.each([
      ['inline', [10, 1, 21]],
      ['single', [9001]],
      ['multi', [33, 4096, 7]],
      ['linear', [4096, 8192, 4096, 4096, 4096, 1000]],
      ['bounce', [33, 4096, 1, 7000, 20, 5]],
      ['cachedMr', [5000, 33, 70_000]],
      ['transientMr', [5000, 33, 70_000]],
    ] as [ForceStrategy, number[]][])('comes with a message of strategy %s', async (force, lengths) => {
      const block = await Arena.for(pair.pd).alloc(128 * KiB);
      const sink = await Arena.for(pair.pd).alloc(128 * KiB);
      const own = force === 'cachedMr' || force === 'transientMr';
      const memory = own ? inForeign(lengths) : (force === 'linear' ? inPages : inArena)(block, lengths);
      const bytes = pattern(
        lengths.reduce((sum, length) => sum + length),
        11,
      );
      memory.put(bytes);
      const options = { force, immData: lengths.length };
      if (!rxe) {
        expect((await rdmaErrorOf(() => near.send(memory.fragments, options))).code).toBe('EOPNOTSUPP');
      } else {
        const received = far.recv(sink);
        expect((await near.send(memory.fragments, options)).strategy).toBe(force);
        expect(await received).toMatchObject({ bytes: bytes.length, immData: lengths.length });
        expect(sink.bytes.subarray(0, bytes.length).equals(bytes)).toBe(true);
      }
      block.free();
      sink.free();
    });

    it('comes with the message behind a write', async () => {
      const received = far.recv(new Uint8Array(100));
      await far.ready();
      const bytes = pattern(3000, 4);
      const message = pattern(20, 5);
      await near.write(bytes, at(500), rxe ? { message, immData: 5 } : { message });
      expect(await received).toEqual({
        bytes: 20,
        strategy: 'bounce',
        ...(rxe ? { immData: 5 } : undefined),
      });
      expect(remote.bytes.subarray(500, 3500).equals(bytes)).toBe(true);
    });

    it('is refused where it has no place', async () => {
      for (const [attempt, text] of [
        [
          () => near.read(new Uint8Array(1), at(), { immData: 1 }),
          /immData is for a send or write, not for a read/,
        ],
        [
          () => near.recv(new Uint8Array(1), { immData: 1 }),
          /immData is for a send or write, not for a recv/,
        ],
        [() => near.send(new Uint8Array(1), { immData: -1 }), /options.immData must be an integer from 0/],
        [() => near.send(new Uint8Array(1), { immData: 1, invalidateRkey: 2 }), /exclude each other/],
        [
          () => near.write(new Uint8Array(1), at(), { invalidateRkey: 2 }),
          /or the message of a write, not for a write/,
        ],
        [
          () => near.send(new Uint8Array(1), { message: new Uint8Array(1) }),
          /message is for a write, not for a send/,
        ],
      ] as const) {
        expect((await rdmaErrorOf(attempt)).message).toMatch(text);
      }
      expect(near.waiting + near.outstanding).toBe(0);
    });
  });

  /** A key of the far side that a message can make invalid: a window on rxe, a region on siw. */
  async function revocable(other: Pair): Promise<{ rkey: number; addr: number }> {
    const { mr } = await other.memory(4 * KiB, rxe ? ALL | Access.MW_BIND : ALL);
    if (!rxe) return { rkey: mr.rkey, addr: mr.addr };
    const mw = other.pd.allocMw(2);
    const rkey = incRkey(mw.rkey);
    await other.server.qp.bindMw(mw, {
      mr,
      addr: mr.addr,
      length: 4 * KiB,
      access: Access.REMOTE_READ | Access.REMOTE_WRITE,
    });
    return { rkey, addr: mr.addr };
  }

  /** Two ends of their own, which an invalidated key leaves in the error state, and a key of the receiver's. */
  async function between(
    test: (sender: RwContext, receiver: RwContext, key: { rkey: number; addr: number }) => Promise<void>,
  ): Promise<void> {
    const other = await connectedPair(name);
    try {
      await test(new RwContext(other.client.qp), new RwContext(other.server.qp), await revocable(other));
    } finally {
      await other.close();
    }
  }

  it.each([
    ['inline', [10, 1, 21]],
    ['single', [9001]],
    ['multi', [33, 4096, 7]],
    ['linear', [4096, 8192, 4096, 4096, 4096, 1000]],
    ['bounce', [33, 4096, 1, 7000, 20, 5]],
    ['cachedMr', [5000, 33, 70_000]],
    ['transientMr', [5000, 33, 70_000]],
  ] as [ForceStrategy, number[]][])(
    'a message of strategy %s invalidates a key of the peer',
    async (force, lengths) => {
      const other = await connectedPair(name, { maxSendSge: 4, maxRecvSge: 4 });
      try {
        const sender = new RwContext(other.client.qp);
        const receiver = new RwContext(other.server.qp);
        const block = await Arena.for(other.pd).alloc(128 * KiB);
        const sink = await Arena.for(other.pd).alloc(128 * KiB);
        const registered = force === 'cachedMr' || force === 'transientMr';
        const memory = registered
          ? inForeign(lengths)
          : force === 'linear'
            ? inPages(block, lengths)
            : inArena(block, lengths);
        const bytes = pattern(
          lengths.reduce((sum, length) => sum + length),
          8,
        );
        memory.put(bytes);
        const { rkey, addr } = await revocable(other);
        await sender.write(new Uint8Array(64), { addr, rkey });

        if (force === 'inline' && !rxe) {
          const options = { invalidateRkey: rkey, force };
          const error = await rdmaErrorOf(() => sender.send(memory.fragments, options));
          expect(error.message).toMatch(/takes only plain send and write inline/);
          const received = receiver.recv(sink);
          expect((await sender.send(memory.fragments, { invalidateRkey: rkey })).strategy).toBe('multi');
          expect(await received).toMatchObject({ bytes: 32 });
        } else {
          const received = receiver.recv(sink);
          const sent = await sender.send(memory.fragments, { invalidateRkey: rkey, force });
          expect(sent).toEqual({ bytes: bytes.length, strategy: force });
          // siw does not tell the receiver which key has gone.
          const said = rxe ? { invalidatedRkey: rkey } : undefined;
          expect(await received).toEqual({ bytes: bytes.length, strategy: 'single', ...said });
        }
        expect(sink.bytes.subarray(0, bytes.length).equals(bytes)).toBe(true);
        const error = await rdmaErrorOf(() => sender.read(new Uint8Array(10), { addr, rkey }));
        expect(error.code).toMatch(/ERR_RDMA_WC_(REM_ACCESS|WR_FLUSH)_ERR/);
      } finally {
        await other.close();
      }
    },
  );

  it('an empty message invalidates too', async () => {
    await between(async (sender, receiver, { rkey, addr }) => {
      const received = receiver.recv(new Uint8Array(10));
      await receiver.ready();
      expect((await sender.send([], { invalidateRkey: rkey })).strategy).toBe('empty');
      expect(await received).toMatchObject({ bytes: 0 });
      await rdmaErrorOf(() => sender.read(new Uint8Array(10), { addr, rkey }));
    });
  });

  it('the response behind a write invalidates the key it wrote by', async () => {
    await between(async (sender, receiver, { rkey, addr }) => {
      const received = receiver.recv(new Uint8Array(10));
      await receiver.ready();
      const response = pattern(9, 9);
      await sender.write(new Uint8Array(2000), { addr, rkey }, { message: response, invalidateRkey: rkey });
      expect(await received).toMatchObject({ bytes: 9 });
      await rdmaErrorOf(() =>
        sender
          .write(new Uint8Array(2000), { addr, rkey })
          .then(() => sender.read(new Uint8Array(1), { addr, rkey })),
      );
    });
  });

  it('a message of exactly the receive is whole, and one byte more ends the connection', async () => {
    const other = await connectedPair(name);
    try {
      const sender = new RwContext(other.client.qp);
      const receiver = new RwContext(other.server.qp);
      const sink = new Uint8Array(1000).fill(0x5c);
      const first = receiver.recv(sink.subarray(0, 500));
      const second = receiver.recv(sink.subarray(500, 999));
      const refused = rdmaErrorOf(() => second);
      await receiver.ready();
      await sender.send(pattern(500, 1));
      expect((await first).bytes).toBe(500);
      await Promise.allSettled([sender.send(pattern(500, 2))]);
      const error = await refused;
      expect(error.code).toMatch(/^ERR_RDMA_WC_/);
      // Nothing of it is copied out.
      expect(sink.subarray(500).every((byte) => byte === 0x5c)).toBe(true);
      expect(Arena.for(other.pd).stats.blocks).toBe(0);
    } finally {
      await other.close();
    }
  });

  it('bounced receives bring what came, not what was asked for', async () => {
    const sink = new Uint8Array(5000).fill(0x5c);
    const received = far.recv([sink.subarray(0, 1000), sink.subarray(2000, 5000)]);
    await far.ready();
    await near.send(pattern(1500, 6));
    expect(await received).toEqual({ bytes: 1500, strategy: 'bounce' });
    expect(Buffer.from(sink.subarray(0, 1000)).equals(pattern(1500, 6).subarray(0, 1000))).toBe(true);
    expect(Buffer.from(sink.subarray(2000, 2500)).equals(pattern(1500, 6).subarray(1000))).toBe(true);
    expect(sink.subarray(1000, 2000).every((byte) => byte === 0x5c)).toBe(true);
    expect(sink.subarray(2500).every((byte) => byte === 0x5c)).toBe(true);
    await arrived();
  });
});
