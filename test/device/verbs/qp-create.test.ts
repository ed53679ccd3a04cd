import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type CompletionQueue,
  type Device,
  openDevice,
  type ProtectionDomain,
  QpCreateFlags,
  type QpOptions,
  type QpType,
} from '../../../lib/index.ts';
import { devices } from '../helpers/devices.ts';
import { rdmaErrorOf } from '../helpers/rejection.ts';

const offered: Readonly<Record<string, readonly QpType[]>> = { rxe0: ['RC', 'UC', 'UD'], siw0: ['RC'] };
const types: readonly QpType[] = ['RC', 'UC', 'UD', 'RAW_PACKET', 'XRC_SEND'];

describe.each(devices)('making queue pairs on $name', ({ name }) => {
  let device: Device;
  let pd: ProtectionDomain;
  let cq: CompletionQueue;

  beforeAll(() => {
    device = openDevice(name);
    pd = device.allocPd();
    cq = device.createCq();
  });
  afterAll(() => device.close());

  it.each(types)('makes %s, or says that the device has none', async (type) => {
    if (offered[name]!.includes(type)) {
      using qp = pd.createQp({ type, sendCq: cq });
      expect(qp.type).toBe(type);
      expect(qp.qpNum).toBeGreaterThan(0);
      expect(qp.caps).toMatchObject({ maxSendWr: 64, maxRecvWr: 64 });
      return;
    }
    const error = await rdmaErrorOf(() => pd.createQp({ type, sendCq: cq }));
    expect(error.code).toBe('EOPNOTSUPP');
    expect(error.message).toContain(`device ${name} has no ${type} queue pairs`);
  });

  it('says that it has no XRC domains', async () => {
    const error = await rdmaErrorOf(() => device.openXrcd());
    expect(error).toMatchObject({ code: 'EOPNOTSUPP', syscall: 'ibv_open_xrcd' });
    expect(error.message).toContain(name);
    expect(error.message).toContain('no extended reliable connections');
    expect((await rdmaErrorOf(() => device.openXrcd({ fd: -2 }))).message).toMatch(/fd must be an integer/);
  });

  it('gives the room in the completion queues back when it fails, and at close', async () => {
    await rdmaErrorOf(() =>
      pd.createQp({ sendCq: cq, maxSendWr: cq.cqe - 1, maxRecvWr: 1, maxInlineData: 60_000 }),
    );
    for (let i = 0; i < 4; i += 1) {
      using _ = pd.createQp({ sendCq: cq, maxSendWr: cq.cqe - 1, maxRecvWr: 1 });
    }
    const error = await rdmaErrorOf(() => pd.createQp({ sendCq: cq, maxSendWr: cq.cqe, maxRecvWr: 1 }));
    expect(error).toMatchObject({ code: 'ENOSPC', syscall: 'ibv_create_qp' });
  });

  it('limits a message to the packet for UD, to the port for the rest', () => {
    using rc = pd.createQp({ sendCq: cq });
    expect(rc.caps.maxMessage).toBe(Math.min(device.queryPort().maxMsgSz, 2 ** 31));
    if (name === 'siw0') return;
    using ud = pd.createQp({ type: 'UD', sendCq: cq });
    expect(ud.caps.maxMessage).toBe(device.queryPort().activeMtu);
  });

  it('takes a queue pair that never receives', () => {
    using qp = pd.createQp({ sendCq: cq, maxRecvWr: 0 });
    expect(qp.caps.maxRecvWr).toBe(0);
    expect(qp.recvFree).toBe(0);
  });

  it.each<[string, () => Partial<QpOptions>, RegExp]>([
    ['an unknown type', () => ({ type: 'DC' as QpType }), /type must be one of RC, UC, UD.*not DC/],
    ['no send queue', () => ({ sendCq: undefined as never }), /sendCq must be a CompletionQueue/],
    ['a wrong receive queue', () => ({ recvCq: {} as never }), /recvCq must be a CompletionQueue/],
    ['no send work requests', () => ({ maxSendWr: 0 }), /maxSendWr must be an integer from 1/],
    [
      'too many send work requests',
      () => ({ maxSendWr: device.attr.maxQpWr + 1 }),
      /maxSendWr must be an integer from 1 to \d+/,
    ],
    ['too many SGEs', () => ({ maxRecvSge: device.attr.maxSge + 1 }), /maxRecvSge must be an integer from 0/],
    ['another port', () => ({ port: 9 }), /port must be an integer from 1 to 1, not 9/],
    ['XRC_RECV without its domain', () => ({ type: 'XRC_RECV' }), /xrcd must be an XrcDomain/],
    ['an XRC domain for RC', () => ({ xrcd: {} as never }), /xrcd is only for XRC_RECV .* not for RC/],
    ['unknown flags', () => ({ createFlags: 1 }), /createFlags 0x1 has flags that are not in QpCreateFlags/],
    ['a source QPN without its flag', () => ({ sourceQpn: 5 }), /sourceQpn needs QpCreateFlags.SOURCE_QPN/],
  ])('refuses %s', async (_, wrong, text) => {
    const error = await rdmaErrorOf(() => pd.createQp({ sendCq: cq, ...wrong() }));
    expect(error.code).toMatch(/^ERR_/);
    expect(error.message).toMatch(text);
  });

  it('refuses a completion queue of another device', async () => {
    using other = openDevice(name === 'rxe0' ? 'siw0' : 'rxe0');
    const foreign = other.createCq();
    for (const queues of [{ sendCq: foreign }, { sendCq: cq, recvCq: foreign }]) {
      const error = await rdmaErrorOf(() => pd.createQp(queues));
      expect(error).toMatchObject({ code: 'EINVAL', syscall: 'ibv_create_qp' });
      expect(error.message).toContain(`is of device ${name}, a completion queue of another`);
    }
  });

  it('says so when the device has none of the flags', async () => {
    const createFlags = QpCreateFlags.SCATTER_FCS;
    const error = await rdmaErrorOf(() => pd.createQp({ sendCq: cq, createFlags }));
    expect(error.code).toBe('EOPNOTSUPP');
    expect(error.message).toContain('or not with these createFlags');
  });

  it('says what inline length was too much', async () => {
    const error = await rdmaErrorOf(() => pd.createQp({ sendCq: cq, maxInlineData: 60_000 }));
    expect(error).toMatchObject({ code: 'EINVAL', syscall: 'ibv_create_qp' });
    expect(error.message).toContain('max_inline_data 60000');
  });
});
