// Linear transfers on the devices: the user-space IOMMU.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  Access,
  AddressWindow,
  Arena,
  type ArenaBuffer,
  DmaBatch,
  defaultThresholds,
  type MemoryRegion,
  type QueuePair,
  RwContext,
  SgeBuilder,
} from '../../../lib/index.ts';
import { devices } from '../helpers/devices.ts';
import { connectManually, manualPair } from '../helpers/manual.ts';
import { connectedPair, type Pair } from '../helpers/pair.ts';
import { rdmaErrorOf } from '../helpers/rejection.ts';

const PAGE = 4096;
const PAGES = 64;

describe.each(devices)('linear memory on $name', ({ name }) => {
  let pair: Pair;
  let rw: RwContext;
  let remote: { bytes: Buffer; mr: MemoryRegion };
  let arena: Arena;
  let pages: ArenaBuffer[];
  let marker: ArenaBuffer;

  beforeAll(async () => {
    pair = await connectedPair(name, { maxSendWr: 32, maxRecvWr: 8, maxSendSge: 4, maxRecvSge: 4 });
    // As on a card, which registers where these devices would copy.
    rw = new RwContext(pair.client.qp, defaultThresholds.pinned);
    remote = await pair.memory(PAGES * PAGE);
    arena = Arena.for(pair.pd);
    // Every second one, so that no two are neighbours.
    const all: ArenaBuffer[] = [];
    for (let i = 0; i < 2 * PAGES; i++) all.push(await arena.alloc(PAGE));
    pages = all.filter((_, i) => i % 2 === 0);
    marker = await arena.alloc(64);
  });
  afterAll(() => pair.close());

  const at = () => ({ addr: remote.mr.addr, rkey: remote.mr.rkey });
  /** On iWARP a WRITE is complete when TCP has it; the answer to a READ behind it says that it has arrived. */
  const arrived = () => rw.read(marker.bytes.subarray(0, 1), at());

  it('is relinked a thousand times without a wrong byte', async () => {
    const keys = new Set<number>();
    let wrong = 0;
    for (let round = 0; round < 1000; round++) {
      const chosen = Array.from({ length: 8 }, (_, k) => pages[(round * 13 + k * 17) % PAGES]!);
      const batch = DmaBatch.start(rw.builder, 'linear', 'toDevice');
      for (const [k, page] of chosen.entries()) {
        page.bytes.writeUInt32LE(round * 8 + k, 0);
        page.bytes.writeUInt32LE(round * 8 + k, PAGE - 4);
        expect(batch.add(page)).toBe(true);
      }
      const [vec] = await batch.finalize();
      keys.add(vec!.lkey);
      await rw.write(batch, at());
      await arrived();
      for (let k = 0; k < 8; k++) {
        if (remote.bytes.readUInt32LE(k * PAGE) !== round * 8 + k) wrong++;
        if (remote.bytes.readUInt32LE(k * PAGE + PAGE - 4) !== round * 8 + k) wrong++;
      }
      await batch.unmap();
    }
    expect(wrong).toBe(0);

    if (name === 'rxe0') expect(keys.size).toBe(1);
    expect(rw.builder.windows!.stats).toEqual({ windows: 1, links: 0 });
  });

  it('takes in what a READ brings, over more pages than SGEs', async () => {
    for (let i = 0; i < remote.bytes.length; i += 4) remote.bytes.writeUInt32LE(i * 7, i);
    for (const page of pages) page.bytes.fill(0);
    const batch = DmaBatch.start(rw.builder, 'linear', 'fromDevice');
    const parts = [
      pages[9]!.bytes.subarray(96),
      ...pages.slice(20, 40).reverse(),
      pages[3]!.bytes.subarray(0, 40),
    ];
    for (const part of parts) expect(batch.add(part)).toBe(true);
    const [vec] = await batch.finalize();
    expect(vec!.length).toBe(batch.length);
    const { strategy } = await rw.read(batch, at());
    expect(strategy).toBe('linear');
    const bytes = Buffer.concat(parts.map((part) => ('bytes' in part ? part.bytes : part)));
    expect(bytes.equals(remote.bytes.subarray(0, bytes.length))).toBe(true);
    expect(pages[9]!.bytes.subarray(0, 96).every((byte) => byte === 0)).toBe(true);
    expect(pages[3]!.bytes.subarray(40).every((byte) => byte === 0)).toBe(true);
    await batch.unmap();
  });

  it('is chosen by itself for a message of more pieces than SGEs', async () => {
    const big = await arena.alloc(1 << 20);
    const parts = Array.from({ length: 20 }, (_, i) =>
      big.bytes.subarray(i * 8 * PAGE, i * 8 * PAGE + 4 * PAGE),
    );
    const target = await arena.alloc(1 << 20);
    const far = new RwContext(pair.server.qp);
    for (const [i, part] of parts.entries()) part.fill(i + 1);
    const plan = rw.builder.plan('send', parts);
    expect(plan).toMatchObject({ row: 8, strategy: 'linear', wrs: 1, sges: 1, bytesCopied: 0 });
    const received = far.recv(target);
    expect((await rw.send(parts)).strategy).toBe('linear');
    expect((await received).bytes).toBe(20 * 4 * PAGE);
    expect(target.bytes.subarray(0, 20 * 4 * PAGE).equals(Buffer.concat(parts))).toBe(true);
    big.free();
    target.free();
  });

  it('is exposed to a peer under one key, until it is revoked', async () => {
    const chosen = pages.slice(40, 46);
    for (const page of chosen) page.bytes.fill(0);
    const exposure = await rw.builder.expose(chosen, Access.REMOTE_WRITE | Access.REMOTE_READ);
    expect(exposure.descriptors).toHaveLength(1);
    const { descriptor } = exposure;
    expect(descriptor.length).toBe(6 * PAGE);
    const peer = new RwContext(pair.server.qp);
    const bytes = Buffer.alloc(6 * PAGE, 0x5c);
    await peer.write(bytes, descriptor);
    await peer.read(marker.bytes.subarray(0, 1), descriptor);
    expect(Buffer.concat(chosen.map((page) => page.bytes)).equals(bytes)).toBe(true);
    await exposure.revoke();
    expect(rw.builder.windows!.stats.links).toBe(0);
  });

  it('exposes scattered memory by a descriptor for each piece', async () => {
    const own = [new Uint8Array(70_000), new Uint8Array(100_000)];
    const exposure = await rw.builder.expose(own, Access.REMOTE_READ);
    expect(exposure.descriptors.map(({ length }) => length)).toEqual([70_000, 100_000]);
    expect((await rdmaErrorOf(() => exposure.descriptor)).message).toMatch(/has 2 descriptors/);
    own[1]!.fill(3);
    const peer = new RwContext(pair.server.qp);
    const target = new Uint8Array(100_000);
    await peer.read(target, exposure.descriptors[1]!);
    expect(target.every((byte) => byte === 3)).toBe(true);
    await exposure.revoke();
    expect(
      (await rdmaErrorOf(() => rw.builder.expose(Buffer.from('pool'), Access.REMOTE_READ))).message,
    ).toMatch(/slice of a shared pool/);
  });

  it('a window refuses to be linked under a region that holds its pages', async () => {
    const slab = await pair.pd.allocSlab(4 * PAGE, Access.LOCAL_WRITE);
    const window = pair.pd.reserveWindow(4 * PAGE);
    expect(window).toBeInstanceOf(AddressWindow);
    const link = { offset: 0, slab, slabOffset: 2 * PAGE, length: PAGE };
    expect((await rdmaErrorOf(() => window.register(0, PAGE, Access.LOCAL_WRITE))).code).toBe('EFAULT');
    window.link([link]);
    const region = await window.register(0, PAGE, Access.LOCAL_WRITE);
    expect((await rdmaErrorOf(() => window.link([link]))).message).toMatch(/hold its pages/);
    expect((await rdmaErrorOf(() => window.unlink(0, PAGE))).code).toBe('ERR_INVALID_STATE');
    await region.close();
    window.unlink(0, PAGE);
    for (const wrong of [
      { ...link, offset: 4 * PAGE },
      { ...link, length: 100 },
      { ...link, slabOffset: 4 * PAGE },
    ]) {
      expect((await rdmaErrorOf(() => window.link([link, wrong]))).message).toMatch(
        /link 1: .*not whole pages inside/,
      );
    }
    window.close();
    await slab.close();
  });
});

