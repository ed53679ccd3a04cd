import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Device, incRkey, liveObjects, openDevice, type ProtectionDomain } from '../../../lib/index.ts';
import { rdmaErrorOf } from '../helpers/rejection.ts';

describe('memory windows of rxe0', () => {
  let device: Device;
  let pd: ProtectionDomain;

  beforeEach(() => {
    device = openDevice('rxe0');
    pd = device.allocPd();
  });
  afterEach(() => device.close());

  it.each([1, 2] as const)('are made of type %i, not bound', (type) => {
    using mw = pd.allocMw(type);
    using other = pd.allocMw(type);
    expect(mw.type).toBe(type);
    expect(mw.rkey).toBeGreaterThan(0);
    expect(mw.rkey >>> 8).not.toBe(other.rkey >>> 8);
    expect(mw.binding).toBeUndefined();
  });

  it.each([0, 3, '1', undefined])('are not made of type %o', async (type) => {
    const error = await rdmaErrorOf(() => pd.allocMw(type as never));
    expect(error.message).toMatch(/type of a memory window must be 1 or 2/);
  });

  it('go with their protection domain', async () => {
    const before = liveObjects();
    const mw = pd.allocMw(1);
    pd.allocMw(2).close();
    pd.close();
    expect(mw.closed).toBe(true);
    expect(liveObjects()).toBe(before - 1);
    expect((await rdmaErrorOf(() => mw.rkey)).code).toBe('ERR_RDMA_CLOSED');
  });
});

describe('memory windows of siw0', () => {
  it('are refused: the device has none', async () => {
    using device = openDevice('siw0');
    const pd = device.allocPd();
    const error = await rdmaErrorOf(() => pd.allocMw(2));
    expect(error).toMatchObject({ code: 'EOPNOTSUPP', syscall: 'ibv_alloc_mw' });
    expect(error.message).toMatch(/siw0 has no memory windows/);
  });
});

describe('incRkey', () => {
  it('changes the low 8 bits only', () => {
    expect(incRkey(0x1234_5601)).toBe(0x1234_5602);
    expect(incRkey(0xffff_ffff)).toBe(0xffff_ff00);
  });
});
