import { networkInterfaces } from 'node:os';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Address, getaddrinfo } from '../../../lib/index.ts';
import { CmScope, host6 } from '../helpers/cm.ts';
import { devices } from '../helpers/devices.ts';
import { rdmaErrorOf } from '../helpers/rejection.ts';

const netdevs = { rxe0: 'rxe-net', siw0: 'siw-net' };

describe.each(devices)('addresses on $name', (testDevice) => {
  const { name, host } = testDevice;
  const netdev = netdevs[name];
  let scope: CmScope;
  beforeEach(() => {
    scope = new CmScope(testDevice);
  });
  afterEach(() => scope.close());

  const linkLocal = () => {
    const found = networkInterfaces()[netdev]?.find((info) => info.address.startsWith('fe80:'));
    return { host: found!.address, scopeId: (found as { scopeid: number }).scopeid };
  };

  async function connect(bound: Address, target = bound) {
    const listener = scope.id();
    listener.bind(bound);
    listener.listen();
    const client = await scope.resolved({ ...target, port: listener.localAddress!.port });
    const connecting = client.connect();
    const server = await scope.requested(listener);
    await Promise.all([connecting, server.accept()]);
    return { listener, client, server };
  }

  it('are known at both ends, with their ports', async () => {
    const { listener, client, server } = await connect({ host, port: 0 });
    const { port } = listener.localAddress!;
    expect(port).toBeGreaterThan(0);
    expect(client.peerAddress).toEqual({ host, port, family: 'IPv4' });
    expect(server.localAddress).toEqual({ host, port, family: 'IPv4' });
    expect(client.localAddress).toMatchObject({ host, family: 'IPv4' });
    expect(server.peerAddress).toEqual(client.localAddress);
    expect(client.portNum).toBe(1);
    expect(client.pkey).toBe(0);
  });

  it('are kept after close', async () => {
    const { listener } = await connect({ host, port: 0 });
    const address = listener.localAddress;
    listener.close();
    expect(listener.localAddress).toEqual(address);
    expect(listener.device?.name).toBe(name);
  });

  it('are GIDs as well on RoCE', async () => {
    const { client } = await connect({ host, port: 0 });
    // iWARP's GIDs are made of Ethernet addresses.
    const gid = name === 'rxe0' ? `::ffff:${host}` : client.gid;
    expect(client.gid).toBe(gid);
    if (name === 'rxe0') expect(client.peerGid).toBe(gid);
  });

  it('may be IPv6 addresses', async () => {
    const { client, server } = await connect({ host: host6(name), port: 0 });
    expect(client.peerAddress).toMatchObject({ host: host6(name), family: 'IPv6' });
    expect(server.localAddress).toMatchObject({ host: host6(name), family: 'IPv6' });
    expect(client.localAddress).not.toHaveProperty('scopeId');
  });

  it('may be link-local, with the name or the number of their interface', async () => {
    const local = linkLocal();
    const { client } = await connect({ host: `${local.host}%${netdev}`, port: 0 }, { ...local, port: 0 });
    expect(client.peerAddress).toMatchObject({
      host: `${local.host}%${netdev}`,
      family: 'IPv6',
      scopeId: local.scopeId,
    });
    const error = await rdmaErrorOf(() => scope.id().bind({ host: `${local.host}%nowhere`, port: 0 }));
    expect(error).toMatchObject({ code: 'ENODEV' });
    expect(error.message).toContain('the zone of');
    expect((await rdmaErrorOf(() => scope.id().bind({ host: local.host, port: 0 }))).code).toBe('EINVAL');
  });

  it('may be the source that is asked for', async () => {
    const listener = scope.listener();
    const id = scope.id();
    const source = { host, port: 40_404 };
    await id.resolveAddr(listener.localAddress, { source });
    expect(id.localAddress).toEqual({ ...source, family: 'IPv4' });
    const wrong = scope.id().resolveAddr(listener.localAddress, { source: { host: 'a name', port: 0 } });
    expect((await rdmaErrorOf(() => wrong)).message).toMatch(/source\.host must be a numeric IP address/);
  });

  it('are found by name', async () => {
    const id = scope.id();
    const error = await rdmaErrorOf(() => id.resolveAddr({ host: 'no-such-host.invalid', port: 1 }));
    expect(['ENOTFOUND', 'EAI_AGAIN']).toContain(error.code);
    expect(error.message).toContain('no-such-host.invalid:1');
    expect(id.closed).toBe(true);
  });

  it('come from getaddrinfo, for either side', async () => {
    const [found] = await getaddrinfo(host, 7471);
    expect(found).toMatchObject({
      family: 'IPv4',
      target: { host, port: 7471, family: 'IPv4' },
      source: undefined,
      passive: false,
      portSpace: 'TCP',
      qpType: 'RC',
    });
    const [passive] = await getaddrinfo(host, '0', { passive: true, numericHost: true });
    expect(passive).toMatchObject({ passive: true, target: undefined });
    const listener = scope.id();
    listener.bind(passive!.source!);
    listener.listen();
    await scope.id().resolveAddr({ ...found!.target!, port: listener.localAddress!.port });
  });
});

