import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Access, type CmId, Opcode, type QueuePair, type UdParam } from '../../../lib/index.ts';
import { CmScope, nextEvent } from '../helpers/cm.ts';
import { devices } from '../helpers/devices.ts';
import { rdmaErrorOf } from '../helpers/rejection.ts';

const [rxe, siw] = devices as [(typeof devices)[0], (typeof devices)[0]];
const UDP = { portSpace: 'UDP' } as const;
const GRH = 40;

describe('the port space UDP on rxe0', () => {
  let scope: CmScope;
  beforeEach(() => {
    scope = new CmScope(rxe);
  });
  afterEach(() => scope.close());

  async function looked(privateData?: Uint8Array): Promise<{
    client: CmId & { readonly qp: QueuePair };
    server: CmId & { readonly qp: QueuePair };
    ud: UdParam;
    answer: Buffer;
    asked: Buffer;
  }> {
    const listener = scope.listener(UDP);
    const client = await scope.resolved(listener.localAddress, UDP);
    const connecting = client.connect(privateData === undefined ? {} : { privateData });
    const server = await scope.requested(listener);
    await server.accept({ privateData: Buffer.from('over here') });
    const reply = await connecting;
    return {
      client,
      server,
      ud: reply.ud!,
      answer: reply.privateData,
      asked: server.request!.privateData,
    };
  }

  it('finds the queue pair of a datagram service, and carries private data both ways', async () => {
    const { client, server, ud, answer, asked } = await looked(Buffer.from('anyone there?'));
    expect(asked.toString('latin1', 0, 13)).toBe('anyone there?');
    expect(answer.toString('latin1', 0, 9)).toBe('over here');
    expect(ud).toMatchObject({
      qpNum: server.qp.qpNum,
      ahAttr: { port: 1, grh: { dgid: `::ffff:${rxe.host}` } },
    });
    expect(ud.qkey).toBe(server.qp.query().qkey);
    expect(client.qp.type).toBe('UD');
    expect(client.qp.query().state).toBe('RTS');
    expect([client.state, server.state]).toEqual(['connected', 'connected']);
  });

  it('sends datagrams to what it has found, and answers come back', async () => {
    const { client, server, ud } = await looked();
    const bytes = Buffer.alloc(4096);
    const mr = await scope.pd.regMr(bytes, Access.LOCAL_WRITE);
    const sge = (offset: number, length: number) => ({ addr: mr.addr + offset, length, lkey: mr.lkey });
    bytes.write('ping', 0);
    const received = server.qp.recv({ sges: [sge(1024, GRH + 16)] });
    const ah = scope.pd.createAh(ud.ahAttr);
    const target = { ah, remoteQpn: ud.qpNum, remoteQkey: ud.qkey };
    await client.qp.send({ opcode: Opcode.SEND, sges: [sge(0, 4)], ...target });
    expect((await received).byteLen).toBe(GRH + 4);
    expect(bytes.toString('latin1', 1024 + GRH, 1024 + GRH + 4)).toBe('ping');

    bytes.write('pong', 0);
    const answered = client.qp.recv({ sges: [sge(2048, GRH + 16)] });
    const back = scope.pd.createAhFromWc({}, bytes.subarray(1024, 1024 + GRH));
    await server.qp.send({
      opcode: Opcode.SEND,
      sges: [sge(0, 4)],
      ah: back,
      remoteQpn: client.qp.qpNum,
      remoteQkey: ud.qkey,
    });
    await answered;
    expect(bytes.toString('latin1', 2048 + GRH, 2048 + GRH + 4)).toBe('pong');
    client.qp.close();
    server.qp.close();
    ah.close();
    back.close();
    await mr.close();
  });

  it('says that the service refuses, with its private data and the reason', async () => {
    const listener = scope.listener(UDP);
    listener.on('connectRequest', (id) => id.reject(Buffer.from('not you')));
    const client = await scope.resolved(listener.localAddress, UDP);
    const error = await rdmaErrorOf(() => client.connect());
    expect(error).toMatchObject({ code: 'ECONNREFUSED', event: 'UNREACHABLE', reason: 2 });
    expect(error.message).toMatch(/the application refused it/);
    expect(Buffer.from(error.privateData!).toString('latin1', 0, 7)).toBe('not you');
    expect(client.closed).toBe(true);
  });

  it('says that nothing listens', async () => {
    const listener = scope.listener(UDP);
    const address = listener.localAddress;
    listener.close();
    const client = await scope.resolved(address, UDP);
    const error = await rdmaErrorOf(() => client.connect());
    expect(error).toMatchObject({ code: 'ECONNREFUSED', reason: 1 });
    expect(error.message).toMatch(/nothing listens there/);
  });

  it('tells apart the port spaces', async () => {
    const listener = scope.listener();
    const client = await scope.resolved(listener.localAddress, UDP);
    expect((await rdmaErrorOf(() => client.connect())).code).toBe('ECONNREFUSED');
  });

  it('takes 180 bytes of private data to connect, 136 to accept and to reject', async () => {
    const listener = scope.listener(UDP);
    const client = await scope.resolved(listener.localAddress, UDP);
    expect((await rdmaErrorOf(() => client.connect({ privateData: Buffer.alloc(181) }))).message).toMatch(
      /privateData has 181 bytes; at most 180 can be carried by connect in the port space UDP/,
    );
    const connecting = client.connect({ privateData: Buffer.alloc(180, 7) });
    const server = await scope.requested(listener);
    expect(server.request!.privateData.subarray(0, 180)).toEqual(Buffer.alloc(180, 7));
    const tooLong = { privateData: Buffer.alloc(137) };
    expect((await rdmaErrorOf(() => server.accept(tooLong))).message).toMatch(/137 bytes; at most 136/);
    expect((await rdmaErrorOf(() => server.reject(tooLong.privateData))).message).toMatch(/at most 136/);
    await server.accept({ privateData: Buffer.alloc(136, 9) });
    expect((await connecting).privateData).toEqual(Buffer.alloc(136, 9));
  });

  it('refuses what only connections have', async () => {
    const { client } = await looked();
    expect((await rdmaErrorOf(() => client.disconnect())).message).toMatch(
      /no connections in the port space UDP/,
    );
    expect((await rdmaErrorOf(() => client.setAckTimeout(14))).message).toMatch(/not acknowledged/);
    const other = await scope.resolved(scope.listener(UDP).localAddress, UDP);
    expect((await rdmaErrorOf(() => other.connect({ retryCount: 3 }))).message).toMatch(
      /retryCount has no meaning in the port space UDP/,
    );
    const wrongType = { pd: scope.pd, sendCq: scope.device.createCq(), type: 'RC' } as const;
    expect((await rdmaErrorOf(() => scope.id(UDP).createQp(wrongType))).message).toMatch(
      /queue pairs of ids of the port space UDP are UD/,
    );
  });

  it('is told that the peer is established by an event with the UD parameters', async () => {
    const listener = scope.listener(UDP);
    const client = await scope.resolved(listener.localAddress, UDP);
    const event = nextEvent(client, 'ESTABLISHED');
    const connecting = client.connect();
    await (await scope.requested(listener)).accept();
    await connecting;
    expect(await event).toMatchObject({ name: 'ESTABLISHED', status: 0, ud: { ahAttr: { port: 1 } } });
  });
});

