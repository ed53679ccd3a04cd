/** Protection domains. */
import { expect } from 'vitest';
import { liveObjects } from '../../../lib/index.ts';
import { rdmaErrorOf } from '../../device/helpers/rejection.ts';
import { implement } from '../harness.ts';

implement('test_pd', 'PDTest', {
  async test_alloc_pd({ device }) {
    const pd = device.allocPd();
    expect(pd.device).toBe(device);
    await (await pd.regMr(Buffer.alloc(64), 1)).close();
    pd.close();
  },

  async test_dealloc_pd({ device }) {
    const pd = device.allocPd();
    pd.close();
    expect(pd.closed).toBe(true);
    expect((await rdmaErrorOf(() => pd.regMr(Buffer.alloc(64), 1))).code).toBe('ERR_RDMA_CLOSED');
  },

  test_multiple_pd_creation({ device }) {
    const before = liveObjects();
    const domains = Array.from({ length: 100 }, () => device.allocPd());
    expect(liveObjects()).toBe(before + 100);
    for (const pd of domains) pd.close();
    for (let i = 0; i < 100; i += 1) device.allocPd().close();
    expect(liveObjects()).toBe(before);
  },

  test_destroy_pd_twice({ device }) {
    const pd = device.allocPd();
    pd.close();
    pd.close();
    expect(pd.closed).toBe(true);
  },
});
