import { describe, expect, it } from 'vitest';
import { listDevices, liveObjects, openDevice } from '../../../lib/index.ts';
import { devices } from '../helpers/devices.ts';
import { rdmaErrorOf } from '../helpers/rejection.ts';

describe('devices', () => {
  it('lists rxe0 and siw0 with their transports', () => {
    const found = Object.fromEntries(listDevices().map(({ name, transport }) => [name, transport]));
    expect(found).toMatchObject({ rxe0: 'ib', siw0: 'iwarp' });
  });

  it('names the devices there are when asked for an unknown one', async () => {
    const error = await rdmaErrorOf(() => openDevice('mlx5_9'));
    expect(error).toMatchObject({ code: 'ENODEV', syscall: 'ibv_open_device' });
    expect(error.errno).toBeLessThan(0);
    expect(error.message).toContain('mlx5_9');
    expect(error.message).toContain('rxe0');
    expect(error.message).toContain('siw0');
  });

  it.each(['', 7, undefined])('refuses %o as a name', async (name) => {
    expect((await rdmaErrorOf(() => openDevice(name as string))).code).toBe('ERR_INVALID_ARG_TYPE');
  });

  describe.each(devices)('$name', ({ name }) => {
    it('knows its provider, limits and port', () => {
      using device = openDevice(name);
      expect(device.provider).toBe(name.slice(0, 3));
      expect(device.attr.maxSgeRd).toBe(name === 'siw0' ? 1 : 32);
      expect(device.queryPort()).toMatchObject({ state: 'ACTIVE', linkLayer: 'Ethernet' });
      expect(device.queryPort().maxMsgSz).toBeGreaterThan(1 << 20);
    });

    it('refuses work after close, which may be said twice', async () => {
      const device = openDevice(name);
      device.close();
      device.close();
      expect(device.closed).toBe(true);
      const error = await rdmaErrorOf(() => device.allocPd());
      expect(error).toMatchObject({ code: 'ERR_RDMA_CLOSED', message: 'the device is closed' });
    });

    it('takes its children along when it is closed', async () => {
      const before = liveObjects();
      const device = openDevice(name);
      const pd = device.allocPd();
      const cq = device.createCq();
      const mr = pd.regMrSync(Buffer.alloc(100), 1);
      expect(liveObjects()).toBe(before + 4);
      device.close();
      expect([pd.closed, cq.closed, mr.closed]).toEqual([true, true, true]);
      expect(liveObjects()).toBe(before);
      await mr.close();
    });

    it.each([0, -1, 1.5, 2 ** 31, '4'])('refuses %o completion queue entries', async (cqe) => {
      using device = openDevice(name);
      const error = await rdmaErrorOf(() => device.createCq({ cqe: cqe as number }));
      expect(error.message).toContain('cqe');
      expect(error.message).toContain(String(cqe));
    });
  });
});