describe('the port space UDP on siw0', () => {
  let scope: CmScope;
  beforeEach(() => {
    scope = new CmScope(siw);
  });
  afterEach(() => scope.close());

  it('is refused with a reason: iWARP has no datagrams', async () => {
    const listener = scope.id(UDP);
    listener.bind({ host: siw.host, port: 0 });
    const refused = await rdmaErrorOf(() => listener.listen());
    expect(refused).toMatchObject({ code: 'EOPNOTSUPP', syscall: 'rdma_listen' });
    expect(refused.message).toMatch(/siw0 is an iWARP device, which has no datagrams/);
    const client = scope.id(UDP);
    await client.resolveAddr({ host: siw.host, port: 7471 });
    expect((await rdmaErrorOf(() => client.resolveRoute())).code).toBe('EOPNOTSUPP');
    expect((await rdmaErrorOf(() => client.initQpAttr('INIT'))).code).toBe('EOPNOTSUPP');
    expect((await rdmaErrorOf(() => client.joinMulticast('239.1.2.3'))).code).toBe('EOPNOTSUPP');
    expect((await rdmaErrorOf(() => scope.queuePair(client))).code).toBe('EOPNOTSUPP');
  });
});

describe('the port space IPOIB', () => {
  it('has ids; RoCE has nothing for them to connect to', async () => {
    const scope = new CmScope(rxe);
    const id = scope.id({ portSpace: 'IPOIB' });
    expect(id.state).toBe('idle');
    scope.close();
    expect(id.closed).toBe(true);
  });

  it('is the last that there is', async () => {
    const error = await rdmaErrorOf(() => new CmScope(rxe).id({ portSpace: 'SDP' as 'UDP' }));
    expect(error.message).toBe('portSpace must be one of TCP, UDP, IPOIB, not SDP');
  });
});
