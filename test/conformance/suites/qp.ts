/** Queue pairs: made, queried, moved. */
import { expect } from 'vitest';
import {
  type CompletionQueue,
  Opcode,
  type QpOptions,
  type QpType,
  type QueuePair,
} from '../../../lib/index.ts';
import { manualPair } from '../../device/helpers/manual.ts';
import { connectedPair } from '../../device/helpers/pair.ts';
import { rdmaErrorOf } from '../../device/helpers/rejection.ts';
import { type Body, type Env, implement, refused } from '../harness.ts';

const CAPS = { maxSendWr: 10, maxRecvWr: 20, maxSendSge: 2, maxRecvSge: 3, maxInlineData: 16 };
const QKEY = 0x123;

type Action = (qp: QueuePair, env: Env, cq: CompletionQueue) => void;

/** A queue pair of [type], and [action] with it; where the device has none, the refusal. */
function withQp(type: QpType, action: Action, options: Partial<QpOptions> = {}): Body {
  return async (env) => {
    using cq = env.device.createCq({ cqe: 100 });
    const make = () => env.pd.createQp({ type, sendCq: cq, ...CAPS, ...options });
    if (!env.device.caps.qpType(type)) return refused(make);
    using qp = make();
    action(qp, env, cq);
    return undefined;
  };
}

const isNew: Action = (qp, { device }) => {
  // The kernel makes an iWARP queue pair in a state that it calls INIT or RESET (RNICs have one before the connection).
  expect(device.transport === 'iwarp' ? ['RESET', 'INIT'] : ['RESET']).toContain(qp.state);
};

/** To the state that a queue pair of its type reaches without a peer. */
const comesUp: Action = (qp) => {
  const ready = { pkeyIndex: 0, port: 1 } as const;
  if (qp.type === 'UD') {
    qp.modify({ state: 'INIT', ...ready, qkey: QKEY });
    qp.modify({ state: 'RTR' });
    qp.modify({ state: 'RTS', sqPsn: 0 });
    expect(qp.state).toBe('RTS');
  } else {
    qp.modify({ state: 'INIT', ...ready, accessFlags: 0 });
    expect(qp.state).toBe('INIT');
  }
};

const isAsAsked: Action = (qp, env, cq) => {
  isNew(qp, env, cq);
  const { cap, state } = qp.query();
  expect(state).toBe(qp.state);
  for (const [name, asked] of Object.entries(CAPS)) {
    expect(cap[name as keyof typeof CAPS], name).toBeGreaterThanOrEqual(asked);
  }
};

/** A capacity above the device's is refused, and the error says which and what the limit is. */
function tooMuch(name: keyof typeof CAPS, value: number): Body {
  return async ({ device, pd }) => {
    using cq = device.createCq({ cqe: 100 });
    for (const type of ['RC', 'UD'] as const) {
      const error = await rdmaErrorOf(() => pd.createQp({ type, sendCq: cq, ...CAPS, [name]: value }));
      expect(error.message).toContain(name);
      expect(error.message).toContain(String(value));
      expect(error.message).toContain(String(name.endsWith('Wr') ? device.attr.maxQpWr : device.attr.maxSge));
    }
  };
}

const rawComesUp: Action = (qp) => {
  qp.modify({ state: 'INIT', port: 1 });
  qp.modify({ state: 'RTR' });
  qp.modify({ state: 'RTS' });
  expect(qp.state).toBe('RTS');
};

