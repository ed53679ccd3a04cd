import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { addon } from '../../../lib/addon.ts';
import {
  Access,
  type Device,
  openDevice,
  type ProtectionDomain,
  type QpAttr,
  type QueuePair,
} from '../../../lib/index.ts';
import { attrMask, encodeAttr, type QpAttrName } from '../../../lib/verbs/qp-attr.ts';
import { type QpKnownState, transitionAttrs } from '../../../lib/verbs/qp-state.ts';
import { bringUp, loopback } from '../helpers/manual.ts';
import { connectedPair } from '../helpers/pair.ts';
import { rdmaErrorOf } from '../helpers/rejection.ts';

// SQE is a state that rxe does not have.
const states = ['RESET', 'INIT', 'RTR', 'RTS', 'SQD', 'ERR'] as const;
type State = (typeof states)[number];

/** A valid value for every attribute; Ethernet has no alternate paths. */
const values = (): Required<
  Pick<QpAttr, Exclude<QpAttrName, 'state' | 'curState' | 'rateLimit' | 'altAhAttr'>>
> => ({
  pkeyIndex: 0,
  port: 1,
  accessFlags: Access.LOCAL_WRITE,
  qkey: 1,
  ahAttr: loopback(),
  pathMtu: 1024,
  destQpNum: 1,
  rqPsn: 0,
  sqPsn: 0,
  maxDestRdAtomic: 1,
  maxRdAtomic: 1,
  minRnrTimer: 12,
  timeout: 14,
  retryCnt: 1,
  rnrRetry: 1,
  pathMigState: 'MIGRATED',
  enSqdAsyncNotify: false,
});

describe('the state machine on rxe0', () => {
  let device: Device;
  let pd: ProtectionDomain;
  let qp: QueuePair;

  beforeAll(() => {
    device = openDevice('rxe0');
    pd = device.allocPd();
  });
  afterAll(() => device.close());

  async function goTo(state: State): Promise<void> {
    if (qp.state !== 'RESET') qp.modify({ state: 'RESET' });
    const { port, qkey, destQpNum, ahAttr } = values();
    const path = qp.type === 'UD' ? {} : { destQpNum, ahAttr };
    if (state === 'RESET') return;
    qp.toInit(qp.type === 'UD' ? { port, qkey } : { port });
    if (state === 'INIT') return;
    if (state === 'ERR') return qp.toError();
    qp.toRtr(path);
    if (state === 'RTR') return;
    qp.toRts();
    if (state === 'RTS') return;
    qp.modify({ state: 'SQD' });
    while (qp.query().sqDraining === true) await new Promise((resolve) => setImmediate(resolve));
  }

  /** Whether the kernel takes the change, which our own check does not see. */
  async function kernelTakes(from: State, to: State, names: readonly QpAttrName[]): Promise<boolean> {
    if (qp.state !== from) await goTo(from);
    const all = { ...values(), curState: from } as QpAttr;
    const wanted = Object.fromEntries(names.map((name) => [name, all[name]])) as QpAttr;
    const attr = encodeAttr({ ...wanted, state: to }, device, 1);
    try {
      addon.modifyQp(qp._handle, attr, attrMask([...names, 'state']));
      return true;
    } catch (error) {
      expect(error).toMatchObject({ code: 'EINVAL' });
      return false;
    } finally {
      // What was changed without our knowledge is put right.
      await goTo(from);
    }
  }

  describe.each(['RC', 'UC', 'UD'] as const)('of %s', (type) => {
    beforeAll(() => {
      qp = pd.createQp({ type, sendCq: device.createCq({ cqe: 256 }) });
    });

    it.each(states)('from %s: has just the transitions and attributes that the kernel has', async (from) => {
      const others = Object.keys(values()) as QpAttrName[];
      for (const to of states) {
        const known = transitionAttrs(type, from as QpKnownState, to);
        const required = known?.required ?? [];
        const step = `${type} ${from} → ${to}`;
        expect([step, await kernelTakes(from, to, required)]).toEqual([step, known !== undefined]);
        if (known === undefined) continue;
        for (const name of required) {
          const rest = required.filter((other) => other !== name);
          expect([step, 'without', name, await kernelTakes(from, to, rest)]).toEqual([
            step,
            'without',
            name,
            false,
          ]);
        }
        for (const name of [...others, 'curState' as const].filter((other) => !required.includes(other))) {
          const taken = await kernelTakes(from, to, [...required, name]);
          expect([step, 'with', name, taken]).toEqual([step, 'with', name, known.optional.includes(name)]);
        }
      }
    });

    it('says what is missing or too much before the kernel sees it', async () => {
      await goTo('RESET');
      const missing = await rdmaErrorOf(() => qp.modify({ state: 'INIT', port: 1 }));
      expect(missing.message).toContain(`${type} RESET → INIT lacks pkeyIndex`);
      const impossible = await rdmaErrorOf(() => qp.modify({ state: 'RTS' }));
      expect(impossible).toMatchObject({ code: 'ERR_RDMA_STATE', qpNum: qp.qpNum, device: 'rxe0' });
      await goTo('RTS');
      const surplus = await rdmaErrorOf(() => qp.modify({ rqPsn: 1 }));
      expect(surplus.message).toContain(`${type} RTS → RTS does not take rqPsn`);
      expect(qp.state).toBe('RTS');
    });
  });

  it('tells by query what was modified', async () => {
    using rc = pd.createQp({ sendCq: device.createCq(), maxSendWr: 10, maxRecvWr: 20, maxInlineData: 100 });
    expect(rc.query()).toMatchObject({ state: 'RESET', sqDraining: false });
    const accessFlags = Access.LOCAL_WRITE | Access.REMOTE_READ;
    bringUp(rc, 0x1234, {
      init: { accessFlags },
      rtr: { pathMtu: 512, rqPsn: 0xabcdef, maxDestRdAtomic: 4, minRnrTimer: 5 },
      rts: { sqPsn: 0x123456, timeout: 9, retryCnt: 3, rnrRetry: 2, maxRdAtomic: 8 },
    });
    const info = rc.query();
    expect(info).toMatchObject({
      state: 'RTS',
      curState: 'RTS',
      port: 1,
      pkeyIndex: 0,
      accessFlags,
      pathMtu: 512,
      destQpNum: 0x1234,
      rqPsn: 0xabcdef,
      sqPsn: 0x123456,
      maxDestRdAtomic: 4,
      maxRdAtomic: 8,
      minRnrTimer: 5,
      timeout: 9,
      retryCnt: 3,
      rnrRetry: 2,
      pathMigState: 'MIGRATED',
      sqDraining: false,
    });
    expect(info.ahAttr?.grh).toMatchObject({
      dgid: '::ffff:10.0.1.1',
      sgidIndex: loopback().grh?.sgidIndex as number,
    });
    expect(info.cap.maxSendWr).toBeGreaterThanOrEqual(10);
    expect(info.cap.maxRecvWr).toBeGreaterThanOrEqual(20);
    expect(info.cap.maxInlineData).toBeGreaterThanOrEqual(100);
  });

  it('refuses a qkey of the privileged half without CAP_NET_RAW only', async () => {
    using ud = pd.createQp({ type: 'UD', sendCq: device.createCq() });
    // Tests run as root in the soft-RDMA kernel; elsewhere the error says what is needed.
    try {
      ud.toInit({ qkey: 0x8000_0001 });
      expect(ud.query().qkey).toBe(0x8000_0001);
    } catch (error) {
      expect(error).toMatchObject({ code: 'EPERM' });
      expect((error as Error).message).toContain('CAP_NET_RAW');
    }
  });

  it('says EOPNOTSUPP for what the provider does not have', async () => {
    using rc = pd.createQp({ sendCq: device.createCq() });
    for (const [call, syscall] of [
      [() => rc.queryEce(), 'ibv_query_ece'],
      [() => rc.setEce({ vendorId: 1, options: 0 }), 'ibv_set_ece'],
      [() => rc.modifyRateLimit({ rateLimit: 1 }), 'ibv_modify_qp_rate_limit'],
    ] as const) {
      expect(await rdmaErrorOf(call)).toMatchObject({ code: 'EOPNOTSUPP', syscall });
    }
    expect(rc.queryDataInOrder(0)).toBe(false);
    bringUp(rc, 1);
    expect((await rdmaErrorOf(() => rc.modify({ rateLimit: 5 }))).syscall).toBe('ibv_modify_qp');
    expect((await rdmaErrorOf(() => rc.setEce({ vendorId: 0, options: 0 }))).code).toBe('ERR_OUT_OF_RANGE');
  });

  it('has no alternate path on Ethernet, and says so', async () => {
    using rc = pd.createQp({ sendCq: device.createCq() });
    bringUp(rc, 1);
    const error = await rdmaErrorOf(() => rc.modify({ altAhAttr: loopback(), altTimeout: 1 }));
    expect(error.code).toBe('EOPNOTSUPP');
    expect(error.message).toContain("alternate paths are InfiniBand's");
  });

  it('refuses everything once it is closed', async () => {
    const rc = pd.createQp({ sendCq: device.createCq() });
    rc.close();
    for (const call of [() => rc.modify({ state: 'INIT' }), () => rc.query(), () => rc.queryEce()]) {
      expect((await rdmaErrorOf(call)).code).toBe('ERR_RDMA_CLOSED');
    }
    expect(rc.state).toBe('ERR');
  });
});

