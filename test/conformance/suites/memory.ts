/** Memory regions: registered again, windows, dma-bufs, relaxed ordering. */
import { expect } from 'vitest';
import { Access, type MwBindInfo, Opcode, type SendWr, WcStatus } from '../../../lib/index.ts';
import { rdmaErrorOf } from '../../device/helpers/rejection.ts';
import { absent, type Body, implement, implementAll, notApplicable, refused } from '../harness.ts';
import { type Ends, fails, pingPong, rcEnds, remote, writes } from '../traffic.ts';
import { datagrams, xrc } from './work.ts';

/** Cases about another call for what `regMr` does: their twins without it are elsewhere in the table. */
export const noMrEx = () =>
  notApplicable('rdma-core 44 has no ibv_reg_mr_ex; its twin by ibv_reg_mr is there');

const rereg: Body = async ({ device, pd }) => {
  expect(device.caps.rereg).toBe(false);
  const bytes = Buffer.alloc(64, 1);
  await using mr = await pd.regMr(bytes, Access.LOCAL_WRITE);
  const other = device.allocPd();
  for (const change of [{ pd: other }, { memory: Buffer.alloc(128) }]) {
    await refused(() => mr.rereg(change));
  }
  const outcome = await refused(() => mr.rereg({ access: Access.LOCAL_WRITE | Access.REMOTE_WRITE }));
  other.close();
  // It is as it was.
  expect(mr).toMatchObject({ valid: true, length: 64, access: Access.LOCAL_WRITE, pd });
  return outcome;
};

implement('test_mr', 'MRTest', {
  test_mr_rereg_addr: rereg,
  test_mrex_rereg_addr: noMrEx,
  test_mr_rereg_atomic: rereg,
  test_mr_rereg_access: rereg,
  test_mrex_rereg_access: noMrEx,
  test_mr_rereg_access_bad_flow: rereg,
  test_mr_rereg_pd: rereg,

  async test_reg_mr_bad_flags({ pd }) {
    for (const access of [Access.REMOTE_WRITE, Access.REMOTE_ATOMIC]) {
      const error = await rdmaErrorOf(() => pd.regMr(Buffer.alloc(64), access));
      expect(error.code).toBe('ERR_INVALID_ARG_VALUE');
      expect(error.message).toMatch(/REMOTE_WRITE and REMOTE_ATOMIC need LOCAL_WRITE/);
    }
  },

  test_reg_mrex_bad_flags: noMrEx,
  test_reg_mrex_inval_params: noMrEx,
});

const WINDOWED = Access.LOCAL_WRITE | Access.MW_BIND;

/** [test] with a window of [type] that lets the client write to the server; where there are none, the refusal. */
function window(type: 1 | 2, test: (ends: Ends, rkey: number, info: MwBindInfo) => Promise<void>): Body {
  return async (env) => {
    const { type1, type2A, type2B } = env.device.caps.memoryWindows;
    if (!(type === 1 ? type1 : type2A || type2B)) return refused(() => env.pd.allocMw(type));
    await using ends = await rcEnds(env, { access: WINDOWED });
    const { mr, qp } = ends.server;
    const mw = mr.pd.allocMw(type);
    const info = { mr, addr: mr.addr, length: mr.length, access: Access.REMOTE_WRITE };
    await qp.bindMw(mw, info);
    const { rkey } = mw;
    await writes(ends, 3, 1024, rkey);
    await test(ends, rkey, info);
    mw.close();
    return undefined;
  };
}

/** The window lets nobody in any more. */
async function isShut(ends: Ends, rkey: number): Promise<void> {
  const write = { ...remote(Opcode.RDMA_WRITE, ends.client, ends.server, 64), rkey } as SendWr;
  await fails(ends, write, [WcStatus.REM_ACCESS_ERR]);
}

implement('test_mr', 'MWTest', {
  test_mw_type1: window(1, async () => undefined),
  test_mw_ex_type1: noMrEx,

  test_invalidate_mw_type1: window(1, async (ends, rkey, info) => {
    const mw = ends.server.mr.pd.allocMw(1);
    await ends.server.qp.bindMw(mw, info);
    await ends.server.qp.bindMw(mw, { ...info, length: 0, access: 0 });
    expect(mw.binding).toBeUndefined();
    await writes(ends, 1, 64, rkey);
    await isShut(ends, mw.rkey);
  }),

  test_mw_type2: window(2, async () => undefined),

  test_mw_type2_invalidate_local: window(2, async (ends, rkey) => {
    await ends.server.qp.send({ opcode: Opcode.LOCAL_INV, invalidateRkey: rkey });
    await isShut(ends, rkey);
  }),

  test_mw_type2_invalidate_remote: window(2, async (ends, rkey) => {
    const { client, server } = ends;
    const received = server.qp.recv({ sges: [] });
    const wr: SendWr = { opcode: Opcode.SEND_WITH_INV, sges: [], invalidateRkey: rkey };
    const [{ byteLen }] = await Promise.all([received, client.qp.send(wr)]);
    expect(byteLen).toBe(0);
    await isShut(ends, rkey);
  }),

  test_mw_type2_invalidate_dealloc: window(2, async (ends, _, info) => {
    const mw = ends.server.mr.pd.allocMw(2);
    const rkey = await ends.server.qp.bindMw(mw, info);
    await writes(ends, 1, 64, rkey);
    mw.close();
    await isShut(ends, rkey);
  }),

  async test_reg_mw_wrong_type({ pd }) {
    for (const type of [0, 3, '2', undefined]) {
      const error = await rdmaErrorOf(() => pd.allocMw(type as 1));
      expect(error.message).toMatch(/must be 1 or 2/);
    }
  },
});

const noDmaBuf: Body = async ({ device, pd }) => {
  expect(device.caps.dmaBuf).toBe(false);
  await refused(() => pd.regDmabufMr({ fd: 0, offset: 0, length: 4096, access: Access.LOCAL_WRITE }));
  return absent('no regions of dma-bufs: caps.dmaBuf is false, and ibv_reg_dmabuf_mr ends with EOPNOTSUPP');
};
implementAll('test_mr', 'DmaBufMRTest', noDmaBuf);
implementAll('test_mr', 'DmaBufTestCase', noDmaBuf);
implementAll('test_cuda_dmabuf', 'DmabufCudaTest', noDmaBuf);

const RELAXED = Access.LOCAL_WRITE | Access.RELAXED_ORDERING;

implement('test_relaxed_ordering', 'RoTestCase', {
  async test_ro_rc_traffic(env) {
    await using ends = await rcEnds(env, { access: RELAXED });
    await pingPong(ends);
  },

  test_ro_ud_traffic: datagrams((ends) => pingPong(ends, 10, 512), { access: RELAXED }),
  test_ro_xrc_traffic: xrc,
  test_ro_mr_ex_traffic: noMrEx,
});

implement('test_shared_pd', 'SharedPDTestCase', {
  test_imported_rc_ex_rdma_write: () =>
    notApplicable(
      'ibv_import_device and ibv_import_pd have no counterpart here: no provider of a soft device has them, and an ' +
        'imported object would have an owner that this process does not know',
    ),
});
