import { describe, expect, it } from 'vitest';
import { liveObjects, openDevice } from '../../../lib/index.ts';
import { devices } from '../helpers/devices.ts';
import { rdmaErrorOf } from '../helpers/rejection.ts';

const none = {
  send: false,
  recv: false,
  write: false,
  read: false,
  atomic: false,
  srqRecv: false,
  flush: false,
  atomicWrite: false,
};

const expected = {
  rxe0: {
    atomics: 'hca',
    hasAtomics: true,
    memoryWindows: { type1: true, type2A: false, type2B: true },
    odp: {
      explicit: true,
      implicit: false,
      rc: {
        send: true,
        recv: true,
        write: true,
        read: true,
        atomic: true,
        srqRecv: true,
        flush: true,
        atomicWrite: true,
      },
      uc: none,
      ud: { ...none, send: true, recv: true, srqRecv: true },
      xrc: none,
    },
    srq: true,
    srqResize: true,
    qpTypes: { RC: true, UC: true, UD: true, RAW_PACKET: false, XRC_SEND: false, XRC_RECV: false },
    manualConnection: true,
    immediateData: true,
    sendWithInvalidate: true,
    localInvalidate: true,
    flush: false, // rxe has it, rdma-core 44 does not
    flushPersistent: false,
    atomicWrite: true,
    extendedQp: true,
    ece: false,
    extendedCq: true,
    completionTimestamps: false,
    deviceClock: false,
    cqModeration: false,
    cqResize: true,
    dmaBuf: false,
    rereg: false,
    multicast: true,
    deviceMemory: false,
    tagMatching: false,
    packetPacing: false,
    maxInlineData: 512,
  },
  siw0: {
    atomics: 'none',
    hasAtomics: false,
    memoryWindows: { type1: false, type2A: false, type2B: false },
    odp: { explicit: false, implicit: false, rc: none, uc: none, ud: none, xrc: none },
    srq: true,
    srqResize: false,
    qpTypes: { RC: true, UC: false, UD: false, RAW_PACKET: false, XRC_SEND: false, XRC_RECV: false },
    manualConnection: false,
    immediateData: false,
    sendWithInvalidate: true,
    localInvalidate: false,
    flush: false,
    flushPersistent: false,
    atomicWrite: false,
    extendedQp: false,
    ece: false,
    extendedCq: false,
    completionTimestamps: false,
    deviceClock: false,
    cqModeration: false,
    cqResize: false,
    dmaBuf: false,
    rereg: false,
    multicast: false,
    deviceMemory: false,
    tagMatching: false,
    packetPacing: false,
    maxInlineData: 80,
  },
};

describe.each(devices)('capabilities of $name', ({ name }) => {
  it('are known', () => {
    using device = openDevice(name);
    expect(JSON.parse(JSON.stringify(device.caps))).toEqual(expected[name]);
  });

  it('are what the device grants: inline data up to the limit and no byte more', async () => {
    using device = openDevice(name);
    const maxInlineData = device.caps.maxInlineData();
    const sendCq = device.createCq();
    const pd = device.allocPd();
    const options = { sendCq, maxSendWr: 1, maxRecvWr: 1, maxSendSge: 1, maxRecvSge: 1 };
    pd.createQp({ ...options, maxInlineData }).close();
    const error = await rdmaErrorOf(() => pd.createQp({ ...options, maxInlineData: maxInlineData + 1 }));
    expect(error.message).toContain(String(maxInlineData + 1));
  });

  it('leave nothing behind, and are remembered after close', async () => {
    const device = openDevice(name);
    const before = liveObjects();
    expect(device.caps.qpType('RC')).toBe(true);
    expect(liveObjects()).toBe(before);
    device.close();
    expect(device.caps.qpType('RC')).toBe(true);
    const error = await rdmaErrorOf(() => device.caps.cqResize);
    expect(error).toMatchObject({ code: 'ERR_RDMA_CLOSED', message: 'the device is closed' });
  });
});
