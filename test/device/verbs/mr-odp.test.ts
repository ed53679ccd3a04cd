import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  Access,
  Advice,
  type Device,
  Opcode,
  openDevice,
  type ProtectionDomain,
} from '../../../lib/index.ts';
import { devices } from '../helpers/devices.ts';
import { connectedPair } from '../helpers/pair.ts';
import { rdmaErrorOf } from '../helpers/rejection.ts';

const PAGES = { wholePages: true };
const ALL = Access.LOCAL_WRITE | Access.REMOTE_READ | Access.REMOTE_WRITE;
const ON_DEMAND = ALL | Access.ON_DEMAND;

describe('on-demand paging on rxe0', () => {
  it('carries data to and from memory whose pages are not there yet', async () => {
    const pair = await connectedPair('rxe0');
    const slab = await pair.pd.allocSlab(1 << 20, ON_DEMAND, PAGES);
    const view = Buffer.from(slab.buffer);
    const { bytes, mr } = await pair.memory(16_384);
    for (let i = 0; i < bytes.length; i += 1) bytes[i] = i % 251;
    const written = Buffer.from(bytes);
    const sges = [{ addr: mr.addr, length: 16_000, lkey: mr.lkey }];
    const remoteAddr = slab.addr + (1 << 19);
    await pair.client.qp.send({ opcode: Opcode.RDMA_WRITE, sges, remoteAddr, rkey: slab.mr.rkey });
    expect(view.subarray(1 << 19, (1 << 19) + 16_000).equals(written.subarray(0, 16_000))).toBe(true);
    bytes.fill(0);
    await pair.client.qp.send({ opcode: Opcode.RDMA_READ, sges, remoteAddr, rkey: slab.mr.rkey });
    expect(bytes.subarray(0, 16_000).equals(written.subarray(0, 16_000))).toBe(true);
    const received = pair.server.qp.recv({ sges: [{ addr: slab.addr, length: 10, lkey: slab.mr.lkey }] });
    await pair.client.qp.send({ opcode: Opcode.SEND, sges: [], inline: Buffer.from('local') });
    await received;
    expect(view.toString('latin1', 0, 5)).toBe('local');
    await slab.close();
    await pair.close();
  });

  it('begins in a page with its first byte only: peers get and leave other bytes, so it takes a promise', async () => {
    const pair = await connectedPair('rxe0');
    const refused = await rdmaErrorOf(() => pair.pd.allocSlab(8192, ON_DEMAND));
    expect(refused.code).toBe('EOPNOTSUPP');
    expect(refused.message).toMatch(
      /rxe0 takes every address in an ON_DEMAND page for its first.*wholePages/,
    );
    expect((await rdmaErrorOf(() => pair.pd.regMr(Buffer.alloc(64), ON_DEMAND))).code).toBe('EOPNOTSUPP');
    expect(pair.device.quirks.map((quirk) => quirk.name)).toContain('on-demand-offset');

    // What would happen without it: a kernel that does this right needs the rule no more.
    const slab = await pair.pd.allocSlab(8192, ON_DEMAND, PAGES);
    const view = Buffer.from(slab.buffer);
    const { bytes, mr } = await pair.memory(64);
    bytes.fill('x');
    const sges = [{ addr: mr.addr, length: 64, lkey: mr.lkey }];
    const remoteAddr = slab.addr + 100;
    await pair.client.qp.send({ opcode: Opcode.RDMA_WRITE, sges, remoteAddr, rkey: slab.mr.rkey });
    expect(view.toString('latin1', 0, 64)).toBe('x'.repeat(64));
    expect(view.toString('latin1', 100, 164)).toBe('\0'.repeat(64));
    await slab.close();
    await pair.close();
  });

  it.each([
    [
      'inside of a page',
      (addr: number, lkey: number) => [{ addr: addr + 8, length: 8, lkey }],
      /SGE 0 begins 8 bytes/,
    ],
    [
      'behind a part of a page',
      (addr: number, lkey: number) => [
        { addr, length: 100, lkey },
        { addr: addr + 4096, length: 8, lkey },
      ],
      /SGE 1 begins 100 bytes/,
    ],
  ])('refuses local memory %s', async (_, sges, text) => {
    const pair = await connectedPair('rxe0');
    const { mr, ...slab } = await pair.pd.allocSlab(8192, ON_DEMAND, PAGES);
    const error = await rdmaErrorOf(() => pair.server.qp.postRecv({ sges: sges(mr.addr, mr.lkey) }));
    expect(error.code).toBe('EOPNOTSUPP');
    expect(error.message).toMatch(text);
    const send = { opcode: Opcode.SEND, sges: sges(mr.addr, mr.lkey) };
    expect((await rdmaErrorOf(() => pair.client.qp.postSend(send))).message).toMatch(text);
    pair.server.qp.postRecv({ sges: [{ addr: mr.addr, length: 4096, lkey: mr.lkey }] });
    expect(slab).toBeDefined();
    const gone = mr.close();
    await pair.close();
    await gone;
  });

  it('has explicit regions only, and says so', async () => {
    using device = openDevice('rxe0');
    expect(device.caps.odp).toMatchObject({ explicit: true, implicit: false });
    const error = await rdmaErrorOf(() => device.allocPd().regImplicitOdp(ALL));
    expect(error.code).toBe('EOPNOTSUPP');
    expect(error.message).toMatch(/rxe0 has on-demand paging of explicit regions only/);
  });

  it('passes advice on; the library of rdma-core 44 has no such call', async () => {
    using device = openDevice('rxe0');
    const slab = await device.allocPd().allocSlab(65_536, ON_DEMAND, PAGES);
    const error = await rdmaErrorOf(() => slab.mr.advise(Advice.PREFETCH_WRITE));
    expect(error).toMatchObject({ code: 'EOPNOTSUPP', syscall: 'ibv_advise_mr' });
    expect(error.message).toMatch(/rxe0/);
    await slab.close();
  });

  it.each([
    ['a range that is not in the region', Advice.PREFETCH, { length: 65_537 }, /range 1 is not in its/],
    ['a key that is none', Advice.PREFETCH, { lkey: 1 }, /range 1: no open memory region/],
    [
      'PREFETCH_WRITE of read-only memory',
      Advice.PREFETCH_WRITE,
      {},
      /range 0: PREFETCH_WRITE needs LOCAL_WRITE/,
    ],
  ])('refuses advice for %s', async (_, advice, change, text) => {
    using device = openDevice('rxe0');
    const pd = device.allocPd();
    const { mr } = await pd.allocSlab(65_536, Access.ON_DEMAND, PAGES);
    const good = { addr: mr.addr, length: 4096, lkey: mr.lkey };
    const error = await rdmaErrorOf(() =>
      pd.adviseMr(advice, [good, { ...good, ...change }], { flush: true }),
    );
    expect(error).toMatchObject({ code: 'EINVAL', syscall: 'ibv_advise_mr' });
    expect(error.message).toMatch(text);
    await mr.close();
  });
});

