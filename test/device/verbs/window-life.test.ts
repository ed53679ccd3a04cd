import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  Access,
  type MemoryRegion,
  type MemoryWindow,
  Opcode,
  openDevice,
  type QueuePair,
} from '../../../lib/index.ts';
import { connectManually, type ManualPair, manualPair } from '../helpers/manual.ts';
import { rdmaErrorOf } from '../helpers/rejection.ts';
import { kernelObjects, settled } from '../lifetime/resources.ts';

const REMOTE = Access.REMOTE_READ | Access.REMOTE_WRITE;

/** The kernel takes 50 seconds to give up an object that something still holds: in time means in order. */
const IN_TIME = 20_000;

describe('the end of a bound memory window on rxe0', () => {
  let pair: ManualPair;
  let local: { bytes: Buffer; mr: MemoryRegion };
  let target: { bytes: Buffer; mr: MemoryRegion };

  beforeEach(async () => {
    pair = await manualPair();
    local = await pair.memory(4096);
    target = await pair.memory(4096, Access.LOCAL_WRITE | Access.MW_BIND);
  });
  afterEach(() => pair.close());

  const bind = (mw: MemoryWindow, qp: QueuePair = pair.b) =>
    qp.send({
      opcode: Opcode.BIND_MW,
      mw,
      bindInfo: { mr: target.mr, addr: target.mr.addr, length: 64, access: REMOTE },
    });
  const read = (rkey: number, qp: QueuePair = pair.a, length = 16) =>
    qp.send({
      opcode: Opcode.RDMA_READ,
      sges: [{ addr: local.mr.addr, length, lkey: local.mr.lkey }],
      remoteAddr: target.mr.addr,
      rkey,
    });
  const refused = async (work: Promise<unknown>) =>
    expect((await rdmaErrorOf(() => work)).code).toBe('ERR_RDMA_WC_REM_ACCESS_ERR');

  /** Another connection of the same protection domain. */
  function second(): { a: QueuePair; b: QueuePair } {
    const a = pair.pd.createQp({ sendCq: pair.cqA });
    const b = pair.pd.createQp({ sendCq: pair.cqB });
    connectManually(a, b);
    return { a, b };
  }

  it.each([1, 2] as const)('of type %i is the close of the window: the peer is refused', async (type) => {
    const mw = pair.pd.allocMw(type);
    await bind(mw);
    const { rkey } = mw;
    await read(rkey);
    mw.close();
    await refused(read(rkey));
  });

  it.each([1, 2] as const)(
    'of type %i is the close of its region, which the kernel would refuse',
    async (type) => {
      const before = kernelObjects('rxe0').mr;
      const mw = pair.pd.allocMw(type);
      await bind(mw);
      const { rkey } = mw;
      await target.mr.close();
      expect(mw.closed).toBe(true);
      expect(await settled(() => kernelObjects('rxe0').mr, before - 1)).toBe(before - 1);
      await refused(read(rkey));
    },
  );

  it('is the close of its region also while the bind is in flight', async () => {
    const before = kernelObjects('rxe0').mr;
    const mw = pair.pd.allocMw(2);
    const bound = bind(mw);
    const gone = target.mr.close();
    expect(mw.closed).toBe(true);
    await bound;
    await gone;
    expect(await settled(() => kernelObjects('rxe0').mr, before - 1)).toBe(before - 1);
  });

  it('of type 2 is the close of its queue pair, which would wait for the window', {
    timeout: IN_TIME,
  }, async () => {
    const other = second();
    const before = kernelObjects('rxe0').qp;
    const mw = pair.pd.allocMw(2);
    await bind(mw, other.b);
    await read(mw.rkey, other.a);
    other.b.close();
    expect(mw.closed).toBe(true);
    expect(await settled(() => kernelObjects('rxe0').qp, before - 1, 5000)).toBe(before - 1);
    other.a.close();
    await target.mr.close();
  });

  it('of type 2 is that also while the bind is in flight', { timeout: IN_TIME }, async () => {
    const other = second();
    const before = kernelObjects('rxe0').qp;
    const mw = pair.pd.allocMw(2);
    const bound = bind(mw, other.b).catch(() => undefined);
    other.b.close();
    await bound;
    expect(mw.closed).toBe(true);
    expect(await settled(() => kernelObjects('rxe0').qp, before - 1, 5000)).toBe(before - 1);
    await target.mr.close();
  });

  it('is not the close of the queue pair that bound it, for type 1', async () => {
    const other = second();
    const mw = pair.pd.allocMw(1);
    await bind(mw, other.b);
    other.b.close();
    expect(mw.binding?.confirmed).toBe(true);
    await read(mw.rkey);
    mw.close();
  });

  it('is not the close of its queue pair or region once it has been invalidated', async () => {
    const other = second();
    const mw = pair.pd.allocMw(2);
    await bind(mw, other.b);
    await other.b.send({ opcode: Opcode.LOCAL_INV, invalidateRkey: mw.rkey });
    other.b.close();
    expect(mw.closed).toBe(false);
    await bind(mw);
    await read(mw.rkey);
    await pair.b.send({ opcode: Opcode.LOCAL_INV, invalidateRkey: mw.rkey });
    await target.mr.close();
    expect(mw.closed).toBe(false);
    mw.close();
  });

  it('is not the close of a region that it is bound to no more', async () => {
    const mw = pair.pd.allocMw(1);
    await bind(mw);
    const next = await pair.memory(4096, Access.LOCAL_WRITE | Access.MW_BIND);
    await pair.b.send({
      opcode: Opcode.BIND_MW,
      mw,
      bindInfo: { mr: next.mr, addr: next.mr.addr, length: 64, access: REMOTE },
    });
    await target.mr.close();
    expect(mw.closed).toBe(false);
    await next.mr.close();
    expect(mw.closed).toBe(true);
  });

  it('is not an invalidation by the peer: its region goes alone', async () => {
    const mw = pair.pd.allocMw(2);
    await bind(mw);
    const received = pair.b.recv({ sges: [] });
    await pair.a.send({ opcode: Opcode.SEND_WITH_INV, sges: [], invalidateRkey: mw.rkey });
    await received;
    await target.mr.close();
    expect(mw.closed).toBe(false);
  });

  it('comes with that of its protection domain, in the order that the kernel wants', {
    timeout: IN_TIME,
  }, async () => {
    const windows = [1, 2, 2].map((type) => pair.pd.allocMw(type as 1 | 2));
    for (const mw of windows) await bind(mw);
    const { device } = pair;
    const all = kernelObjects('rxe0');
    pair.pd.close();
    expect(windows.map((mw) => mw.closed)).toEqual([true, true, true]);
    const wanted = { pd: all.pd - 1, qp: all.qp - 2, mr: all.mr - 2 };
    const counts = () => {
      const { pd, qp, mr } = kernelObjects('rxe0');
      return { pd, qp, mr };
    };
    expect(await settled(counts, wanted, 5000)).toEqual(wanted);
    expect(device.closed).toBe(false);
  });

  it('of type 2 only serves the queue pair that bound it, of type 1 all of the domain', async () => {
    const other = second();
    const [one, two] = [pair.pd.allocMw(1), pair.pd.allocMw(2)];
    await bind(one);
    await bind(two);
    await read(one.rkey);
    await read(two.rkey);
    await read(one.rkey, other.a);
    await refused(read(two.rkey, other.a));
  });

  it('confines the peer to its access', async () => {
    const mw = pair.pd.allocMw(2);
    await pair.b.send({
      opcode: Opcode.BIND_MW,
      mw,
      bindInfo: { mr: target.mr, addr: target.mr.addr, length: 64, access: Access.REMOTE_WRITE },
    });
    await refused(read(mw.rkey));
  });

  it('does not confine the peer to its range: quirk window-unbounded', async () => {
    expect(pair.device.quirks.map((quirk) => quirk.name)).toContain('window-unbounded');
    const mw = pair.pd.allocMw(2);
    target.bytes.write('behind the window', 64);
    await bind(mw);
    // A kernel that refuses this needs the rule no more.
    await read(mw.rkey, pair.a, 81);
    expect(local.bytes.toString('latin1', 64, 81)).toBe('behind the window');
  });

  it('holds its region against rereg', async () => {
    const mw = pair.pd.allocMw(1);
    await bind(mw);
    const error = await rdmaErrorOf(() => target.mr.rereg({ access: 0 }));
    expect(error).toMatchObject({ code: 'EBUSY', syscall: 'ibv_rereg_mr' });
    mw.close();
    expect((await rdmaErrorOf(() => target.mr.rereg({ access: 0 }))).code).toBe('EOPNOTSUPP');
  });
});

