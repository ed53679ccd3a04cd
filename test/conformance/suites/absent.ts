/** Cases about what is not in rdma-core 44, or on no soft device. */
import { expect } from 'vitest';
import { absent, implement, implementAll, notApplicable, refused } from '../harness.ts';

const noBuf = () =>
  notApplicable('rdma-core 44 has no ibv_alloc_buf and ibv_reg_buf_mr (confidential computing)');
implementAll('test_buf', 'BufAPITest', noBuf);
implementAll('test_buf', 'BufTrafficTest', noBuf);

const noDmaHandle = () => notApplicable('rdma-core 44 has no DMA handles (ibv_alloc_dmah)');
implementAll('test_dmah', 'DMAHandleTest', noDmaHandle);
implementAll('test_dmah', 'DmaHandleTrafficTest', noDmaHandle);

implementAll('test_flow', 'FlowTest', async ({ device, pd }) => {
  expect(device.caps.qpType('RAW_PACKET')).toBe(false);
  using cq = device.createCq({ cqe: 200 });
  return refused(() => pd.createQp({ type: 'RAW_PACKET', sendCq: cq }), ['EOPNOTSUPP', 'EINVAL']);
});

implement('test_rss_traffic', 'RSSTrafficTest', {
  test_rss_traffic({ device }) {
    expect(device.attrEx.rssCaps.supportedQpts).toBe(0);
    return absent('no receive side scaling: attrEx.rssCaps.supportedQpts is 0');
  },
});

implementAll('test_tag_matching', 'TMTest', ({ device }) => {
  expect(device.caps.tagMatching).toBe(false);
  return absent('no tag matching: caps.tagMatching is false, attrEx.tmCaps.maxNumTags is 0');
});

implementAll('test_parent_domain', 'ParentDomainTrafficTest', () =>
  notApplicable(
    'ibv_alloc_parent_domain lets an application give the provider its memory for queues, by callbacks from any thread: ' +
      'JavaScript can not be called there; no provider of a soft device has it',
  ),
);
