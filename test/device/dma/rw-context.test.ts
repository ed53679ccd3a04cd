import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  Access,
  Arena,
  defaultThresholds,
  liveObjects,
  type MemoryRegion,
  RwContext,
} from '../../../lib/index.ts';
import { devices } from '../helpers/devices.ts';
import { connectedPair, type Pair } from '../helpers/pair.ts';
import { rdmaErrorOf } from '../helpers/rejection.ts';
import { pattern } from './memory.ts';

const KiB = 1024;
const REMOTE_BYTES = 512 * KiB;

describe.each(devices)('RwContext on $name', ({ name }) => {
  let pair: Pair;
  let rw: RwContext;
  let remote: { bytes: Buffer; mr: MemoryRegion };
  const at = (offset = 0) => ({ addr: remote.mr.addr + offset, rkey: remote.mr.rkey });

  const connect = async (): Promise<void> => {
    pair = await connectedPair(name, { maxSendWr: 4, maxRecvWr: 8, maxSendSge: 2 });
    // As on a card, which registers where these devices would copy.
    rw = new RwContext(pair.client.qp, defaultThresholds.pinned);
    remote = await pair.memory(REMOTE_BYTES);
    remote.bytes.set(pattern(REMOTE_BYTES, 17));
  };

  describe('over one connection', () => {
    beforeAll(connect);
    afterAll(() => pair.close());

    it('carries many concurrent reads over a short send queue, in order', async () => {
      const arena = Arena.for(pair.pd);
      const block = await arena.alloc(256 * KiB);
      const done: number[] = [];
      const reads = Array.from({ length: 200 }, (_, i) => {
        const offset = (i * 1237) % (REMOTE_BYTES - 2000);
        // Arena, foreign to be copied, and foreign to be registered, so that some wait for more than slots.
        const target =
          i % 3 === 0
            ? block.bytes.subarray(i * 1200, i * 1200 + 1000)
            : i % 3 === 1
              ? new Uint8Array(1000)
              : new Uint8Array(70 * KiB);
        const from = i % 3 === 2 ? 0 : offset;
        return rw.read(target, at(from)).then(() => {
          done.push(i);
          return Buffer.from(target).equals(remote.bytes.subarray(from, from + target.length));
        });
      });
      expect(rw.waiting).toBeGreaterThan(100);
      expect(await Promise.all(reads)).toEqual(Array.from({ length: 200 }, () => true));
      expect(done).toEqual(Array.from({ length: 200 }, (_, i) => i));
      expect(rw.waiting + rw.outstanding).toBe(0);
      block.free();
    });

    it('keeps the order of messages whose strategies differ', async () => {
      const server = new RwContext(pair.server.qp);
      const sizes = [10, 90 * KiB, 500, 70 * KiB, 64, 3000];
      const sinks = sizes.map(() => new Uint8Array(100 * KiB));
      const received = sinks.map((sink) => server.recv(sink));
      await server.ready();
      await Promise.all(sizes.map((size, i) => rw.send(new Uint8Array(pattern(size, i)))));
      expect((await Promise.all(received)).map(({ bytes }) => bytes)).toEqual(sizes);
      sizes.forEach((size, i) => {
        expect(Buffer.from(sinks[i]!.subarray(0, size)).equals(pattern(size, i)), `message ${i}`).toBe(true);
      });
      await server.builder.idle();
    });

    it('leaves no region, no block and no count behind', async () => {
      const arena = Arena.for(pair.pd);
      await rw.builder.idle();
      const objects = liveObjects();
      const { blocks } = arena.stats;
      const registered = rw.builder.counters.registrations;
      for (let round = 0; round < 10; round++) {
        const foreign = [new Uint8Array(100 * KiB), new Uint8Array(100 * KiB)];
        await rw.read(foreign, at());
        await rw.write(foreign, at(200 * KiB));
      }
      // Each buffer is registered for its first use, and to stay at its second.
      expect(rw.builder.counters.registrations - registered).toBe(20);
      await rw.builder.idle();
      await rw.builder.cache.clear();
      expect(liveObjects()).toBe(objects);
      expect(arena.stats.blocks).toBe(blocks);
      expect(rw.builder.counters.inFlight).toBe(0);
    });

    it('refuses an operation that needs more than the whole send queue', async () => {
      const arena = Arena.for(pair.pd);
      using block = await arena.alloc(1024 * KiB);
      const { maxSendWr, maxSendSge } = pair.client.qp.caps;
      const most = maxSendWr * maxSendSge;
      const pieces = Array.from({ length: most + 1 }, (_, i) =>
        block.bytes.subarray(i * 35_000, i * 35_000 + 30_000),
      );
      const error = await rdmaErrorOf(() => rw.write(pieces, at()));
      expect(error.message).toMatch(/it needs 5 work requests and the send queue has 4/);
      expect(error.code).toBe('EMSGSIZE');
      await expect(rw.write(pieces.slice(0, most), at())).resolves.toMatchObject({ strategy: 'chain' });
    });

    it('reports memory that was detached while the device filled it', async () => {
      const { completed } = rw.builder.counters;
      for (const length of [1000, 100 * KiB]) {
        const target = new Uint8Array(length);
        const read = rw.read(target, at());
        structuredClone(target.buffer, { transfer: [target.buffer] });
        const error = await rdmaErrorOf(() => read);
        expect(error.message).toMatch(/fragment 0 was detached/);
      }
      const gone = new Uint8Array(10);
      structuredClone(gone.buffer, { transfer: [gone.buffer] });
      expect((await rdmaErrorOf(() => rw.read(gone, at()))).message).toMatch(/fragment 0 is detached/);
      expect(rw.builder.counters.completed).toBe(completed);
      expect(rw.builder.counters.inFlight).toBe(0);
      await expect(rw.read(new Uint8Array(10), at())).resolves.toMatchObject({ bytes: 10 });
    });

    it('frees an arena block only after the operation on it', async () => {
      const arena = Arena.for(pair.pd);
      const block = await arena.alloc(8192);
      const { blocks } = arena.stats;
      const view = block.bytes;
      const read = rw.read(block, at(77));
      block.free();
      expect(arena.stats.blocks).toBe(blocks);
      await read;
      expect(arena.stats.blocks).toBe(blocks - 1);
      expect(view.equals(remote.bytes.subarray(77, 77 + 8192))).toBe(true);
    });

    it('reaches memory that an arena of its own exposes to peers', async () => {
      const access = Access.LOCAL_WRITE | Access.REMOTE_READ | Access.REMOTE_WRITE;
      const open = new Arena(pair.pd, { access, slabBytes: 64 * KiB });
      const exposed = await open.alloc(5000);
      const bytes = pattern(5000, 3);
      await rw.write(new Uint8Array(bytes), { addr: exposed.addr, rkey: exposed.rkey });
      await rw.read(new Uint8Array(1), { addr: exposed.addr, rkey: exposed.rkey });
      expect(exposed.bytes.equals(bytes)).toBe(true);
      exposed.free();
      await open.close();
    });
  });

  describe('after a failure', () => {
    beforeEach(connect);
    afterEach(() => pair.close());

    it('a wrong rkey rejects, and everything is unmapped', async () => {
      const arena = Arena.for(pair.pd);
      const { blocks } = arena.stats;
      const objects = liveObjects();
      const wrong = { addr: remote.mr.addr, rkey: (remote.mr.rkey ^ 0x00ff_ff00) >>> 0 };
      const bad = rw.read(new Uint8Array(100 * KiB), wrong);
      const behind = [rw.read(new Uint8Array(1000), at()), rw.write(new Uint8Array(100 * KiB), at())];
      const error = await rdmaErrorOf(() => bad);
      // siw has only the flush to show for a READ that the peer refused.
      const codes = ['ERR_RDMA_WC_REM_ACCESS_ERR'];
      if (name === 'siw0') codes.push('ERR_RDMA_WC_WR_FLUSH_ERR');
      expect(codes).toContain(error.code);
      expect(error.message).toMatch(/read of 102400 bytes \(transientMr\)/);
      const rest = await Promise.allSettled(behind);
      expect(rest.map((result) => result.status)).toEqual(['rejected', 'rejected']);
      await rw.builder.idle();
      // The arena may have registered its first slab meanwhile: one region and nothing else is new.
      expect(liveObjects() - objects).toBeLessThanOrEqual(arena.stats.slabs);
      expect(arena.stats.blocks).toBe(blocks);
      expect(rw.builder.counters).toMatchObject({ inFlight: 0, completed: 0, failed: 3 });
      expect(rw.waiting + rw.outstanding).toBe(0);
    });

    it('closing the protection domain takes the arena along', async () => {
      const arena = Arena.for(pair.pd);
      const block = await arena.alloc(1000);
      const { bytes } = block;
      pair.pd.close();
      const error = await rdmaErrorOf(() => rw.read(bytes, at()));
      expect(error.message).toMatch(/fragment 0 lies in an arena slab whose registration is closed/);
      expect((await rdmaErrorOf(() => arena.alloc(1000))).code).toBe('ERR_RDMA_CLOSED');
      block.free();
      await arena.close();
    });

    it('closing the queue pair settles what is posted and what waits', async () => {
      const reads = Array.from({ length: 20 }, () => rw.read(new Uint8Array(100 * KiB), at()));
      const received = rw.recv(new Uint8Array(10));
      pair.client.qp.close();
      const results = await Promise.allSettled([...reads, received]);
      for (const result of results.slice(-5)) {
        expect(result.status).toBe('rejected');
        if (result.status === 'rejected') {
          expect(['ERR_RDMA_WC_WR_FLUSH_ERR', 'ERR_RDMA_CLOSED']).toContain(result.reason.code);
        }
      }
      await rw.builder.idle();
      expect(rw.builder.counters.inFlight).toBe(0);
      expect(Arena.for(pair.pd).stats.blocks).toBe(0);
    });
  });
});