describe('the state machine on siw0', () => {
  it('is rdma_cm’s: RTR and RTS are refused, ERR is not', async () => {
    using device = openDevice('siw0');
    using qp = device.allocPd().createQp({ sendCq: device.createCq() });
    const known = { pkeyIndex: 0, port: 1, accessFlags: Access.LOCAL_WRITE };
    qp.modify({ state: 'INIT', ...known });
    for (const call of [
      () => qp.toRtr({ destQpNum: 1, ahAttr: { grh: { dgid: '10.0.2.1' } } }),
      () => qp.toRts(),
      () => qp.modify({ state: 'RESET' }),
      () => qp.modify({ state: 'SQD' }),
    ]) {
      const error = await rdmaErrorOf(call);
      expect(error).toMatchObject({ code: 'EOPNOTSUPP', syscall: 'ibv_modify_qp', device: 'siw0' });
      expect(error.message).toContain('only rdma_cm connects its queue pairs');
    }
    qp.modify({ state: 'ERR' });
    expect(qp.state).toBe('ERR');
  });

  it('is queried as far as siw tells, READ limits in their places', async () => {
    const connect = { responderResources: 3, initiatorDepth: 5 };
    const pair = await connectedPair('siw0', {
      connect,
      accept: { responderResources: 5, initiatorDepth: 3 },
    });
    const info = pair.client.qp.query();
    // siw makes powers of two of them.
    expect(info).toMatchObject({ state: 'RTS', maxRdAtomic: 8, maxDestRdAtomic: 4 });
    expect(info).not.toHaveProperty('destQpNum');
    expect(info).not.toHaveProperty('sqPsn');
    expect(info.cap.maxSendWr).toBeGreaterThanOrEqual(64);
    await expect(async () => pair.client.qp.queryEce()).rejects.toMatchObject({ code: 'EOPNOTSUPP' });
    await pair.close();
  });
});
