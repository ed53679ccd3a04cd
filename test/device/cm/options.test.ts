import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type CmId, type ConnParam, createId } from '../../../lib/index.ts';
import { CmScope, host6 } from '../helpers/cm.ts';
import { devices } from '../helpers/devices.ts';
import { rdmaErrorOf } from '../helpers/rejection.ts';

describe.each(devices)('options of ids on $name', (testDevice) => {
  const { name, host } = testDevice;
  let scope: CmScope;
  beforeEach(() => {
    scope = new CmScope(testDevice);
  });
  afterEach(() => scope.close());

  it('are set when the id is made', async () => {
    const id = scope.keep(createId({ tos: 8, reuseAddr: true, afOnly: true, ackTimeout: 14 }));
    expect(id.state).toBe('idle');
    id.bind({ host, port: 0 });
    expect(id.localAddress).toMatchObject({ host, family: 'IPv4' });
  });

  it('let two ids bind to an address that may be used again, and one listen', async () => {
    const [first, second, third] = [scope.id({ reuseAddr: true }), scope.id({ reuseAddr: true }), scope.id()];
    first.bind({ host, port: 0 });
    const address = first.localAddress!;
    second.bind(address);
    expect(second.localAddress).toEqual(address);
    expect((await rdmaErrorOf(() => third.bind(address))).code).toBe('EADDRINUSE');
    expect((await rdmaErrorOf(() => first.listen())).code).toBe('EADDRINUSE');
    second.close();
    first.listen();
    expect(first.state).toBe('listening');
  });

  it('let IPv4 and IPv6 listen on one port when each keeps to its family', () => {
    const v6 = scope.id({ afOnly: true });
    v6.bind({ host: '::', port: 0 });
    v6.listen();
    const v4 = scope.id({ afOnly: true });
    v4.bind({ host: '0.0.0.0', port: v6.localAddress!.port });
    v4.listen();
    expect(v4.localAddress!.port).toBe(v6.localAddress!.port);
  });

  it.each([
    [(id: CmId) => id.setTos(256), /tos must be an integer from 0 to 255, not 256/],
    [(id: CmId) => id.setTos(-1), /tos must be an integer/],
    [(id: CmId) => id.setAckTimeout(32), /ackTimeout must be an integer from 0 to 31, not 32/],
    [(id: CmId) => id.setReuseAddr(1 as unknown as boolean), /reuseAddr must be a boolean, not 1/],
    [(id: CmId) => id.setAfOnly('no' as unknown as boolean), /afOnly must be a boolean, not no/],
    [(id: CmId) => id.setLocalEce({ vendorId: 0, options: 0 }), /vendorId must be an integer from 1/],
  ])('are checked: %s', async (set, text) => {
    expect((await rdmaErrorOf(() => set(scope.id()))).message).toMatch(text);
  });

  it('come too late for a listener', async () => {
    const listener = scope.listener();
    for (const set of [
      () => listener.setTos(1),
      () => listener.setReuseAddr(true),
      () => listener.setAfOnly(true),
      () => listener.setAckTimeout(10),
    ]) {
      const error = await rdmaErrorOf(set);
      expect(error).toMatchObject({ code: 'ERR_RDMA_STATE', syscall: 'rdma_set_option' });
      expect(error.message).toContain('not possible while the connection id is listening');
    }
  });

  it('refuse a wrong channel', async () => {
    const error = await rdmaErrorOf(() => createId({ channel: {} as never }));
    expect(error.message).toBe('channel must be an EventChannel');
  });

  it('carry what the peer allows and asks for', async () => {
    const listener = scope.listener();
    const client = await scope.resolved(listener.localAddress);
    const connecting = client.connect({ initiatorDepth: 3, responderResources: 5 });
    const server = await scope.requested(listener);
    expect(server.request).toMatchObject({ responderResources: 3, initiatorDepth: 5 });
    const [reply] = await Promise.all([connecting, server.accept()]);
    expect(reply.established).toBe(true);
    expect(reply.conn).toMatchObject({ responderResources: 5, initiatorDepth: 3 });
    if (name === 'rxe0') expect(server.request!.qpNum).toBe(client.qp.qpNum);
  });

  it('work over IPv6 as well', async () => {
    const id = scope.id({ afOnly: true, tos: 32 });
    await id.resolveAddr({ host: host6(name), port: 4791 });
    expect(id.localAddress).toMatchObject({ host: host6(name), family: 'IPv6' });
  });
});

describe('what a connection on rxe0 is made with', () => {
  let scope: CmScope;
  beforeEach(() => {
    scope = new CmScope(devices[0]!);
  });
  afterEach(() => scope.close());

  async function made(connect?: ConnParam, accept?: ConnParam, ackTimeout?: number) {
    const options = ackTimeout === undefined ? {} : { ackTimeout };
    const listener = scope.listener();
    const client = await scope.resolved(listener.localAddress, options);
    const connecting = client.connect(connect);
    const server = await scope.requested(listener);
    await Promise.all([connecting, server.accept(accept)]);
    return { client: client.qp.query(), server: server.qp.query() };
  }

  it('ends its retries, and answers "receiver not ready" with 0.64 ms, by default', async () => {
    const { client, server } = await made();
    for (const info of [client, server]) {
      expect(info).toMatchObject({ state: 'RTS', retryCnt: 6, rnrRetry: 6, minRnrTimer: 12 });
      expect(info.timeout).toBeGreaterThan(0);
    }
  });

  it('is what the connection asks for', async () => {
    const { client, server } = await made(
      { retryCount: 3, rnrRetryCount: 4, minRnrTimer: 20 },
      { rnrRetryCount: 2, minRnrTimer: 5 },
      16,
    );
    expect(client).toMatchObject({ retryCnt: 3, rnrRetry: 2, minRnrTimer: 20, timeout: 16 });
    // The passive side takes over the number of retries, and the limit of RNR retries, of the request.
    expect(server).toMatchObject({ retryCnt: 3, rnrRetry: 4, minRnrTimer: 5 });
  });

  it('may be for ever, when that is wanted', async () => {
    const { client } = await made({ retryCount: 7, rnrRetryCount: 7, minRnrTimer: 0 }, { rnrRetryCount: 7 });
    expect(client).toMatchObject({ retryCnt: 7, rnrRetry: 7, minRnrTimer: 0 });
  });

  it.each([
    [{ minRnrTimer: 32 }, /minRnrTimer must be an integer from 0 to 31/],
    [{ qpNum: 2 ** 24 }, /qpNum must be an integer from 0 to 16777215/],
    [{ qpNum: 5 }, /qpNum 5: the connection id has a queue pair of its own/],
    [{ privateData: 'hello' as unknown as Buffer }, /privateData must be a Buffer/],
  ])('refuses %o', async (param, text) => {
    const client = await scope.resolved(scope.listener().localAddress);
    expect((await rdmaErrorOf(() => client.connect(param))).message).toMatch(text);
    expect(client.state).toBe('routeResolved');
  });
});
