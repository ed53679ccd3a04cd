import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { addon } from '../../../lib/addon.ts';
import {
  Access,
  type CmEvent,
  type CmId,
  type ConnectionEvent,
  defaultEventChannel,
  EventChannel,
  liveObjects,
  Opcode,
  WcStatus,
} from '../../../lib/index.ts';
import { CmScope, nextEvent } from '../helpers/cm.ts';
import { devices } from '../helpers/devices.ts';
import { rdmaErrorOf } from '../helpers/rejection.ts';

describe.each(devices)('events on $name', (testDevice) => {
  const { name, host } = testDevice;
  let scope: CmScope;
  beforeEach(() => {
    scope = new CmScope(testDevice);
  });
  afterEach(() => scope.close());

  const record = (id: CmId): CmEvent[] => {
    const events: CmEvent[] = [];
    id.on('event', (event) => events.push(event));
    return events;
  };

  it('come all, in order, with what they bring', async () => {
    const listener = scope.id();
    const client = scope.id();
    const heard = { listener: record(listener), client: record(client) };
    listener.bind({ host, port: 0 });
    listener.listen();
    await client.resolveAddr(listener.localAddress!);
    await client.resolveRoute();
    scope.queuePair(client);
    const connecting = client.connect({ privateData: Buffer.from('hello'), initiatorDepth: 2 });
    const server = await scope.requested(listener);
    const serverHeard = record(server);
    await Promise.all([connecting, server.accept({ privateData: Buffer.from('welcome') })]);
    const ended = [once(client, 'disconnected'), once(server, 'disconnected')];
    await client.disconnect();
    await Promise.all(ended);
    expect(heard.client.map((event) => event.name)).toEqual([
      'ADDR_RESOLVED',
      'ROUTE_RESOLVED',
      'ESTABLISHED',
      'DISCONNECTED',
    ]);
    expect(heard.listener.map((event) => event.name)).toEqual(['CONNECT_REQUEST']);
    expect(serverHeard.map((event) => event.name)).toEqual(['ESTABLISHED', 'DISCONNECTED']);
    expect(heard.client[0]).toEqual({ name: 'ADDR_RESOLVED', status: 0 });
    const [request] = heard.listener as [ConnectionEvent];
    expect(request.conn).toMatchObject({ responderResources: 2, srq: false });
    expect(request.privateData.toString('latin1', 0, 5)).toBe('hello');
    const established = heard.client[2] as ConnectionEvent;
    expect(established.privateData.toString('latin1', 0, 7)).toBe('welcome');
    expect(established.conn).toMatchObject({ initiatorDepth: 2 });
    // InfiniBand's CM says more than iWARP's.
    const said =
      name === 'rxe0' ? { qpNum: client.qp!.qpNum, retryCount: 6, rnrRetryCount: 6 } : { qpNum: 0 };
    expect(request.conn).toMatchObject(said);
  });

  it('tell of the end after the messages that came before it', async () => {
    const listener = scope.listener();
    const client = scope.id();
    await client.resolveAddr(listener.localAddress);
    await client.resolveRoute();
    // A message that wakes nobody is sure to be found after the event; siw wakes for every one.
    const recvCq = scope.keep(scope.device.createCq({ solicitedOnly: name === 'rxe0' }));
    const qp = client.createQp({ pd: scope.pd, sendCq: scope.device.createCq(), recvCq });
    const connecting = client.connect();
    const server = await scope.requested(listener);
    await Promise.all([connecting, server.accept()]);
    const order: unknown[] = [];
    const mr = await scope.pd.regMr(Buffer.alloc(64), Access.LOCAL_WRITE);
    qp.postRecv({ sges: [{ addr: mr.addr, length: 64, lkey: mr.lkey }] }, (status) => order.push(status));
    client.on('disconnected', () => order.push('disconnected'));
    const ended = once(client, 'disconnected');
    // On iWARP the side that connects sends first.
    await qp.send({ opcode: Opcode.RDMA_WRITE, sges: [], remoteAddr: 0, rkey: 0 });
    await server.qp.send({ opcode: Opcode.SEND, inline: Buffer.from('bye') });
    await server.disconnect();
    await ended;
    expect(order).toEqual([WcStatus.SUCCESS, 'disconnected']);
    await mr.close();
  });

  it('say when the number of a connection is free again, on RoCE', async () => {
    const { client } = await scope.connected();
    const events = record(client);
    await client.disconnect();
    if (name === 'rxe0') {
      expect(await nextEvent(client, 'TIMEWAIT_EXIT')).toEqual({ name: 'TIMEWAIT_EXIT', status: 0 });
    }
    expect(events.filter(({ name: what }) => what === 'DISCONNECTED')).toHaveLength(1);
    expect(client.state).toBe('disconnected');
    await client.disconnect();
  });

  it('that nobody has asked for are counted and shown, and a request among them is rejected', async () => {
    const channel = scope.keep(new EventChannel());
    const shown: CmEvent[] = [];
    channel.on('unclaimed', (event) => shown.push(event));
    const objects = liveObjects();
    // An id that JavaScript knows nothing of.
    const listener = addon.createId(channel._handle, 0x106);
    addon.bindAddr(listener, host, 0, 0);
    addon.listen(listener, 8);
    const { port } = addon.describeId(listener).local!;
    const client = await scope.resolved({ host, port });
    expect((await rdmaErrorOf(() => client.connect())).code).toMatch(/^ECONN(REFUSED|RESET)$/);
    expect(shown.map((event) => event.name)).toEqual(['CONNECT_REQUEST']);
    expect(channel.unclaimedCount).toBe(1);
    addon.close(listener);
    // The channel, the domain and the device of this test stay; the request and the listener do not.
    expect(liveObjects()).toBeLessThanOrEqual(objects + 2);
  });

  it('come to the channel that the id was given, and move with it', async () => {
    const [first, second] = [scope.keep(new EventChannel()), scope.keep(new EventChannel())];
    const listener = scope.listener({ channel: first });
    expect(listener.channel).toBe(first);
    const client = scope.id();
    expect(client.channel).toBe(defaultEventChannel());
    await client.resolveAddr(listener.localAddress);
    client.migrate(second);
    listener.migrate(second);
    expect([client.channel, listener.channel]).toEqual([second, second]);
    first.close();
    expect([client.closed, listener.closed]).toEqual([false, false]);
    await client.resolveRoute();
    scope.queuePair(client);
    const connecting = client.connect();
    const server = await scope.requested(listener);
    expect(server.channel).toBe(second);
    await Promise.all([connecting, server.accept()]);
    server.migrate(defaultEventChannel());
    const ended = once(server, 'disconnected');
    await client.disconnect();
    await ended;
    second.close();
    expect([client.closed, listener.closed, server.closed]).toEqual([true, true, false]);
    expect((await rdmaErrorOf(() => scope.id({ channel: second }))).code).toBe('ERR_RDMA_CLOSED');
    expect((await rdmaErrorOf(() => server.migrate(second))).code).toBe('ERR_RDMA_CLOSED');
    expect((await rdmaErrorOf(() => server.migrate({} as EventChannel))).message).toBe(
      'channel must be an EventChannel',
    );
  });

  it('are not lost when they wait during a move', async () => {
    const channel = scope.keep(new EventChannel());
    const id = scope.id();
    const raw = addon.createId(defaultEventChannel()._handle, 0x106);
    const seen = once(channel, 'unclaimed');
    addon.resolveAddr(raw, host, 9, 0, 500, undefined, 0, 0);
    addon.migrateId(raw, channel._handle);
    addon.refEventChannel(channel._handle, true);
    expect(await seen).toEqual([{ name: 'ADDR_RESOLVED', status: 0 }]);
    addon.close(raw);
    id.close();
  });

  it('end what waits for requests when the device goes', async () => {
    const driver = name === 'rxe0' ? 'rxe' : 'siw';
    const netdev = `${driver}8-net`;
    const run = (command: string, ...args: string[]) => promisify(execFile)(command, args);
    await run('ip', 'link', 'add', netdev, 'type', 'dummy');
    await run('ip', 'addr', 'add', '10.0.8.1/24', 'dev', netdev);
    await run('ip', 'link', 'set', netdev, 'up');
    await run('rdma', 'link', 'add', `${driver}8`, 'type', driver, 'netdev', netdev);
    const gone = new CmScope({ name: `${driver}8` as 'rxe0', host: '10.0.8.1' });
    const listener = gone.listener();
    const events = record(listener);
    const waiting = rdmaErrorOf(() => listener.nextRequest());
    const deleted = run('ip', 'link', 'delete', netdev);
    expect(await waiting).toMatchObject({ code: 'ENODEV', event: 'DEVICE_REMOVAL' });
    expect(events.map((event) => event.name)).toEqual(['DEVICE_REMOVAL']);
    expect(listener.closed).toBe(true);
    gone.close();
    await deleted;
  });
});
