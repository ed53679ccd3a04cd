import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Access, type CmId, Opcode, type QueuePair } from '../../../lib/index.ts';
import { CmScope } from '../helpers/cm.ts';
import { devices } from '../helpers/devices.ts';
import { rdmaErrorOf } from '../helpers/rejection.ts';

describe.each(devices)('queue pairs of their user on $name', (testDevice) => {
  const iwarp = testDevice.name === 'siw0';
  let scope: CmScope;
  beforeEach(() => {
    scope = new CmScope(testDevice);
  });
  afterEach(() => scope.close());

  const outside = (): QueuePair =>
    scope.keep(scope.pd.createQp({ sendCq: scope.device.createCq(), maxInlineData: 16 }));

  async function resolved(listener: CmId): Promise<CmId> {
    const id = scope.id();
    await id.resolveAddr(listener.localAddress!);
    await id.resolveRoute();
    return id;
  }

  /** Over iWARP the kernel takes the queue pair on from INIT. */
  function bringUp(id: CmId, qp: QueuePair): void {
    if (iwarp) return;
    qp.modify(id.initQpAttr('RTR'));
    qp.modify(id.initQpAttr('RTS'));
  }

  interface Ends {
    readonly client: CmId;
    readonly server: CmId;
    readonly clientQp: QueuePair;
    readonly serverQp: QueuePair;
  }

  /** A request that has come, and can be accepted. */
  async function requested(): Promise<Ends & { readonly connecting: ReturnType<CmId['connect']> }> {
    const listener = scope.listener();
    const [clientQp, serverQp] = [outside(), outside()];
    const client = await resolved(listener);
    clientQp.modify(client.initQpAttr('INIT'));
    const connecting = client.connect({ qpNum: clientQp.qpNum });
    const server = scope.keep(await listener.nextRequest());
    serverQp.modify(server.initQpAttr('INIT'));
    bringUp(server, serverQp);
    return { client, server, clientQp, serverQp, connecting };
  }

  async function connected(): Promise<Ends> {
    const { client, server, clientQp, serverQp, connecting } = await requested();
    const accepting = server.accept({ qpNum: serverQp.qpNum });
    const reply = await connecting;
    expect(reply.established).toBe(iwarp);
    if (!iwarp) {
      expect(client.state).toBe('responded');
      expect(reply.conn!.qpNum).toBe(serverQp.qpNum);
      bringUp(client, clientQp);
      client.establish();
    }
    await accepting;
    expect([client.state, server.state]).toEqual(['connected', 'connected']);
    return { client, server, clientQp, serverQp };
  }

  it('are connected by their number, and carry messages', async () => {
    const { clientQp, serverQp } = await connected();
    const bytes = Buffer.alloc(64);
    const mr = await scope.pd.regMr(bytes, Access.LOCAL_WRITE);
    const received = serverQp.recv({ sges: [{ addr: mr.addr, length: 64, lkey: mr.lkey }] });
    await clientQp.send({ opcode: Opcode.SEND, inline: Buffer.from('from outside') });
    expect((await received).byteLen).toBe(12);
    expect(bytes.toString('latin1', 0, 12)).toBe('from outside');
    clientQp.close();
    serverQp.close();
    await mr.close();
  });

  it('have a sane RNR timer and finite retries', async () => {
    const { clientQp, serverQp } = await connected();
    // libsiw does not know these attributes.
    const known = iwarp ? undefined : { minRnrTimer: 12, retryCnt: 6, rnrRetry: 6 };
    for (const qp of [clientQp, serverQp]) {
      const { minRnrTimer, retryCnt, rnrRetry } = qp.query();
      expect({ minRnrTimer, retryCnt, rnrRetry }).toEqual(
        known ?? { minRnrTimer: undefined, retryCnt: undefined, rnrRetry: undefined },
      );
    }
  });

  it('hear of the end of the connection by their ids', async () => {
    const { client, server } = await connected();
    const told = [once(client, 'disconnected'), once(server, 'disconnected')];
    await client.disconnect();
    await Promise.all(told);
    expect([client.state, server.state]).toEqual(['disconnected', 'disconnected']);
  });

  it('hear of an end that came before the peer has heard of the beginning', async () => {
    const { client, server, clientQp, serverQp, connecting } = await requested();
    const accepting = server.accept({ qpNum: serverQp.qpNum }).catch(() => undefined);
    const told = once(client, 'disconnected');
    await connecting;
    // The kernel's threads, which carry the last word of the handshake, wait until this one sleeps.
    execFileSync('chrt', ['--fifo', '--pid', '1', String(process.pid)]);
    if (!iwarp) {
      bringUp(client, clientQp);
      client.establish();
    }
    server.close();
    execFileSync('chrt', ['--other', '--pid', '0', String(process.pid)]);
    await Promise.all([accepting, told]);
    expect(client.state).toBe('disconnected');
    await client.disconnect();
  });

  it('are needed: an id without any is not connected', async () => {
    const listener = scope.listener();
    const client = await resolved(listener);
    const error = await rdmaErrorOf(() => client.connect());
    expect(error).toMatchObject({ code: 'ERR_RDMA_STATE', syscall: 'rdma_connect' });
    expect(error.message).toMatch(/no queue pair: call createQp\(\), or give the qpNum of another one/);
    expect(client.state).toBe('routeResolved');
  });

  it('give rdma_cm the attributes of a state only when it knows them', async () => {
    const listener = scope.listener();
    const unbound = scope.id();
    expect((await rdmaErrorOf(() => unbound.initQpAttr('INIT'))).message).toMatch(/not bound to a device/);
    expect((await rdmaErrorOf(() => listener.initQpAttr('INIT'))).message).toMatch(/is listening/);
    expect((await rdmaErrorOf(() => unbound.initQpAttr('ERR' as 'RTS'))).message).toMatch(
      /state must be INIT, RTR or RTS, not ERR/,
    );
    const id = await resolved(listener);
    expect(id.initQpAttr('INIT')).toMatchObject({ state: 'INIT', port: 1, pkeyIndex: 0 });
  });

  it('may be refused after the peer has answered', async () => {
    if (iwarp) {
      // There the answer is the end of the handshake.
      const { client } = await connected();
      expect((await rdmaErrorOf(() => client.reject())).code).toBe('ERR_RDMA_STATE');
      return;
    }
    const { client, server, serverQp, connecting } = await requested();
    const accepting = rdmaErrorOf(() => server.accept({ qpNum: serverQp.qpNum }));
    await connecting;
    client.reject(Buffer.from('on second thought'));
    const error = await accepting;
    expect(error).toMatchObject({ code: 'ECONNREFUSED', event: 'REJECTED', reason: 28 });
    expect(Buffer.from(error.privateData!).toString('latin1', 0, 17)).toBe('on second thought');
  });

  it('agree on ECE as far as their users do', async () => {
    const listener = scope.listener();
    const client = await resolved(listener);
    const qp = outside();
    client.setLocalEce({ vendorId: 0x1234, options: 5 });
    qp.modify(client.initQpAttr('INIT'));
    const connecting = client.connect({ qpNum: qp.qpNum });
    connecting.catch(() => undefined);
    const server = scope.keep(await listener.nextRequest());
    // iWARP's handshake has no room for it.
    expect(server.getRemoteEce()).toEqual(
      iwarp ? { vendorId: 0, options: 0 } : { vendorId: 0x1234, options: 5 },
    );
    server.reject();
    expect((await rdmaErrorOf(() => connecting)).code).toBe('ECONNREFUSED');
    expect((await rdmaErrorOf(() => client.getRemoteEce())).code).toBe('ERR_RDMA_CLOSED');
    expect((await rdmaErrorOf(() => scope.id().getRemoteEce())).code).toBe('ERR_RDMA_STATE');
  });
});