describe.each(['rxe0', 'siw0'] as const)('a protection domain of %s', (name) => {
  it('closes what was made from it, and goes from the kernel', async () => {
    using device = openDevice(name);
    const before = kernelObjects(name);
    const pd = device.allocPd();
    const cq = device.createCq();
    const regions = await Promise.all([
      pd.regMr(Buffer.alloc(100), Access.LOCAL_WRITE),
      pd.regMr(new Uint8Array(200_000), Access.LOCAL_WRITE),
      pd.allocSlab(65_536, Access.LOCAL_WRITE).then((slab) => slab.mr),
    ]);
    const pending = pd.regMr(new Uint8Array(1_000_000), Access.LOCAL_WRITE);
    expect(kernelObjects(name).pd).toBe(before.pd + 1);
    pd.close();
    expect(regions.map((mr) => mr.closed)).toEqual([true, true, true]);
    // One that the pool was still at has nowhere to go.
    expect(await rdmaErrorOf(() => pending)).toMatchObject({ code: 'EBADF', syscall: 'ibv_reg_mr' });
    cq.close();
    expect(await settled(() => kernelObjects(name), before)).toEqual(before);
    expect((await rdmaErrorOf(() => pd.regMr(Buffer.alloc(8), 0))).code).toBe('ERR_RDMA_CLOSED');
  });
});
