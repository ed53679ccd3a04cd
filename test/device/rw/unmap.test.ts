// What a transfer registered goes again, with one call for all that goes at a time.

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  Access,
  defaultThresholds,
  liveObjects,
  type MemoryRegion,
  Opcode,
  RwContext,
} from '../../../lib/index.ts';
import { devices } from '../helpers/devices.ts';
import { connectedPair, type Pair } from '../helpers/pair.ts';
import { rdmaErrorOf } from '../helpers/rejection.ts';
import { processMemory } from '../lifetime/resources.ts';

const KiB = 1024;

describe.each(devices)('unmapping on $name', ({ name }) => {
  let pair: Pair;
  let rw: RwContext;
  let remote: { bytes: Buffer; mr: MemoryRegion };
  let calls: number[];
  const at = () => ({ addr: remote.mr.addr, rkey: remote.mr.rkey });

  beforeEach(async () => {
    pair = await connectedPair(name, { maxSendWr: 16 });
    // As on a card, which registers where these devices would copy.
    rw = new RwContext(pair.client.qp, defaultThresholds.pinned);
    remote = await pair.memory(512 * KiB);
    calls = [];
    const { pd } = pair;
    const dereg = pd.deregMrs.bind(pd);
    vi.spyOn(pd, 'deregMrs').mockImplementation((regions) => {
      calls.push(regions.length);
      return dereg(regions);
    });
  });
  afterEach(() => pair.close());

  it('the regions of one operation go with one call', async () => {
    const objects = liveObjects();
    const pinned = processMemory('VmPin');
    const parts = [1, 2, 3].map(() => new Uint8Array(100 * KiB));
    expect(await rw.read(parts, at())).toMatchObject({ strategy: 'transientMr' });
    await rw.builder.idle();
    expect(calls).toEqual([3]);
    expect(liveObjects()).toBe(objects);
    expect(processMemory('VmPin')).toBe(pinned);
  });

  it('and so do those of all operations that end in one batch of completions', async () => {
    const objects = liveObjects();
    const options = { force: 'transientMr' } as const;
    const reads = Array.from({ length: 6 }, () => rw.read([new Uint8Array(70 * KiB)], at(), options));
    // Mapped, and posted or carried out.
    await rw.ready();
    const before = calls.reduce((sum, count) => sum + count, 0);
    const { length } = calls;
    pair.client.qp.close();
    await Promise.allSettled(reads);
    await rw.builder.idle();
    expect(calls.reduce((sum, count) => sum + count, 0)).toBe(6);
    if (before < 6) expect(calls.slice(length)).toEqual([6 - before]);
    // The queue pair has gone too.
    expect(liveObjects()).toBe(objects - 1);
  });

  it('a list of regions is closed like each of them', async () => {
    const { pd } = pair;
    const objects = liveObjects();
    const make = () => pd.regMr(new Uint8Array(4 * KiB), Access.LOCAL_WRITE);
    const [one, two, three, used] = [await make(), await make(), await make(), await make()];
    await two.close();
    // Carried out later than the call: the region is closed at once and deregistered when its work has ended.
    const sge = { addr: used.addr, length: 4 * KiB, lkey: used.lkey };
    const { addr: remoteAddr, rkey } = remote.mr;
    const write = { opcode: Opcode.RDMA_WRITE, sges: [sge], remoteAddr, rkey } as const;
    const work = pair.client.qp.send(write);
    const gone = pd.deregMrs([one, two, three, used, one]);
    expect([one, two, three, used].map(({ closed }) => closed)).toEqual([true, true, true, true]);
    const late = await rdmaErrorOf(() =>
      pair.client.qp.send({ ...write, sges: [{ ...sge, lkey: three.lkey }] }),
    );
    expect(late.message).toMatch(/is of no open memory region/);
    await Promise.all([work, gone, one.close(), used.close()]);
    expect(liveObjects()).toBe(objects);
    await pd.deregMrs([]);
    await pd.deregMrs([one, two]);
  });
});
