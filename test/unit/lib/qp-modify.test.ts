import { describe, expect, it } from 'vitest';
import type { Device, QpAttr, QpType } from '../../../lib/index.ts';
import { planModify } from '../../../lib/verbs/qp-modify.ts';
import type { QpKnownState } from '../../../lib/verbs/qp-state.ts';

const fake = (transport: string) =>
  ({
    name: transport === 'iwarp' ? 'iwarp0' : 'roce0',
    transport,
    attr: { physPortCnt: 2, maxQpRdAtom: 16, maxQpInitRdAtom: 8 },
    queryPort: () => ({
      linkLayer: transport === 'infiniband' ? 'InfiniBand' : 'Ethernet',
      gidTblLen: 4,
      pkeyTblLen: 3,
      activeMtu: 1024,
    }),
  }) as unknown as Device;

const plan = (type: QpType, state: QpKnownState, attr: QpAttr, transport = 'ib', port = 1) =>
  planModify({ device: fake(transport), type, qpNum: 17, state, port }, attr);

function failure(...args: Parameters<typeof plan>): { code: string; message: string } {
  try {
    plan(...args);
  } catch (error) {
    return error as { code: string; message: string };
  }
  throw new Error('nothing was refused');
}

const ahAttr = { grh: { dgid: '10.0.0.1', sgidIndex: 1 } };
const init: QpAttr = { state: 'INIT', pkeyIndex: 0, port: 1, accessFlags: 0 };
const rtr: QpAttr = {
  state: 'RTR',
  ahAttr,
  pathMtu: 1024,
  destQpNum: 5,
  rqPsn: 1,
  maxDestRdAtomic: 1,
  minRnrTimer: 12,
};
const rts: QpAttr = { state: 'RTS', timeout: 14, retryCnt: 6, rnrRetry: 6, sqPsn: 1, maxRdAtomic: 1 };