describe('getaddrinfo', () => {
  it('takes hints', async () => {
    const [datagram] = await getaddrinfo('127.0.0.1', 9, {
      portSpace: 'UDP',
      numericHost: true,
      noRoute: true,
    });
    expect(datagram).toMatchObject({
      portSpace: 'UDP',
      qpType: 'UD',
      target: { host: '127.0.0.1', port: 9 },
    });
    const [v6] = await getaddrinfo('fd00:1::1', 9, { family: 'IPv6', qpType: 'RC' });
    expect(v6).toMatchObject({ family: 'IPv6', target: { host: 'fd00:1::1', port: 9, family: 'IPv6' } });
    const [any] = await getaddrinfo(undefined, 9, { passive: true });
    expect(any!.source).toMatchObject({ port: 9 });
    expect(any).toMatchObject({ route: Buffer.alloc(0), connectData: Buffer.alloc(0) });
  });

  it.each([
    ['not.numeric.', '9', { numericHost: true }, 'ENOTFOUND'],
    ['127.0.0.1', 'no-such-service', {}, 'EAI_SERVICE'],
    ['::1', '9', { family: 'IPv4', numericHost: true }, /^(EAI_ADDRFAMILY|ENOTFOUND|EIO)$/],
  ] as const)('says why there is no answer: %s %s %o', async (node, service, hints, code) => {
    const error = await rdmaErrorOf(() => getaddrinfo(node, service, hints));
    expect(error.code).toMatch(code);
    expect(error.syscall).toBe('rdma_getaddrinfo');
    expect(error.message).toContain(node);
  });

  it.each([
    [undefined, undefined, {}, /give a node, a service, or both/],
    ['a\0b', '1', {}, /null byte/],
    ['::1', '1', { family: 'IPX' as 'IPv4' }, /family must be one of IPv4, IPv6, not 'IPX'/],
    ['::1', '1', { portSpace: 'SCTP' as 'TCP' }, /portSpace must be one of TCP, UDP, IPOIB/],
    ['::1', '1', { qpType: 'XX' as 'RC' }, /qpType must be one of RC, UC, UD/],
    [5 as unknown as string, '1', {}, /node must be a non-empty string, not 5/],
  ])('refuses %s %s %o', async (node, service, hints, text) => {
    expect((await rdmaErrorOf(() => getaddrinfo(node, service, hints))).message).toMatch(text);
  });

  it('can be given up', async () => {
    const abort = new AbortController();
    const asking = getaddrinfo('127.0.0.1', 9, {}, { signal: abort.signal });
    abort.abort(new Error('never mind'));
    await expect(asking).rejects.toThrow('never mind');
    await expect(getaddrinfo('127.0.0.1', 9, {}, { signal: abort.signal })).rejects.toThrow('never mind');
    const wrong = getaddrinfo('127.0.0.1', 9, {}, { signal: 'soon' as never });
    expect((await rdmaErrorOf(() => wrong)).message).toMatch(/signal must be an AbortSignal, not 'soon'/);
  });
});