describe('on-demand paging on siw0', () => {
  let device: Device;
  let pd: ProtectionDomain;

  beforeEach(() => {
    device = openDevice('siw0');
    pd = device.allocPd();
  });
  afterEach(() => device.close());

  it.each([
    ['a region', () => pd.regMr(new Uint8Array(100), Access.ON_DEMAND)],
    ['a large region', () => pd.regMr(new Uint8Array(1 << 20), Access.ON_DEMAND)],
    ['a slab', () => pd.allocSlab(4096, Access.ON_DEMAND)],
    ['all addresses', () => pd.regImplicitOdp(Access.LOCAL_WRITE)],
  ])('is refused for %s', async (_, register) => {
    const error = await rdmaErrorOf(register);
    expect(error.code).toBe('EOPNOTSUPP');
    expect(error.message).toMatch(/siw0 has no on-demand paging/);
  });
});

describe.each(devices)('advice on $name', ({ name }) => {
  it.each([
    [3, /advice must be an integer from 0 to 2/],
    ['PREFETCH', /advice must be a number/],
  ])('is not %o', async (advice, text) => {
    using device = openDevice(name);
    const pd = device.allocPd();
    const error = await rdmaErrorOf(() => pd.adviseMr(advice as never, [{ addr: 0, length: 1, lkey: 1 }]));
    expect(error.message).toMatch(text);
  });

  it('needs ranges of ON_DEMAND regions', async () => {
    using device = openDevice(name);
    const pd = device.allocPd();
    expect((await rdmaErrorOf(() => pd.adviseMr(Advice.PREFETCH, []))).message).toMatch(/ranges must be/);
    const mr = await pd.regMr(Buffer.alloc(64), Access.LOCAL_WRITE);
    expect((await rdmaErrorOf(() => mr.advise(Advice.PREFETCH))).message).toMatch(/is not ON_DEMAND/);
  });
});