describe('a change of a queue pair', () => {
  it('is encoded with the bits and numbers of verbs.h', () => {
    expect(plan('RC', 'RESET', init)).toEqual({
      attr: { state: 1, pkeyIndex: 0, port: 1, accessFlags: 0 },
      mask: 0x39,
    });
    const { attr, mask } = plan('RC', 'INIT', rtr);
    expect(mask).toBe(1 | 0x80 | 0x100 | 0x1000 | 0x8000 | 0x2_0000 | 0x10_0000);
    expect(attr).toMatchObject({ state: 2, pathMtu: 3, destQpNum: 5, minRnrTimer: 12 });
    expect(attr.ahAttr).toMatchObject({ port: 1, grh: { dgid: '::ffff:10.0.0.1', sgidIndex: 1 } });
    expect(plan('RC', 'RTR', rts).mask).toBe(1 | 0x200 | 0x400 | 0x800 | 0x2000 | 0x1_0000);
    expect(plan('UD', 'RTS', { qkey: 0xffff_ffff })).toEqual({ attr: { qkey: 0xffff_ffff }, mask: 0x40 });
  });

  it('may leave out the state when it stays', () => {
    expect(plan('RC', 'RTS', { minRnrTimer: 3 })).toEqual({ attr: { minRnrTimer: 3 }, mask: 0x8000 });
    expect(plan('RC', 'RTS', { state: undefined as never, minRnrTimer: 3 }).mask).toBe(0x8000);
  });

  it.each<[QpType, QpKnownState, QpAttr, RegExp]>([
    [
      'RC',
      'RESET',
      { state: 'RTS' },
      /RC RESET → RTS is not a transition: from RESET there are RESET, INIT$/,
    ],
    [
      'RC',
      'RESET',
      { state: 'ERR' },
      /RC RESET → ERR is not a transition: from RESET there are RESET, INIT$/,
    ],
    ['UD', 'INIT', { state: 'RTS' }, /UD INIT → RTS .* there are RESET, ERR, INIT, RTR$/],
    ['UC', 'RTR', { state: 'RTR' }, /UC RTR → RTR .* there are RESET, ERR, RTS$/],
    ['RC', 'RTS', { state: 'INIT' }, /RC RTS → INIT .* there are RESET, ERR, RTS, SQD$/],
    ['RC', 'ERR', { state: 'RTS' }, /RC ERR → RTS .* there are RESET, ERR$/],
    ['UD', 'SQE', { state: 'SQD' }, /UD SQE → SQD .* there are RESET, ERR, RTS$/],
  ])('from %s %s: names what is possible instead', (type, state, attr, text) => {
    const { code, message } = failure(type, state, attr);
    expect(code).toBe('ERR_RDMA_STATE');
    expect(message).toMatch(text);
  });

  it.each<[QpType, QpKnownState, QpAttr, RegExp]>([
    [
      'RC',
      'RESET',
      { state: 'INIT', port: 1 },
      /RC RESET → INIT lacks pkeyIndex, accessFlags; it needs pkeyIndex, port, accessFlags$/,
    ],
    ['UD', 'RESET', init, /UD RESET → INIT lacks qkey/],
    [
      'UC',
      'RESET',
      { ...init, qkey: 1 },
      /UC RESET → INIT does not take qkey; it takes pkeyIndex, port, accessFl/,
    ],
    ['UC', 'INIT', rtr, /UC INIT → RTR does not take maxDestRdAtomic, minRnrTimer/],
    ['XRC_SEND', 'INIT', rtr, /XRC_SEND INIT → RTR does not take maxDestRdAtomic, minRnrTimer/],
    ['XRC_RECV', 'RTR', rts, /XRC_RECV RTR → RTS does not take retryCnt, rnrRetry, maxRdAtomic/],
    ['RAW_PACKET', 'RESET', init, /RAW_PACKET RESET → INIT does not take pkeyIndex, accessFlags/],
    ['UD', 'RTS', { minRnrTimer: 1 }, /UD RTS → RTS does not take minRnrTimer/],
    ['RC', 'RTS', { sqPsn: 1 }, /RC RTS → RTS does not take sqPsn/],
    ['UC', 'SQD', { state: 'RTS', qkey: 1 }, /UC SQD → RTS does not take qkey/],
    ['RC', 'RTS', { state: 'ERR', qkey: 1 }, /RC RTS → ERR does not take qkey/],
    ['RC', 'RTS', { cap: {} } as QpAttr, /cap is not an attribute that can be modified/],
    ['RC', 'RTS', { altPort: 1 } as QpAttr, /altPort needs altAhAttr/],
  ])('of %s in %s names what is missing or too much', (type, state, attr, text) => {
    const { code, message } = failure(type, state, attr);
    expect(code).toBe('ERR_INVALID_ARG_VALUE');
    expect(message).toMatch(text);
  });

  it.each<[QpType, QpKnownState, QpAttr, RegExp]>([
    ['RC', 'RTS', { state: 'SQE' as never }, /RC RTS → SQE is not a transition/],
    ['RC', 'RTS', { state: 'rts' as never }, /state must be one of RESET, INIT.*, not rts/],
    ['RC', 'RESET', { ...init, port: 3 }, /port must be an integer from 1 to 2, not 3/],
    ['RC', 'RESET', { ...init, pkeyIndex: 3 }, /pkeyIndex must be an integer from 0 to 2, not 3/],
    ['RC', 'RESET', { ...init, accessFlags: 0x8000 }, /accessFlags 0x8000 has flags that are not in Access/],
    ['RC', 'INIT', { ...rtr, pathMtu: 1500 }, /pathMtu must be 256, 512.* not 1500/],
    ['RC', 'INIT', { ...rtr, pathMtu: 2048 }, /pathMtu 2048 is more than the port's activeMtu of 1024/],
    ['RC', 'INIT', { ...rtr, destQpNum: 2 ** 24 }, /destQpNum .* 16777215/],
    ['RC', 'INIT', { ...rtr, rqPsn: -1 }, /rqPsn .* from 0 to 16777215, not -1/],
    ['RC', 'INIT', { ...rtr, maxDestRdAtomic: 17 }, /maxDestRdAtomic .* to 16/],
    ['RC', 'INIT', { ...rtr, minRnrTimer: 32 }, /minRnrTimer .* to 31/],
    ['RC', 'INIT', { ...rtr, ahAttr: {} }, /ahAttr\.grh is missing: port 1 of roce0 is an Ethernet port/],
    ['RC', 'INIT', { ...rtr, ahAttr: { ...ahAttr, port: 2 } }, /ahAttr\.port is 2, but .* given port 1/],
    ['RC', 'INIT', { ...rtr, ahAttr: { grh: { dgid: '::1', sgidIndex: 4 } } }, /sgidIndex .* to 3, not 4/],
    ['RC', 'INIT', { ...rtr, altAhAttr: ahAttr, altTimeout: 32 }, /altTimeout .* to 31/],
    ['RC', 'INIT', { ...rtr, altAhAttr: ahAttr }, /altAhAttr: port 1 of roce0 is an Ethernet port/],
    ['RC', 'RTR', { ...rts, sqPsn: 0.5 }, /sqPsn .* not 0.5/],
    ['RC', 'RTR', { ...rts, timeout: 32 }, /timeout .* to 31/],
    ['RC', 'RTR', { ...rts, retryCnt: 8 }, /retryCnt .* to 7/],
    ['RC', 'RTR', { ...rts, rnrRetry: '7' as never }, /rnrRetry must be a number/],
    ['RC', 'RTR', { ...rts, maxRdAtomic: 9 }, /maxRdAtomic .* to 8/],
    ['RC', 'RTS', { pathMigState: 'MOVED' as never }, /pathMigState must be one of MIGRATED, REARM, ARMED/],
    ['UD', 'RTS', { qkey: 2 ** 32 }, /qkey .* to 4294967295/],
    ['UD', 'RTS', { curState: 'SQE' }, /curState is SQE, but the queue pair is in RTS/],
  ])('of %s in %s: a value out of its range is refused: %#', (type, state, attr, text) => {
    expect(failure(type, state, attr).message).toMatch(text);
  });

  it('takes SQE back to RTS for the types that have it', () => {
    expect(plan('UD', 'SQE', { state: 'RTS', curState: 'SQE', qkey: 1 })).toEqual({
      attr: { state: 3, curState: 5, qkey: 1 },
      mask: 0x43,
    });
    expect(plan('UC', 'SQE', { state: 'RTS', accessFlags: 1 }).mask).toBe(9);
    expect(failure('RC', 'SQE', { state: 'RTS', accessFlags: 1 }).message).toContain('does not take');
  });

  it('gives the alternate path the port of its address', () => {
    const { attr, mask } = plan(
      'RC',
      'RTS',
      { altAhAttr: { dlid: 7, port: 2 }, altTimeout: 3 },
      'infiniband',
    );
    expect(mask).toBe(1 << 14);
    expect(attr).toMatchObject({ altPort: 2, altTimeout: 3 });
  });

  it('of an iWARP device is for rdma_cm, but for ERR and what stays', () => {
    for (const [state, to] of [
      ['INIT', 'RTR'],
      ['RTR', 'RTS'],
      ['RTS', 'SQD'],
      ['RTS', 'RESET'],
      ['ERR', 'RESET'],
    ] as const) {
      const { code, message } = failure('RC', state, { state: to }, 'iwarp');
      expect(code).toBe('EOPNOTSUPP');
      expect(message).toContain(`iwarp0 is an iWARP device: only rdma_cm connects its queue pairs`);
      expect(message).toContain(`${state} → ${to}`);
    }
    expect(plan('RC', 'RTS', { state: 'ERR' }, 'iwarp').mask).toBe(1);
    expect(plan('RC', 'INIT', { ...init }, 'iwarp').mask).toBe(0x39);
    expect(plan('RC', 'RTS', { accessFlags: 3 }, 'iwarp').mask).toBe(8);
  });
});
