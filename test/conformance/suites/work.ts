/** Work requests: all opcodes, and what is refused. */
import { expect } from 'vitest';
import {
  Access,
  FlushLevel,
  FlushType,
  incRkey,
  Opcode,
  SendFlags,
  type SendWr,
  WcStatus,
} from '../../../lib/index.ts';
import { rdmaErrorOf } from '../../device/helpers/rejection.ts';
import { type Body, type Env, implement, refused } from '../harness.ts';
import {
  type End,
  type Ends,
  fails,
  type ManualOptions,
  manualEnds,
  message,
  pingPong,
  REFUSED,
  rcEnds,
  reads,
  remote,
  sge,
  writes,
} from '../traffic.ts';

const IMM = 0xc0ffee;
const ATOMIC = Access.LOCAL_WRITE | Access.REMOTE_ATOMIC;

/** The refusal to make a queue pair of a type that the device lacks. */
export function without(type: 'UD' | 'XRC_SEND', { device, pd }: Env) {
  expect(device.caps.qpType(type)).toBe(false);
  using cq = device.createCq({ cqe: 200 });
  return refused(() => pd.createQp({ type, sendCq: cq }));
}

/** A case of datagrams. */
export function datagrams(test: (ends: Ends) => Promise<void>, options: ManualOptions = {}): Body {
  return async (env) => {
    if (!env.device.caps.qpType('UD')) return without('UD', env);
    await using ends = manualEnds(env, 'UD', options);
    await test(ends);
    return undefined;
  };
}

/** A case of extended reliable connections, which no soft device has. */
export const xrc: Body = (env) => without('XRC_SEND', env);

/** [wr] is refused by a device that has not the capability for its opcode. */
async function lacks(env: Env, make: (ends: Ends) => SendWr) {
  await using ends = await rcEnds(env);
  const outcome = await refused(() => ends.client.qp.postSend(make(ends)));
  await message(ends.client, ends.server, 64, 1);
  return outcome;
}

/** Messages with immediate data over RC; refused where there is none. */
const immediate: Body = async (env) => {
  if (!env.device.caps.immediateData) {
    return lacks(env, ({ client }) => ({
      opcode: Opcode.SEND_WITH_IMM,
      sges: [sge(client, 8)],
      immData: IMM,
    }));
  }
  await using ends = await rcEnds(env);
  await pingPong(ends, 10, 1024, IMM);
  return undefined;
};

function atomic(
  { client, server }: { client: End; server: End },
  operands: { readonly compare: bigint; readonly swap: bigint } | { readonly add: bigint },
): SendWr {
  const target = { sges: [sge(client, 8)], remoteAddr: server.mr.addr, rkey: server.mr.rkey };
  return 'add' in operands
    ? { opcode: Opcode.ATOMIC_FETCH_AND_ADD, ...target, compareAdd: operands.add }
    : { opcode: Opcode.ATOMIC_CMP_AND_SWP, ...target, compareAdd: operands.compare, swap: operands.swap };
}

/** The value at the server; the old one comes back to the client. */
async function carriesOut(ends: Ends, wr: SendWr, before: bigint, after: bigint): Promise<void> {
  ends.server.bytes.writeBigUInt64LE(before);
  await ends.client.qp.send(wr);
  expect(ends.client.bytes.readBigUInt64LE()).toBe(before);
  expect(ends.server.bytes.readBigUInt64LE()).toBe(after);
}

/** [test] with ends that grant atomics; where the device has none, the refusal. */
function atomics(test: (ends: Ends, env: Env) => Promise<void>, options: ManualOptions = {}): Body {
  return async (env) => {
    if (!env.device.caps.hasAtomics) return lacks(env, (ends) => atomic(ends, { add: 1n }));
    await using ends = manualEnds(env, 'RC', { access: ATOMIC, size: 64, ...options });
    await test(ends, env);
    return undefined;
  };
}

