import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type AhAttr,
  type Device,
  liveObjects,
  openDevice,
  type ProtectionDomain,
} from '../../../lib/index.ts';
import { devices } from '../helpers/devices.ts';
import { ipv4GidIndex } from '../helpers/manual.ts';
import { rdmaErrorOf } from '../helpers/rejection.ts';

const [rxe, siw] = devices;

describe('address handles on rxe0', () => {
  let device: Device;
  let pd: ProtectionDomain;
  const sgidIndex = () => ipv4GidIndex(rxe!.name);
  const grh = () => ({ dgid: rxe!.host, sgidIndex: sgidIndex() });

  beforeAll(() => {
    device = openDevice('rxe0');
    pd = device.allocPd();
  });
  afterAll(() => device.close());

  it('makes one, which knows what it was made with', () => {
    using ah = pd.createAh({ grh: { ...grh(), hopLimit: 7, trafficClass: 3, flowLabel: 0xfffff }, sl: 1 });
    expect(ah.attr).toEqual({
      grh: {
        dgid: `::ffff:${rxe!.host}`,
        sgidIndex: sgidIndex(),
        hopLimit: 7,
        trafficClass: 3,
        flowLabel: 0xfffff,
      },
      dlid: 0,
      sl: 1,
      srcPathBits: 0,
      staticRate: 0,
      port: 1,
    });
  });

  it('takes a GID as 16 bytes too', () => {
    const dgid = Buffer.from('00000000000000000000ffff0a000101', 'hex');
    using ah = pd.createAh({ grh: { dgid, sgidIndex: sgidIndex() } });
    expect(ah.attr.grh?.dgid).toBe('::ffff:10.0.1.1');
  });

  it('goes with its domain', () => {
    const before = liveObjects();
    const other = device.allocPd();
    const ah = other.createAh({ grh: grh() });
    expect(liveObjects()).toBe(before + 2);
    other.close();
    expect(ah.closed).toBe(true);
    expect(liveObjects()).toBe(before);
    ah.close();
  });

  it.each<[string, () => unknown, RegExp]>([
    [
      'RoCE without a global route',
      () => ({ dlid: 1 }),
      /attr\.grh is missing: port 1 of rxe0 is an Ethernet/,
    ],
    ['nothing', () => undefined, /attr must be an object/],
    ['no GID', () => ({ grh: { sgidIndex: 0 } }), /attr\.grh\.dgid must be a GID.*not undefined/],
    ['a GID of 4 bytes', () => ({ grh: { dgid: Buffer.alloc(4) } }), /must be a GID/],
    ['a GID with a scope', () => ({ grh: { dgid: 'fe80::1%eth0' } }), /must be a GID.*eth0/],
    [
      'a GID index outside the table',
      () => ({ grh: { ...grh(), sgidIndex: 256 } }),
      /sgidIndex must be an integer from 0 to 255/,
    ],
    ['a flow label of 21 bits', () => ({ grh: { ...grh(), flowLabel: 1 << 20 } }), /flowLabel .* 1048575/],
    ['a hop limit of 256', () => ({ grh: { ...grh(), hopLimit: 256 } }), /hopLimit .* 255/],
    ['another port', () => ({ grh: grh(), port: 2 }), /attr\.port must be an integer from 1 to 1/],
    ['a service level of 16', () => ({ grh: grh(), sl: 16 }), /attr\.sl .* 15/],
  ])('refuses %s', async (_, attr, text) => {
    const error = await rdmaErrorOf(() => pd.createAh(attr() as AhAttr));
    expect(error.code).toMatch(/^ERR_/);
    expect(error.message).toMatch(text);
  });

  it('says what the kernel has refused: an empty entry of the GID table', async () => {
    const empty = { dgid: rxe!.host, sgidIndex: 255 };
    const error = await rdmaErrorOf(() => pd.createAh({ grh: empty }));
    expect(error.syscall).toBe('ibv_create_ah');
    expect(error.errno).toBeLessThan(0);
    expect(error.message).toMatch(/sgid_index 255.*the GID table has no such entry/);
  });

  it('finds the way back from an IPv4 datagram', () => {
    const buffer = Buffer.alloc(40);
    // On RoCE v2 over IPv4 the GRH's second half is the IPv4 header (ibv_init_ah_from_wc(3)).
    const header = buffer.subarray(20);
    header.writeUInt8(0x45, 0);
    header.writeUInt16BE(20, 2);
    header.writeUInt8(64, 8);
    header.writeUInt8(17, 9);
    for (const at of [12, 16]) Buffer.from(rxe!.host.split('.').map(Number)).copy(header, at);
    let sum = 0;
    for (let i = 0; i < 20; i += 2) sum += header.readUInt16BE(i);
    header.writeUInt16BE(~((sum & 0xffff) + (sum >>> 16)) & 0xffff, 10);
    using ah = pd.createAhFromWc({ srcQp: 17 }, buffer);
    expect(ah.attr.grh).toMatchObject({ dgid: `::ffff:${rxe!.host}`, sgidIndex: sgidIndex() });
  });

  it('refuses a short or missing GRH', async () => {
    expect((await rdmaErrorOf(() => pd.createAhFromWc({}, Buffer.alloc(39)))).message).toContain('39 bytes');
    const error = await rdmaErrorOf(() => pd.createAhFromWc({ grh: false }, Buffer.alloc(40)));
    expect(error.message).toContain('every RoCE datagram has a GRH');
    const nonsense = await rdmaErrorOf(() => pd.createAhFromWc({}, Buffer.alloc(40, 0xff)));
    expect(nonsense.syscall).toBe('ibv_init_ah_from_wc');
  });
});

describe('address handles on siw0', () => {
  it('are refused: iWARP has no datagrams', async () => {
    using device = openDevice('siw0');
    const pd = device.allocPd();
    const error = await rdmaErrorOf(() => pd.createAh({ grh: { dgid: siw!.host } }));
    expect(error).toMatchObject({ code: 'EOPNOTSUPP', syscall: 'ibv_create_ah', device: 'siw0' });
    const reply = await rdmaErrorOf(() => pd.createAhFromWc({}, Buffer.alloc(40)));
    expect(reply.code).toBe('EOPNOTSUPP');
  });
});
