import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { DeviceCapFlags, formatGuid, listDevices, openDevice, PortCapFlags } from '../../../lib/index.ts';
import { devices } from '../helpers/devices.ts';
import { connectedPair } from '../helpers/pair.ts';
import { rdmaErrorOf } from '../helpers/rejection.ts';

const sysfs = (path: string) => readFileSync(`/sys/class/infiniband/${path}`, 'utf8').trim();
const netdevs = { rxe0: 'rxe-net', siw0: 'siw-net' };

describe.each(devices)('what $name tells about itself', ({ name, host }) => {
  const rxe = name === 'rxe0';

  it('has the attributes of ibv_query_device(3)', () => {
    using device = openDevice(name);
    const { attr } = device;
    expect(formatGuid(attr.nodeGuid)).toBe(sysfs(`${name}/node_guid`));
    expect(formatGuid(attr.sysImageGuid)).toBe(sysfs(`${name}/sys_image_guid`));
    expect(attr.nodeGuid).toBe(listDevices().find((info) => info.name === name)?.guid);
    expect(attr.vendorId).toBe(rxe ? 0xffffff : 0x626d74);
    expect(attr.atomicCap).toBe(rxe ? 'hca' : 'none');
    expect(attr.maxMcastGrp > 0).toBe(rxe);
    expect(attr.maxSrq).toBeGreaterThan(0);
    expect(attr.maxMw > 0).toBe(rxe);
    expect(BigInt(attr.deviceCapFlags) & DeviceCapFlags.MEM_WINDOW_TYPE_2B).toBe(rxe ? 1n << 24n : 0n);
    for (const [key, value] of Object.entries(attr)) expect(value, key).not.toBeUndefined();
    expect(device.nodeDesc).toBe(sysfs(`${name}/node_desc`));
    expect(device.boardId).toBeUndefined();
  });

  it('has what ibv_query_device_ex(3) adds', () => {
    using device = openDevice(name);
    expect(device.attrEx.odpCaps).toEqual({
      general: rxe ? 1 : 0,
      rc: rxe ? 0xff : 0,
      uc: 0,
      ud: rxe ? 0x23 : 0,
      xrc: 0,
    });
    expect(device.attrEx.deviceCapFlagsEx & 0xffffffffn).toBe(BigInt(device.attr.deviceCapFlags));
    expect(device.attrEx).toMatchObject({
      completionTimestampMask: 0n,
      hcaCoreClock: 0,
      maxDmSize: 0,
      physPortCntEx: 1,
      tsoCaps: { maxTso: 0, supportedQpts: 0 },
      cqModCaps: { maxCqCount: 0, maxCqPeriod: 0 },
      pciAtomicCaps: { fetchAdd: 0, swap: 0, compareSwap: 0 },
    });
  });

  it('has a port whose rate and states are those of sysfs', () => {
    using device = openDevice(name);
    const port = device.queryPort(1);
    expect(`${port.rate} Gb/sec (${port.activeWidth}X ${port.activeSpeed})`).toBe(
      sysfs(`${name}/ports/1/rate`),
    );
    expect(sysfs(`${name}/ports/1/state`)).toContain(port.state);
    expect(port.physState).toBe('LINK_UP');
    expect(port.portCapFlags & PortCapFlags.CM_SUP).not.toBe(0);
    expect(port.grhRequired).toBe(rxe);
    expect(port.gidTblLen).toBeGreaterThan(0);
    expect(port.pkeyTblLen).toBe(rxe ? 1 : 0);
    expect(port.maxMsgSz).toBe(rxe ? 2 ** 31 : 2 ** 32 - 1);
    expect(port.activeMtu).toBeGreaterThanOrEqual(256);
  });

  it.each([0, 2, 256, 1.5])('refuses port %o and says which there are', async (port) => {
    using device = openDevice(name);
    const calls = [
      () => device.queryPort(port),
      () => device.queryGid(port, 0),
      () => device.queryPkey(port, 0),
      () => device.queryGidTable(port),
      () => device.counters(port),
    ];
    for (const call of calls) {
      const error = await rdmaErrorOf(call);
      expect(error.code).toBe('ERR_OUT_OF_RANGE');
      expect(error.message).toBe(`port of ${name} must be an integer from 1 to 1, not ${port}`);
    }
  });

  it('has GIDs with bytes, text, type and netdev', () => {
    using device = openDevice(name);
    const table = device.queryGidTable();
    expect(table.length).toBeGreaterThan(0);
    for (const entry of table) {
      expect(entry.netdev).toBe(netdevs[name]);
      expect(entry.type).toBe(rxe ? 'RoCE v2' : 'IB');
      expect(Buffer.from(entry.gid).toString('hex')).toBe(
        sysfs(`${name}/ports/1/gids/${entry.index}`).replaceAll(':', ''),
      );
      expect(device.queryGid(1, entry.index)).toEqual(entry);
    }
    if (rxe) {
      expect(table.map(({ text }) => text)).toContain(`::ffff:${host}`);
      expect(table.map(({ text }) => text).some((text) => /^fe80::[0-9a-f]/.test(text))).toBe(true);
    }
    expect(device.queryGidTable(1)).toEqual(table);
  });

  it('says undefined for an empty GID and refuses an index outside the table', async () => {
    using device = openDevice(name);
    const { gidTblLen } = device.queryPort();
    if (rxe) expect(device.queryGid(1, gidTblLen - 1)).toBeUndefined();
    const error = await rdmaErrorOf(() => device.queryGid(1, gidTblLen));
    expect(error.code).toBe('ERR_OUT_OF_RANGE');
    expect(error.message).toBe(
      `GID index of port 1 of ${name} must be an integer from 0 to ${gidTblLen - 1}, not ${gidTblLen}`,
    );
  });

  it('has partition keys, where the transport has them', async () => {
    using device = openDevice(name);
    expect(device.queryPkeyTable()).toEqual(rxe ? [0xffff] : []);
    if (rxe) expect(device.queryPkey(1, 0)).toBe(0xffff);
    const error = await rdmaErrorOf(() => device.queryPkey(1, rxe ? 1 : 0));
    expect(error.code).toBe('ERR_OUT_OF_RANGE');
    expect(error.message).toBe(
      rxe
        ? 'partition key index of port 1 of rxe0 must be an integer from 0 to 0, not 1'
        : 'port 1 of siw0 has no partition keys',
    );
  });

  it('refuses to tell a clock that it does not have', async () => {
    using device = openDevice(name);
    const error = await rdmaErrorOf(() => device.queryRawClock());
    expect(error).toMatchObject({ code: 'EOPNOTSUPP', syscall: 'ibv_query_rt_values_ex' });
    expect(error.message).toContain(name);
  });

  it('counts what it sends and receives, where the driver counts', async () => {
    const pair = await connectedPair(name);
    const before = await pair.device.counters();
    const { mr } = await pair.memory(64);
    const sge = { addr: mr.addr, length: 64, lkey: mr.lkey };
    const received = pair.server.qp.recv({ sges: [sge] });
    await pair.client.qp.send({ opcode: 2, sges: [sge] });
    await received;
    const after = await pair.device.counters();
    if (rxe) {
      expect(
        (after.hwCounters.sent_pkts as bigint) - (before.hwCounters.sent_pkts as bigint),
      ).toBeGreaterThan(0n);
      expect(Object.keys(after.counters)).toContain('port_xmit_data');
      expect(Object.keys(after.hwCounters)).not.toContain('lifespan');
    } else {
      expect(after).toEqual({ counters: {}, hwCounters: {} });
    }
    expect(await pair.device.deviceCounters()).toEqual({});
    await pair.close();
  });
});