describe('linear memory on rxe0 over a path with small packets', () => {
  const setUp = async (pathMtu: number) => {
    const pair = manualPair({ maxSendWr: 16 }, { rtr: { pathMtu } });
    const builder = new SgeBuilder(pair.a);
    const arena = Arena.for(pair.pd);
    const pages = await Promise.all(Array.from({ length: 16 }, () => arena.alloc(PAGE)));
    for (const [i, { bytes }] of pages.entries()) for (let k = 0; k < PAGE; k++) bytes[k] = i * 16 + (k >> 8);
    const remote = pair.memory(16 * PAGE);
    return { pair, builder, pages, remote, at: { addr: remote.mr.addr, rkey: remote.mr.rkey } };
  };

  it('is registered each time, so that every byte is right', async () => {
    const { pair, builder, pages, remote, at } = await setUp(1024);
    const rw = new RwContext(pair.a, { builder });
    const keys = new Set<number>();
    for (let round = 0; round < 20; round++) {
      const chosen = [0, 2, 4].map((i) => pages[(i + round) % 16]!);
      const batch = DmaBatch.start(builder, 'linear', 'toDevice');
      for (const page of chosen) batch.add(page);
      keys.add((await batch.finalize())[0]!.lkey);
      await rw.write(batch, at);
      const wanted = Buffer.concat(chosen.map(({ bytes }) => bytes));
      expect(remote.bytes.subarray(0, 3 * PAGE).equals(wanted)).toBe(true);
      await batch.unmap();
    }
    expect(keys.size).toBe(20);
    await pair.close();
  });

  it('refuses a batch that stands in on-demand pages for another queue pair', async () => {
    const { pair, builder, pages, remote, at } = await setUp(4096);
    const [c, d] = [0, 1].map(() => pair.pd.createQp({ sendCq: pair.cqA })) as [QueuePair, QueuePair];
    connectManually(c, d, { rtr: { pathMtu: 1024 } });
    const batch = DmaBatch.start(builder, 'linear', 'toDevice');
    for (const i of [9, 3, 6]) batch.add(pages[i]!);
    await batch.finalize();
    const error = await rdmaErrorOf(() => new RwContext(c).write(batch, at));
    expect(error.code).toBe('EOPNOTSUPP');
    expect(error.message).toMatch(/packets of queue pair \d+ are not of whole pages/);
    expect(batch.state).toBe('mapped');
    await new RwContext(pair.a).write(batch, at);
    const wanted = Buffer.concat([9, 3, 6].map((i) => pages[i]!.bytes));
    expect(remote.bytes.subarray(0, 3 * PAGE).equals(wanted)).toBe(true);
    await batch.unmap();
    c.close();
    d.close();
    await pair.close();
  });
});