export async function compareAndSwap(ends: Ends): Promise<void> {
  for (let round = 1n; round <= 10n; round += 1n) {
    await carriesOut(ends, atomic(ends, { compare: round, swap: round << 40n }), round, round << 40n);
    await carriesOut(ends, atomic(ends, { compare: round + 1n, swap: 7n }), round, round);
  }
}

export async function fetchAndAdd(ends: Ends): Promise<void> {
  for (let round = 1n; round <= 10n; round += 1n) {
    await carriesOut(ends, atomic(ends, { add: round }), round << 33n, (round << 33n) + round);
  }
  await carriesOut(ends, atomic(ends, { add: 2n }), 0xffff_ffff_ffff_ffffn, 1n);
}

/** Eight bytes at once, to the start of the server's memory. */
export async function atomicWrites({ client, server }: Ends): Promise<void> {
  for (let round = 1n; round <= 10n; round += 1n) {
    const value = (round << 56n) | round;
    const { addr: remoteAddr, rkey } = server.mr;
    await client.qp.send({ opcode: Opcode.ATOMIC_WRITE, remoteAddr, rkey, value });
    expect(server.bytes.readBigUInt64LE()).toBe(value);
  }
}

function flush({ server }: Pick<Ends, 'server'>, flushType: number, flushLevel: number): SendWr {
  const { addr: remoteAddr, rkey } = server.mr;
  return { opcode: Opcode.FLUSH, remoteAddr, rkey, length: 1024, flushType, flushLevel };
}

/** A WRITE, and a FLUSH of it. */
export async function flushes(ends: Ends): Promise<void> {
  const { client, server } = ends;
  for (const level of [FlushLevel.RANGE, FlushLevel.MR]) {
    client.bytes.fill(level + 1, 0, 1024);
    server.bytes.fill(0);
    client.qp.postSend(remote(Opcode.RDMA_WRITE, client, server, 1024));
    await client.qp.send(flush(ends, FlushType.GLOBAL, level));
    expect(server.bytes.subarray(0, 1024).equals(Buffer.alloc(1024, level + 1))).toBe(true);
  }
}

const FLUSHABLE = Access.LOCAL_WRITE | Access.REMOTE_WRITE | Access.FLUSH_GLOBAL;

/** The refusal of a FLUSH. */
export function lacksFlush(env: Env) {
  expect(env.device.caps.flush).toBe(false);
  return lacks(env, (ends) => flush(ends, FlushType.GLOBAL, FlushLevel.RANGE));
}

/** A case of FLUSH; refused where the device has none. */
function flushing(test: (ends: Ends) => Promise<void>): Body {
  return async (env) => {
    if (!env.device.caps.flush) return lacksFlush(env);
    await using ends = manualEnds(env, 'RC', { access: FLUSHABLE });
    await test(ends);
    return undefined;
  };
}

