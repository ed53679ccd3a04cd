/** Devices, ports, GIDs, and what a device lacks. */
import { readFileSync } from 'node:fs';
import { expect } from 'vitest';
import { type Device, formatGuid, listDevices, openDevice } from '../../../lib/index.ts';
import { rdmaErrorOf } from '../../device/helpers/rejection.ts';
import { absent, implement, implementAll } from '../harness.ts';

const PAGE = 4096;

/** A file of the device in sysfs: what the kernel itself says. */
function sysfs(device: Device, path: string): string {
  return readFileSync(`/sys/class/infiniband/${device.name}/${path}`, 'utf8').trim();
}

/** What every device has some of. */
function checkLimits({ attr, transport }: Device): void {
  expect(attr.nodeGuid).not.toBe(0n);
  expect(attr.sysImageGuid).not.toBe(0n);
  expect(attr.vendorId).toBeGreaterThan(0);
  expect(attr.maxMrSize).toBeGreaterThan(PAGE);
  expect(attr.pageSizeCap).toBeGreaterThanOrEqual(BigInt(PAGE));
  for (const limit of ['maxQp', 'maxQpWr', 'maxSge', 'maxCq', 'maxCqe', 'maxMr', 'maxPd'] as const) {
    expect(attr[limit], limit).toBeGreaterThan(0);
  }
  if (transport === 'ib') expect(attr.maxPkeys).toBeGreaterThan(0);
}

