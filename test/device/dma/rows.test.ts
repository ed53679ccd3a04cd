// Every row of the strategy table, chosen by itself, carried out. Row 13 is in faults.test.ts.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  Arena,
  type ArenaBuffer,
  DmabufFragment,
  type DmaOp,
  defaultThresholds,
  type MemoryRegion,
  openLocalKey,
  RwContext,
  rwSizing,
} from '../../../lib/index.ts';
import { devices } from '../helpers/devices.ts';
import { connectedPair, type Pair } from '../helpers/pair.ts';
import { rdmaErrorOf } from '../helpers/rejection.ts';
import { type Guarded, inArena, inForeign, inPages, pattern } from './memory.ts';

const KiB = 1024;
const PAGE = 4096;
const BYTES = 2048 * KiB;

describe.each(devices)('rows on $name', ({ name }) => {
  const siw = name === 'siw0';
  let pair: Pair;
  let near: RwContext;
  let far: RwContext;
  let wary: RwContext;
  let remote: { bytes: Buffer; mr: MemoryRegion };
  let block: ArenaBuffer;
  let farBlock: ArenaBuffer;
  const at = (offset = 0) => ({ addr: remote.mr.addr + offset, rkey: remote.mr.rkey });

  beforeAll(async () => {
    pair = await connectedPair(name, { maxSendWr: 8, maxRecvWr: 8, maxSendSge: 4, maxRecvSge: 4 });
    // As on a card: so much memory need not be moved for rows 8 and 12 to be chosen.
    near = new RwContext(pair.client.qp, defaultThresholds.pinned);
    far = new RwContext(pair.server.qp);
    wary = new RwContext(pair.client.qp, { untrustedPeer: true });
    remote = await pair.memory(BYTES);
    block = await Arena.for(pair.pd).alloc(BYTES);
    farBlock = await Arena.for(pair.pd).alloc(BYTES);
  });
  afterAll(() => pair.close());

  /** Moves bytes with [op]; true when exactly these arrived. */
  async function moves(rw: RwContext, op: DmaOp, memory: Guarded, options = {}): Promise<unknown> {
    const total = memory.fragments.reduce((sum, { length }) => sum + length, 0);
    const bytes = pattern(total, 7);
    const result = await (async () => {
      if (op === 'send' || op === 'write') memory.put(bytes);
      if (op === 'write') {
        const { strategy } = await rw.write(memory.fragments, at(), options);
        await near.read(farBlock.bytes.subarray(0, 1), at(BYTES - 1));
        return { strategy, right: remote.bytes.subarray(0, total).equals(bytes) };
      }
      if (op === 'read') {
        remote.bytes.set(bytes);
        const { strategy } = await rw.read(memory.fragments, at(), options);
        return { strategy, right: memory.get().equals(bytes) };
      }
      if (op === 'send') {
        const received = far.recv(farBlock);
        const { strategy } = await rw.send(memory.fragments, options);
        await received;
        return { strategy, right: farBlock.bytes.subarray(0, total).equals(bytes) };
      }
      const received = rw.recv(memory.fragments, options);
      farBlock.bytes.set(bytes);
      await rw.ready();
      await far.send(farBlock.bytes.subarray(0, total));
      return { strategy: (await received).strategy, right: memory.get().equals(bytes) };
    })();
    return { ...result, damage: memory.damage() };
  }

  const fine = (strategy: string) => ({ strategy, right: true, damage: 0 });
  const all: readonly DmaOp[] = ['send', 'recv', 'write', 'read'];
  const pages = Array.from({ length: 150 }, () => PAGE);
  const rows: [
    row: number,
    strategy: string,
    ops: readonly DmaOp[],
    memory: () => Guarded,
    options?: object,
  ][] = [
    [0, 'empty', all, () => inArena(block, [])],
    [1, 'inline', ['send', 'write'], () => inForeign([10, 20])],
    [5, 'single', all, () => inArena(block, [9001])],
    [6, 'multi', siw ? ['send', 'recv', 'write'] : all, () => inArena(block, [5000, 1, 700])],
    [7, 'chain', ['write', 'read'], () => inArena(block, [5000, 1, 700, 33, 60_000, 5, 900])],
    // More than the send queue takes as a chain, and more than is worth copying.
    [8, 'linear', all, () => inPages(block, pages)],
    [10, 'bounce', all, () => inForeign([5000, 1, 700])],
    [10, 'bounce', ['send', 'recv'], () => inArena(block, [5000, 1, 700, 33, 2000, 5, 900])],
    [11, 'cachedMr', all, () => inForeign([70_000]), { reuse: true }],
    [12, 'transientMr', all, () => inForeign([70_000, 100, 5000])],
  ];
  describe.each(rows)('row %i, %s', (row, strategy, ops, memory, options = {}) => {
    it.each(ops)('%s', async (op) => {
      const guarded = memory();
      const plan = near.builder.plan(op, guarded.fragments, options);
      expect(plan).toMatchObject({ row, strategy });
      expect(await moves(near, op, guarded, options)).toEqual(fine(strategy));
      await near.builder.idle();
      expect(near.builder.windows!.stats.links).toBe(0);
    });
  });

  it('copies more than a card would, for the driver copies too, and registers what is used again', async () => {
    const rw = new RwContext(pair.client.qp);
    expect(rw.builder.ops.kind).toBe('soft');
    expect(rw.builder.thresholds).toEqual(defaultThresholds.soft);
    const large = inForeign([700 * KiB, 300 * KiB]);
    expect(rw.builder.plan('read', large.fragments)).toMatchObject({
      row: 10,
      strategy: 'bounce',
      registers: 0,
    });
    expect(await moves(rw, 'read', large)).toEqual(fine('bounce'));
    const small = inForeign([8 * KiB]);
    const options = { reuse: true };
    expect(await moves(rw, 'write', small, options)).toEqual(fine('cachedMr'));
    expect(await moves(rw, 'write', small, options)).toEqual(fine('single'));
    const pieces = inArena(block, [500, 700, 900, 300, 200]);
    expect(rw.builder.plan('write', pieces.fragments)).toMatchObject({ row: 10, wrs: 1, bytesCopied: 2600 });
    expect(await moves(rw, 'write', pieces)).toEqual(fine('bounce'));
  });

  it('row 2: a dma-buf is refused by name before anything is tried', async () => {
    for (const op of all) {
      const error = await rdmaErrorOf(() => near.builder.plan(op, [block, new DmabufFragment(0, 0, PAGE)]));
      expect(error).toMatchObject({ code: 'EOPNOTSUPP', fragment: 1 });
      expect(error.message).toMatch(/this device does not reach memory of other devices/);
    }
  });

  it('row 4: on iWARP the sink of a READ from an untrusted peer has a region of its own', async () => {
    const memory = inArena(block, [5000, 700, 20_000]);
    const plan = wary.builder.plan('read', memory.fragments);
    if (!siw) {
      expect(plan).toMatchObject({ row: 6, strategy: 'multi' });
      return;
    }
    expect(plan).toMatchObject({ row: 4, strategy: 'transientMr', wrs: 3, registers: 3 });
    expect(plan.reason).toMatch(/an MR of exactly its range, not the arena key/);
    expect(await moves(wary, 'read', memory)).toEqual(fine('transientMr'));
    const own = inForeign([5000, 70_000]);
    expect(wary.builder.plan('read', own.fragments)).toMatchObject({ row: 4, registers: 2 });
    expect(await moves(wary, 'read', own)).toEqual(fine('transientMr'));
    // A slice of the pool is copied, and the block registered, not the page of others.
    const pooled = Buffer.from('a slice of the pool');
    remote.bytes.write('from somewhere else');
    expect((await wary.read(pooled, at())).strategy).toBe('transientMr');
    expect(pooled.toString()).toBe('from somewhere else');
    // Everything else goes as ever.
    expect(wary.builder.plan('write', memory.fragments)).toMatchObject({ row: 6 });
    await wary.builder.idle();
  });

  it('row 9: there are no indirect keys', async () => {
    const error = await rdmaErrorOf(() => near.builder.plan('send', block, { force: 'indirectMkey' }));
    expect(error.message).toMatch(/this device has no indirect memory keys/);
  });

  it('no row: the error has the numbers', async () => {
    const parts = inForeign(Array.from({ length: 30 }, () => 5000)).fragments;
    const error = await rdmaErrorOf(() => near.send(parts));
    expect(error.code).toBe('EMSGSIZE');
    expect(error.message).toMatch(
      /30 pieces, 150000 bytes, 150000 of them foreign; send must be one work request/,
    );
  });

  it('the local key is the arena: there is no key for all memory', async () => {
    expect(pair.device.caps.odp.implicit).toBe(false);
    expect(await openLocalKey(pair.pd)).toBe('arena');
    expect(near.builder.ops.kind).toBe('soft');
  });

  it('a queue pair of the size that a load needs posts all of it at once', async () => {
    const load = { operations: 20, fragments: 9, bytes: 90 * KiB, sends: 3, receives: 2 };
    const size = rwSizing(pair.device, load);
    expect(size.concurrent).toBe(20);
    const other = await connectedPair(name, { cqe: size.cqe, ...size.qp });
    try {
      // Drivers round queues up, and all that they gave may be in the completion queue at once.
      const { maxSendWr, maxRecvWr } = other.client.qp.caps;
      expect(maxSendWr + maxRecvWr).toBeLessThanOrEqual(size.cqe);
      const rw = new RwContext(other.client.qp);
      const target = await other.memory(256 * KiB);
      const arena = await Arena.for(other.pd).alloc(4096 * KiB);
      const peer = new RwContext(other.server.qp);
      const received = [peer.recv(arena.bytes.subarray(-100)), peer.recv(arena.bytes.subarray(-300, -200))];
      // On iWARP a message that finds no receive ends the connection.
      await peer.ready();
      const { addr, rkey } = target.mr;
      const work = Array.from({ length: load.operations }, (_, i) => {
        const parts = Array.from({ length: load.fragments }, (_, k) => {
          const start = (i * load.fragments + k) * 12_000;
          return arena.bytes.subarray(start, start + 10_000);
        });
        return i % 2 === 0 ? rw.read(parts, { addr, rkey }) : rw.write(parts, { addr, rkey });
      });
      const sends = [rw.send(arena.bytes.subarray(0, 90)), rw.send(arena.bytes.subarray(0, 90))];
      await new Promise((resolve) => queueMicrotask(() => resolve(undefined)));
      expect(rw.waiting).toBe(0);
      const results = await Promise.all(work);
      expect(new Set(results.map(({ strategy }) => strategy))).toEqual(new Set(['chain']));
      await Promise.all([...sends, ...received]);
    } finally {
      await other.close();
    }
    // One that is too small makes operations wait, and nothing else.
    expect(RwContext.maxSendWr(pair.device, load)).toBe(size.qp.maxSendWr);
  });
});