implement('test_qpex', 'QpExTestCase', {
  test_qp_ex_ud_send: datagrams((ends) => pingPong(ends, 10, 512)),
  test_qp_ex_ud_zero_size: datagrams((ends) => pingPong(ends, 5, 0)),

  async test_qp_ex_rc_send(env) {
    await using ends = await rcEnds(env);
    await pingPong(ends);
  },

  test_qp_ex_xrc_send: xrc,
  test_qp_ex_ud_send_imm: datagrams((ends) => pingPong(ends, 10, 512, IMM)),
  test_qp_ex_rc_send_imm: immediate,
  test_qp_ex_xrc_send_imm: xrc,
  test_qp_ex_rc_flush: flushing(flushes),

  test_qp_ex_rc_flush_type_violate: flushing(async (ends) => {
    const wr = flush(ends, FlushType.PERSISTENT, FlushLevel.RANGE);
    await fails(ends, wr, [WcStatus.REM_ACCESS_ERR]);
  }),

  async test_qp_ex_rc_atomic_write(env) {
    if (!env.device.caps.atomicWrite) {
      return lacks(env, ({ server }) => {
        const { addr: remoteAddr, rkey } = server.mr;
        return { opcode: Opcode.ATOMIC_WRITE, remoteAddr, rkey, value: 1n };
      });
    }
    await using ends = manualEnds(env, 'RC');
    await atomicWrites(ends);
    return undefined;
  },

  async test_qp_ex_rc_rdma_write(env) {
    await using ends = await rcEnds(env);
    await writes(ends);
  },

  async test_qp_ex_rc_rdma_write_imm(env) {
    const wr = ({ client, server }: Ends): SendWr => ({
      opcode: Opcode.RDMA_WRITE_WITH_IMM,
      sges: [sge(client, 1024)],
      remoteAddr: server.mr.addr,
      rkey: server.mr.rkey,
      immData: IMM,
    });
    if (!env.device.caps.immediateData) return lacks(env, wr);
    await using ends = await rcEnds(env);
    for (let round = 1; round <= 10; round += 1) {
      ends.client.bytes.fill(round);
      const received = ends.server.qp.recv({ sges: [] });
      const [{ byteLen, immData }] = await Promise.all([received, ends.client.qp.send(wr(ends))]);
      expect([byteLen, immData]).toEqual([1024, IMM]);
      expect(ends.server.bytes.subarray(0, 1024).every((byte) => byte === round)).toBe(true);
    }
    return undefined;
  },

  async test_qp_ex_rc_rdma_write_zero_size(env) {
    await using ends = await rcEnds(env);
    ends.client.bytes.fill(1);
    await ends.client.qp.send({
      ...remote(Opcode.RDMA_WRITE, ends.client, ends.server, 0),
      sges: [],
    } as SendWr);
    await writes(ends, 2, 0);
  },

  async test_qp_ex_rc_rdma_read(env) {
    await using ends = await rcEnds(env);
    await reads(ends);
  },

  async test_qp_ex_rc_rdma_read_zero_size(env) {
    await using ends = await rcEnds(env);
    await reads(ends, 2, 0);
    await reads(ends, 2, 64);
  },

  test_qp_ex_rc_atomic_cmp_swp: atomics(compareAndSwap),
  test_qp_ex_rc_atomic_fetch_add: atomics(fetchAndAdd),

  async test_qp_ex_rc_bind_mw(env) {
    const { type2A, type2B } = env.device.caps.memoryWindows;
    if (!type2A && !type2B) return refused(() => env.pd.allocMw(2));
    await using ends = manualEnds(env, 'RC', { access: Access.LOCAL_WRITE | Access.MW_BIND });
    const { client, server } = ends;
    const mw = env.pd.allocMw(2);
    const rkey = incRkey(mw.rkey);
    await server.qp.send({
      opcode: Opcode.BIND_MW,
      mw,
      rkey,
      bindInfo: { mr: server.mr, addr: server.mr.addr, length: server.mr.length, access: 0 },
    });
    expect(mw.rkey).toBe(rkey);
    const write = { ...remote(Opcode.RDMA_WRITE, client, server, 64), rkey } as SendWr;
    await fails(ends, write, [WcStatus.REM_ACCESS_ERR]);
    mw.close();
    return undefined;
  },

  test_post_receive_qp_state_bad_flow: notInReset('postRecv'),
  test_post_send_qp_state_bad_flow: notInReset('postSend'),

  test_full_rq_bad_flow: receives(async ({ server }) => {
    const { maxRecvWr } = server.qp.caps;
    for (let i = 0; i < maxRecvWr; i += 1) server.qp.postRecv({ sges: [sge(server, 64)] });
    const error = await rdmaErrorOf(() => server.qp.postRecv({ sges: [sge(server, 64)] }));
    expect(error).toMatchObject({ code: 'ENOBUFS', posted: 0 });
    expect(error.message).toContain(String(maxRecvWr));
  }),

  test_rq_with_larger_sgl_bad_flow: receives(async ({ server }) => {
    const { maxRecvSge } = server.qp.caps;
    const sges = Array.from({ length: maxRecvSge + 1 }, (_, i) => sge(server, 8, 8 * i));
    const error = await rdmaErrorOf(() => server.qp.postRecv({ sges }));
    expect(error.message).toContain(`${maxRecvSge + 1} SGEs`);
    expect(error.message).toContain(`at most ${maxRecvSge}`);
  }),
});