implement('test_device', 'DeviceTest', {
  test_dev_list({ name, device }) {
    const info = listDevices().find((one) => one.name === name)!;
    expect(info.transport).toBe(name === 'siw0' ? 'iwarp' : 'ib');
    expect(info.guid).toBe(device.attr.nodeGuid);
  },

  test_open_dev({ name }) {
    using device = openDevice(name);
    expect(device.name).toBe(name);
    expect(device.closed).toBe(false);
  },

  test_query_device({ device }) {
    checkLimits(device);
    expect(sysfs(device, 'node_guid')).toBe(formatGuid(device.attr.nodeGuid));
  },

  async test_query_pkey({ device }) {
    if (device.transport !== 'iwarp') {
      expect(device.queryPkey(1, 0)).toBe(Number(sysfs(device, 'ports/1/pkeys/0')));
      return;
    }
    // iWARP has none (pyverbs passes here without a query).
    expect((await rdmaErrorOf(() => device.queryPkey(1, 0))).message).toContain('has no partition keys');
  },

  test_get_pkey_index({ device }) {
    const table = device.queryPkeyTable(1);
    if (device.transport === 'iwarp') return absent('iWARP has no partition keys: queryPkeyTable() is empty');
    expect(table.indexOf(Number(sysfs(device, 'ports/1/pkeys/0')))).toBe(0);
    return undefined;
  },

  test_query_gid({ device }) {
    const entry = device.queryGid(1, 0)!;
    const shown = Buffer.from(entry.gid)
      .toString('hex')
      .replace(/(.{4})(?=.)/g, '$1:');
    expect(shown).toBe(sysfs(device, 'ports/1/gids/0'));
  },

  test_query_gid_table({ device }) {
    const table = device.queryGidTable();
    expect(table.length).toBeGreaterThan(0);
    for (const { port, index, gid, type, netdev } of table) {
      expect(port).toBe(1);
      expect(index).toBeLessThan(device.queryPort(1).gidTblLen);
      expect(gid.length).toBe(16);
      expect(type).toBe(device.transport === 'iwarp' ? 'IB' : 'RoCE v2');
      if (netdev !== undefined) expect(netdev).toBe(sysfs(device, `ports/1/gid_attrs/ndevs/${index}`));
    }
  },

  test_query_gid_table_bad_flow({ device }) {
    // The library measures the table itself: no caller can give it too little room, and every entry is there.
    const { gidTblLen } = device.queryPort(1);
    const single = Array.from({ length: gidTblLen }, (_, index) => device.queryGid(1, index));
    expect(device.queryGidTable(1).map(({ index }) => index)).toEqual(
      single.filter((entry) => entry !== undefined).map(({ index }) => index),
    );
  },

  test_query_gid_ex({ device }) {
    expect(device.queryGid(1, 0)).toEqual(device.queryGidTable(1)[0]);
  },

  async test_query_gid_ex_bad_flow({ device }) {
    const { gidTblLen } = device.queryPort(1);
    const occupied = device.queryGidTable(1).map(({ index }) => index);
    const empty = Array.from({ length: gidTblLen }, (_, index) => index).find((i) => !occupied.includes(i));
    const error = await rdmaErrorOf(() => device.queryGid(1, gidTblLen));
    expect(error).toMatchObject({ code: 'ERR_OUT_OF_RANGE' });
    expect(error.message).toContain(String(gidTblLen));
    if (empty === undefined) expect(gidTblLen).toBe(occupied.length);
    else expect(device.queryGid(1, empty)).toBeUndefined();
  },

  test_query_device_ex({ device }) {
    checkLimits(device);
    const { attr, attrEx } = device;
    expect(Number(attrEx.deviceCapFlagsEx & 0xffff_ffffn)).toBe(attr.deviceCapFlags >>> 0);
    expect(device.caps.odp.explicit).toBe((attrEx.odpCaps.general & 1) !== 0);
  },

  test_phys_port_cnt_ex({ device }) {
    const { physPortCntEx } = device.attrEx;
    expect(device.attr.physPortCnt).toBe(physPortCntEx === 0 ? 1 : Math.min(physPortCntEx, 255));
  },

  test_query_port({ device }) {
    const port = device.queryPort(1);
    expect(port).toMatchObject({ state: 'ACTIVE', physState: 'LINK_UP', linkLayer: 'Ethernet' });
    expect(port.state).toBe(sysfs(device, 'ports/1/state').replace(/^\d+: /, ''));
    expect(port.maxMsgSz).toBeGreaterThan(PAGE);
    const mtus = [256, 512, 1024, 2048, 4096];
    expect(mtus).toContain(port.activeMtu);
    expect(mtus).toContain(port.maxMtu);
    // siw has no packets of its own, and what it says of them makes no sense.
    if (device.transport === 'ib') expect(port.activeMtu).toBeLessThanOrEqual(port.maxMtu);
    expect(port.activeWidth).toBeGreaterThan(0);
    expect(port.activeSpeed).not.toBe('UNKNOWN');
  },

  async test_query_port_bad_flow({ device }) {
    const ports = device.attr.physPortCnt;
    for (const port of [0, ports + 1, ports + 10, 255, 256, -1, 1.5]) {
      const error = await rdmaErrorOf(() => device.queryPort(port));
      expect(error).toMatchObject({ code: 'ERR_OUT_OF_RANGE' });
      expect(error.message).toContain(String(port));
    }
  },

  test_query_port_speed({ device }) {
    // rdma-core 44 has no ibv_query_port_speed; the port's width and speed tell the same.
    const { rate } = device.queryPort(1);
    const shown = Number.parseFloat(sysfs(device, 'ports/1/rate'));
    expect(rate).toBeGreaterThan(0);
    expect(rate).toBe(shown);
  },
});

const noDeviceMemory = ({ device }: { device: Device }) => {
  expect(device.caps.deviceMemory).toBe(false);
  expect(device.attrEx.maxDmSize).toBe(0);
  return absent('no device memory: caps.deviceMemory is false, attrEx.maxDmSize is 0');
};
implementAll('test_device', 'DMTest', noDeviceMemory);
implementAll('test_device', 'SharedDMTest', noDeviceMemory);
implementAll('test_mr', 'DeviceMemoryAPITest', noDeviceMemory);
implementAll('test_mr', 'DeviceMemoryTest', noDeviceMemory);
