/** Device memory, thread domains and parent domains, which no soft device has: they say so. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Access, type Device, openDevice, type ProtectionDomain } from '../../../lib/index.ts';
import { devices } from '../helpers/devices.ts';
import { rdmaErrorOf } from '../helpers/rejection.ts';

describe.each(devices)('what $name does not have', ({ name }) => {
  let device: Device;
  let pd: ProtectionDomain;
  beforeEach(() => {
    device = openDevice(name);
    pd = device.allocPd();
  });
  afterEach(() => device.close());

  it('refuses device memory', async () => {
    expect(device.caps.deviceMemory).toBe(false);
    const error = await rdmaErrorOf(() => device.allocDm(4096));
    expect(error).toMatchObject({ code: 'EOPNOTSUPP', syscall: 'ibv_alloc_dm' });
    expect(error.message).toContain(`device ${name} has no memory of its own`);
    expect((await rdmaErrorOf(() => device.allocDm(0))).message).toContain(
      'length must be an integer from 1',
    );
    expect((await rdmaErrorOf(() => device.allocDm(1, { logAlign: 32 }))).message).toContain('0 to 31');
    const wrong = await rdmaErrorOf(() => pd.regDmMr(Buffer.alloc(1) as never, Access.LOCAL_WRITE));
    expect(wrong.message).toContain('device.allocDm()');
  });

  it('refuses thread domains', async () => {
    const error = await rdmaErrorOf(() => device.allocTd());
    expect(error).toMatchObject({ code: 'EOPNOTSUPP', syscall: 'ibv_alloc_td' });
    expect(error.message).toContain(`device ${name} has no thread domains`);
  });

  it('refuses parent domains', async () => {
    expect(pd.base).toBe(pd);
    const error = await rdmaErrorOf(() => pd.allocParentDomain());
    expect(error).toMatchObject({ code: 'EOPNOTSUPP', syscall: 'ibv_alloc_parent_domain' });
    expect(error.message).toContain(`device ${name} has no parent domains`);
    const wrong = await rdmaErrorOf(() => pd.allocParentDomain({ td: {} as never }));
    expect(wrong.message).toContain('device.allocTd()');
    // The domain is as good as before.
    const mr = pd.regMrSync(Buffer.alloc(64), Access.LOCAL_WRITE);
    expect(mr.lkey).toBeGreaterThan(0);
  });
});
