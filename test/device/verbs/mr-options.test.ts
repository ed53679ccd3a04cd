import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  Access,
  type Device,
  type MemoryRegion,
  Opcode,
  openDevice,
  type ProtectionDomain,
} from '../../../lib/index.ts';
import { devices } from '../helpers/devices.ts';
import { connectedPair } from '../helpers/pair.ts';
import { rdmaErrorOf } from '../helpers/rejection.ts';

const IOVA = 0x7_0000_0000;
const { LOCAL_WRITE, REMOTE_READ, REMOTE_WRITE, REMOTE_ATOMIC, MW_BIND, ZERO_BASED, ON_DEMAND, HUGETLB } =
  Access;

describe.each(devices)('access flags on $name', ({ name }) => {
  const rxe = name === 'rxe0';
  let device: Device;
  let pd: ProtectionDomain;

  beforeEach(() => {
    device = openDevice(name);
    pd = device.allocPd();
  });
  afterEach(() => device.close());

  it.each([
    ['0', 0],
    ['LOCAL_WRITE', LOCAL_WRITE],
    ['REMOTE_READ', REMOTE_READ],
    ['LOCAL_WRITE | REMOTE_WRITE | REMOTE_READ', LOCAL_WRITE | REMOTE_WRITE | REMOTE_READ],
    ['LOCAL_WRITE | RELAXED_ORDERING', LOCAL_WRITE | Access.RELAXED_ORDERING],
  ])('takes %s', async (_, access) => {
    const mr = await pd.regMr(Buffer.alloc(4096), access);
    expect(mr.access).toBe(access);
    expect(mr.lkey).toBeGreaterThan(0);
    await mr.close();
  });

  it.each([
    ['REMOTE_ATOMIC', LOCAL_WRITE | REMOTE_ATOMIC, /no atomic operations/],
    ['MW_BIND', LOCAL_WRITE | MW_BIND, /no memory windows/],
    ['FLUSH_GLOBAL', LOCAL_WRITE | Access.FLUSH_GLOBAL, /does not have this kind/],
    ['ON_DEMAND', LOCAL_WRITE | ON_DEMAND, /siw0 has no on-demand paging/],
  ])('takes %s on rxe, and says that siw has it not', async (_, access, text) => {
    const attempt = pd.regMr(Buffer.alloc(4096), access, { wholePages: true });
    if (rxe) {
      expect((await attempt).access).toBe(access);
      return;
    }
    const error = await rdmaErrorOf(() => attempt);
    expect(error).toMatchObject({ code: 'EOPNOTSUPP', syscall: 'ibv_reg_mr' });
    expect(error.message).toMatch(text);
  });

  it('has no persistent memory to flush', async () => {
    const error = await rdmaErrorOf(() => pd.regMr(Buffer.alloc(4096), Access.FLUSH_PERSISTENT));
    // rxe could, but these pages are not persistent.
    expect(error.code).toBe(rxe ? 'EINVAL' : 'EOPNOTSUPP');
  });

  it('refuses HUGETLB, which no soft device has', async () => {
    const error = await rdmaErrorOf(() =>
      pd.regMr(Buffer.alloc(4096), ON_DEMAND | HUGETLB, { wholePages: true }),
    );
    expect(error.code).toBe('EOPNOTSUPP');
  });

  it.each([
    [REMOTE_WRITE, /REMOTE_WRITE and REMOTE_ATOMIC need LOCAL_WRITE/],
    [REMOTE_ATOMIC | REMOTE_READ, /access REMOTE_READ \| REMOTE_ATOMIC: .* need LOCAL_WRITE/],
    [HUGETLB, /HUGETLB is for ON_DEMAND regions only/],
    [1 << 10, /not in Access: 0x400/],
  ])('throws for access %i before the device is asked', async (access, text) => {
    expect(() => pd.regMr(Buffer.alloc(8), access)).toThrow(text);
    expect((await rdmaErrorOf(() => pd.regMrSync(Buffer.alloc(8), access))).code).toBe(
      'ERR_INVALID_ARG_VALUE',
    );
  });

  it.each([
    ['iova beyond 2^53', { iova: 2n ** 53n }, /iova must be an integer/],
    ['an iova that ends beyond 2^53', { iova: 2 ** 53 - 4096 }, /iova .*: 8192 bytes end beyond/],
    ['a negative iova', { iova: -1 }, /iova must be an integer/],
    ['a text', { iova: '0' }, /iova must be a number/],
    ['another offset in the page', { iova: IOVA + 8 }, /has offset 8 in its page, memory at .* has 0/],
  ])('refuses as iova %s', async (_, options, text) => {
    const slab = await pd.allocSlab(8192, LOCAL_WRITE);
    expect(() => pd.regMr(slab.buffer, LOCAL_WRITE, options as never)).toThrow(text);
  });

  it('refuses ZERO_BASED with another iova', () => {
    expect(() => pd.regMr(Buffer.alloc(8), ZERO_BASED, { iova: IOVA })).toThrow(/leave one out/);
  });
});