/** A case of the receive queue: with UD as pyverbs, with RC where there is none. */
function receives(test: (ends: Ends) => Promise<void>): Body {
  return async (env) => {
    const udToo = env.device.caps.qpType('UD');
    await using ends = udToo ? manualEnds(env, 'UD') : await rcEnds(env);
    await test(ends);
  };
}

/** Posting on a queue pair in RESET is refused, and nothing of it comes later. */
function notInReset(call: 'postSend' | 'postRecv'): Body {
  return async ({ device, pd }) => {
    using cq = device.createCq({ cqe: 200 });
    using qp = pd.createQp({ type: device.caps.qpType('UD') ? 'UD' : 'RC', sendCq: cq });
    const bytes = Buffer.alloc(64);
    const mr = pd.regMrSync(bytes, Access.LOCAL_WRITE);
    const sges = [{ addr: mr.addr, length: 64, lkey: mr.lkey }];
    let retired = 0;
    const count = () => {
      retired += 1;
    };
    const post = () => {
      if (call === 'postRecv') qp.postRecv({ sges }, count);
      else qp.postSend({ opcode: Opcode.SEND, sges, flags: SendFlags.SIGNALED }, count);
    };
    if (call === 'postRecv' && device.transport === 'iwarp') {
      // An iWARP queue pair takes receives before its connection; that is how none is missed.
      post();
      expect(qp.recvFree).toBe(qp.caps.maxRecvWr - 1);
      qp.close();
      expect(retired).toBe(1);
    } else {
      const error = await rdmaErrorOf(post);
      expect(error.posted).toBe(0);
      qp.close();
      expect(retired).toBe(0);
    }
    await mr.close();
  };
}

implement('test_atomic', 'AtomicTest', {
  test_atomic_cmp_and_swap: atomics(compareAndSwap),
  test_atomic_fetch_and_add: atomics(fetchAndAdd),
  test_xrc_atomic_fetch_and_add: xrc,
  test_xrc_atomic_cmp_and_swap: xrc,

  test_atomic_invalid_qp_access: atomics((ends) => fails(ends, atomic(ends, { add: 1n }), REFUSED), {
    attrs: { init: { accessFlags: Access.LOCAL_WRITE } },
  }),

  test_atomic_invalid_mr_access: atomics((ends) => fails(ends, atomic(ends, { add: 1n }), REFUSED), {
    access: Access.LOCAL_WRITE,
  }),

  test_atomic_non_aligned_addr: atomics(async (ends) => {
    const remoteAddr = ends.server.mr.addr + 1;
    const error = await rdmaErrorOf(() =>
      ends.client.qp.send({ ...atomic(ends, { add: 1n }), remoteAddr } as SendWr),
    );
    expect(error.message).toMatch(/8/);
    await fetchAndAdd(ends);
  }),

  test_atomic_invalid_lkey: atomics(async (ends) => {
    const bad = { ...sge(ends.client, 8), lkey: ends.client.mr.lkey + 1 };
    const error = await rdmaErrorOf(() =>
      ends.client.qp.send({ ...atomic(ends, { add: 1n }), sges: [bad] } as SendWr),
    );
    expect(error).toMatchObject({ posted: 0 });
    expect(error.message).toContain('lkey');
    await fetchAndAdd(ends);
  }),

  test_atomic_invalid_rkey: atomics(async (ends) => {
    const wr = { ...atomic(ends, { add: 1n }), rkey: ends.server.mr.rkey + 1 } as SendWr;
    await fails(ends, wr, REFUSED);
  }),
});