implement('test_qp', 'QPTest', {
  // The library has one way to make queue pairs, with ibv_create_qp_ex where the provider has it: each case of
  // pyverbs' two ways is that one.
  test_create_rc_qp_no_attr: withQp('RC', isNew),
  test_create_uc_qp_no_attr: withQp('UC', isNew),
  test_create_ud_qp_no_attr: withQp('UD', isNew),
  test_create_raw_qp_no_attr: withQp('RAW_PACKET', isNew),
  test_create_rc_qp_with_attr: withQp('RC', comesUp),
  test_create_uc_qp_with_attr: withQp('UC', comesUp),
  test_create_ud_qp_with_attr: withQp('UD', comesUp),
  test_create_raw_qp_with_attr: withQp('RAW_PACKET', rawComesUp),
  test_create_rc_qp_ex_no_attr: withQp('RC', isNew, { sqSigAll: true }),
  test_create_uc_qp_ex_no_attr: withQp('UC', isNew, { sqSigAll: true }),
  test_create_ud_qp_ex_no_attr: withQp('UD', isNew, { sqSigAll: true }),
  test_create_raw_qp_ex_no_attr: withQp('RAW_PACKET', isNew, { sqSigAll: true }),
  test_create_rc_qp_ex_with_attr: withQp('RC', comesUp, { sqSigAll: true }),
  test_create_uc_qp_ex_with_attr: withQp('UC', comesUp, { sqSigAll: true }),
  test_create_ud_qp_ex_with_attr: withQp('UD', comesUp, { sqSigAll: true }),
  test_create_raw_qp_ex_with_attr: withQp('RAW_PACKET', rawComesUp, { sqSigAll: true }),
  test_create_raw_qp_ex_with_illegal_caps_max_send_wr: tooMuch('maxSendWr', 0xffff_ffff),
  test_create_raw_qp_ex_with_illegal_caps_max_send_sge: tooMuch('maxSendSge', 0xffff),
  test_create_raw_qp_ex_with_illegal_caps_max_recv_sge: tooMuch('maxRecvSge', 0xffff),
  test_create_raw_qp_ex_with_illegal_caps_max_recv_wr: tooMuch('maxRecvWr', 0xffff_ffff),
  test_query_rc_qp: withQp('RC', isAsAsked),
  test_query_uc_qp: withQp('UC', isAsAsked),
  test_query_ud_qp: withQp('UD', isAsAsked),
  test_query_raw_qp: withQp('RAW_PACKET', isAsAsked),

  test_query_data_in_order: withQp('UD', (qp, env, cq) => {
    comesUp(qp, env, cq);
    expect([true, false]).toContain(qp.queryDataInOrder(Opcode.SEND));
  }),

  test_modify_ud_qp: withQp('UD', (qp) => {
    qp.modify({ state: 'INIT', pkeyIndex: 0, port: 1, qkey: QKEY });
    expect(qp.query().qkey).toBe(QKEY);
    qp.modify({ state: 'RTR' });
    qp.modify({ state: 'RTS', sqPsn: 0x45 });
    expect(qp.query().sqPsn).toBe(0x45);
    qp.modify({ state: 'RESET' });
    expect(qp.state).toBe('RESET');
  }),

  test_create_ud_qp_with_privileged_qkey: withQp('UD', (qp) => {
    const privileged = 0x8000_0000;
    qp.modify({ state: 'INIT', pkeyIndex: 0, port: 1, qkey: privileged });
    expect(qp.query().qkey).toBe(privileged);
  }),

  test_raw_qp_rate_limit_modify: withQp('RAW_PACKET', (qp, env, cq) => {
    rawComesUp(qp, env, cq);
    qp.modify({ rateLimit: 5000 });
    qp.modifyRateLimit({ rateLimit: 0 });
  }),
});

implement('test_qp', 'RCQPTest', {
  async test_modify_rc_qp_rd_atomic(env) {
    const depth = 12;
    if (env.device.caps.manualConnection) {
      const pair = manualPair({}, { rtr: { maxDestRdAtomic: depth }, rts: { maxRdAtomic: depth } });
      for (const qp of [pair.a, pair.b]) {
        expect(qp.query().maxRdAtomic).toBeGreaterThanOrEqual(depth);
        expect(qp.query().maxDestRdAtomic).toBeGreaterThanOrEqual(depth);
      }
      await pair.close();
      return;
    }
    const reads = { initiatorDepth: depth, responderResources: depth };
    await using pair = await connectedPair(env.name, { connect: reads, accept: reads });
    const { maxRdAtomic, maxDestRdAtomic } = pair.client.qp.query();
    expect(maxRdAtomic).toBeGreaterThanOrEqual(depth);
    expect(maxDestRdAtomic).toBeGreaterThanOrEqual(depth);
  },
});