describe.each(devices)('regions with an iova on $name', ({ name }) => {
  const rxe = name === 'rxe0';
  const ALL = LOCAL_WRITE | REMOTE_READ | REMOTE_WRITE;

  /** Writes through the peer's rkey, reads back, and receives, all by [mr]'s addresses. */
  async function transfer(
    pair: Awaited<ReturnType<typeof connectedPair>>,
    mr: MemoryRegion,
    bytes: Uint8Array,
  ) {
    const { bytes: source, mr: sourceMr } = await pair.memory(4096);
    source.fill('written');
    const sges = [{ addr: sourceMr.addr, length: 4096, lkey: sourceMr.lkey }];
    await pair.client.qp.send({ opcode: Opcode.RDMA_WRITE, sges, remoteAddr: mr.addr + 100, rkey: mr.rkey });
    // A READ of the same bytes: on iWARP a completed WRITE has only been handed to TCP.
    const { bytes: sink, mr: sinkMr } = await pair.memory(4096);
    const into = [{ addr: sinkMr.addr, length: 4096, lkey: sinkMr.lkey }];
    await pair.client.qp.send({
      opcode: Opcode.RDMA_READ,
      sges: into,
      remoteAddr: mr.addr + 100,
      rkey: mr.rkey,
    });
    expect(sink.equals(source)).toBe(true);
    expect(Buffer.from(bytes.subarray(100, 4196)).equals(source)).toBe(true);
    expect([...bytes.subarray(0, 100)]).toEqual(new Array(100).fill(0));
    const received = pair.server.qp.recv({ sges: [{ addr: mr.addr + 8000, length: 100, lkey: mr.lkey }] });
    await pair.client.qp.send({ opcode: Opcode.SEND, sges: [], inline: Buffer.from('by iova') });
    await received;
    expect(Buffer.from(bytes.subarray(8000, 8007)).toString()).toBe('by iova');
  }

  it.each([
    ['an iova', LOCAL_WRITE | REMOTE_READ | REMOTE_WRITE, { iova: IOVA }, IOVA],
    ['an iova as a bigint', ALL, { iova: BigInt(IOVA) }, IOVA],
    ['iova 0', ALL, { iova: 0 }, 0],
    ['ZERO_BASED', ALL | ZERO_BASED, {}, 0],
  ])('carry data by %s on rxe; siw would ignore it', async (_, access, options, addr) => {
    const pair = await connectedPair(name);
    const slab = await pair.pd.allocSlab(16_384, LOCAL_WRITE);
    const attempt = pair.pd.regMr(slab.buffer, access, options);
    if (rxe) {
      const mr = await attempt;
      expect(mr).toMatchObject({ addr, length: 16_384, access });
      await transfer(pair, mr, new Uint8Array(slab.buffer));
      await mr.close();
    } else {
      const error = await rdmaErrorOf(() => attempt);
      expect(error).toMatchObject({ code: 'EOPNOTSUPP', syscall: 'ibv_reg_mr_iova2' });
      expect(error.message).toMatch(/siw0 ignores iova/);
    }
    await slab.close();
    await pair.close();
  });

  it('may have the iova that they have anyway', async () => {
    const pair = await connectedPair(name);
    const slab = await pair.pd.allocSlab(16_384, LOCAL_WRITE);
    const mr = await pair.pd.regMr(slab.buffer, ALL, { iova: slab.addr });
    expect(mr.addr).toBe(slab.addr);
    await transfer(pair, mr, new Uint8Array(slab.buffer));
    await mr.close();
    await slab.close();
    await pair.close();
  });

  if (!rxe) return;

  it('are checked by their own addresses', async () => {
    const pair = await connectedPair(name);
    const slab = await pair.pd.allocSlab(8192, LOCAL_WRITE);
    const mr = await pair.pd.regMr(slab.buffer, LOCAL_WRITE, { iova: IOVA });
    const recv = (addr: number, length: number) =>
      rdmaErrorOf(() => pair.server.qp.postRecv({ sges: [{ addr, length, lkey: mr.lkey }] }));
    expect((await recv(slab.addr, 8)).message).toMatch(/range|region/);
    expect((await recv(IOVA - 1, 8)).message).toMatch(/range|region/);
    expect((await recv(IOVA + 8185, 8)).message).toMatch(/range|region/);
    pair.server.qp.postRecv({ sges: [{ addr: IOVA + 8184, length: 8, lkey: mr.lkey }] });
    const gone = mr.close();
    await slab.close();
    await pair.close();
    await gone;
  });

  it('are refused with ON_DEMAND: rxe would read other pages', async () => {
    using device = openDevice(name);
    const pd = device.allocPd();
    const slab = await pd.allocSlab(8192, LOCAL_WRITE);
    const error = await rdmaErrorOf(() =>
      pd.regMr(slab.buffer, LOCAL_WRITE | ON_DEMAND, { iova: IOVA, wholePages: true }),
    );
    expect(error.code).toBe('EOPNOTSUPP');
    expect(error.message).toMatch(/wrong pages of an ON_DEMAND region/);
    await slab.close();
  });
});
