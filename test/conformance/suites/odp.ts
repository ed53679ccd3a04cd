/** On-demand paging. */
import { expect } from 'vitest';
import { Access, Advice, Opcode } from '../../../lib/index.ts';
import { type Body, type Env, implement, refused } from '../harness.ts';
import { type Ends, manualEnds, message, pingPong, rcEnds, reads, sge, writes } from '../traffic.ts';
import { noMrEx } from './memory.ts';
import { srqTraffic } from './queues.ts';
import { atomicWrites, compareAndSwap, fetchAndAdd, lacksFlush, xrc } from './work.ts';

const ON_DEMAND = Access.LOCAL_WRITE | Access.REMOTE_READ | Access.REMOTE_WRITE | Access.ON_DEMAND;

/** The refusal of a region with [access]. */
async function noRegion({ pd }: Env, access: number) {
  await using slab = await pd.allocSlab(4096, Access.LOCAL_WRITE);
  return await refused(() => pd.regMr(slab.buffer, access, { wholePages: true }));
}

/** [test] between on-demand regions; where there is no such thing, the refusal. */
function onDemand(test: (ends: Ends, env: Env) => Promise<void>, more = 0): Body {
  return async (env) => {
    const access = ON_DEMAND | more;
    if (!env.device.caps.odp.explicit) return noRegion(env, access);
    await using ends = await rcEnds(env, { access, maxRecvSge: 2, maxSendSge: 2 });
    await test(ends, env);
    return undefined;
  };
}

const noImplicit: Body = ({ device, pd }) => {
  expect(device.caps.odp.implicit).toBe(false);
  return refused(() => pd.regImplicitOdp(ON_DEMAND));
};

const noHugePages: Body = (env) => noRegion(env, ON_DEMAND | Access.HUGETLB);

/** ibv_advise_mr with [advice], waited for or not; the region serves traffic all the same. */
function prefetch(advice: number, flush: boolean): Body {
  return async (env) => {
    if (!env.device.caps.odp.explicit) return noRegion(env, ON_DEMAND);
    await using ends = await rcEnds(env, { access: ON_DEMAND });
    const outcome = await refused(() => ends.client.mr.advise(advice, undefined, { flush }));
    await pingPong(ends, 2);
    return outcome;
  };
}

implement('test_odp', 'OdpTestCase', {
  test_odp_rc_traffic: onDemand((ends) => pingPong(ends)),

  test_odp_rc_mixed_mr: onDemand(async ({ client, server }) => {
    const [pinned, sink] = [Buffer.alloc(512, 2), Buffer.alloc(924)];
    await using mr = await client.mr.pd.regMr(pinned, Access.LOCAL_WRITE);
    await using sinkMr = await server.mr.pd.regMr(sink, Access.LOCAL_WRITE);
    client.bytes.fill(1);
    const received = server.qp.recv({ sges: [sge(server, 100), sge({ mr: sinkMr }, 924)] });
    await client.qp.send({ opcode: Opcode.SEND, sges: [sge(client, 512), sge({ mr }, 512)] });
    expect((await received).byteLen).toBe(1024);
    const sent = Buffer.concat([Buffer.alloc(512, 1), pinned]);
    expect(server.bytes.subarray(0, 100).equals(sent.subarray(0, 100))).toBe(true);
    expect(sink.equals(sent.subarray(100))).toBe(true);
  }),

  test_odp_rc_srq_traffic: async (env) => {
    if (!env.device.caps.odp.explicit) return noRegion(env, ON_DEMAND);
    await srqTraffic(env, ON_DEMAND);
    return undefined;
  },

  test_odp_qp_ex_rc_atomic_write: onDemand(atomicWrites),
  test_odp_qp_ex_rc_flush: (env) =>
    env.device.caps.odp.explicit ? lacksFlush(env) : noRegion(env, ON_DEMAND),
  test_odp_rc_atomic_cmp_and_swp: onDemand(compareAndSwap, Access.REMOTE_ATOMIC),
  test_odp_rc_atomic_fetch_and_add: onDemand(fetchAndAdd, Access.REMOTE_ATOMIC),
  test_odp_rc_rdma_read: onDemand((ends) => reads(ends)),
  test_odp_rc_rdma_write: onDemand((ends) => writes(ends)),
  test_odp_implicit_rc_traffic: noImplicit,

  async test_odp_ud_traffic(env) {
    if (!env.device.caps.odp.ud.send) return noRegion(env, ON_DEMAND);
    // The receives are pinned, as in pyverbs: they have a header ahead of the message.
    await using ends = manualEnds(env, 'UD');
    await using slab = await env.pd.allocSlab(4096, Access.LOCAL_WRITE);
    await using mr = await env.pd.regMr(slab.buffer, ON_DEMAND, { wholePages: true });
    const sender = { ...ends.client, mr, bytes: Buffer.from(slab.buffer) };
    for (let round = 1; round <= 10; round += 1) await message(sender, ends.server, 512, round);
    return undefined;
  },

  test_odp_xrc_traffic: xrc,
  test_odp_rc_huge_traffic: noHugePages,
  test_odp_rc_huge_user_addr_traffic: noHugePages,
  test_odp_sync_prefetch_rc_traffic: prefetch(Advice.PREFETCH, true),
  test_odp_async_prefetch_rc_traffic: prefetch(Advice.PREFETCH_WRITE, false),
  test_odp_implicit_sync_prefetch_rc_traffic: noImplicit,
  test_odp_implicit_async_prefetch_rc_traffic: noImplicit,
  test_odp_prefetch_sync_no_page_fault_rc_traffic: prefetch(Advice.PREFETCH_NO_FAULT, true),
  test_odp_prefetch_async_no_page_fault_rc_traffic: prefetch(Advice.PREFETCH_NO_FAULT, false),
  test_mrex_odp_rc_traffic: noMrEx,
  test_mrex_odp_rc_huge_traffic: noMrEx,
  test_mrex_odp_implicit_rc_traffic: noMrEx,
  test_mrex_odp_qp_ex_rc_flush: noMrEx,
});
