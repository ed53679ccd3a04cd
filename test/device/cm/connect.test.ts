import { once } from 'node:events';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  type Address,
  CmId,
  type ConnectRequest,
  type Device,
  openDevice,
  type QueuePair,
} from '../../../lib/index.ts';
import { devices } from '../helpers/devices.ts';
import { connectedPair } from '../helpers/pair.ts';
import { rdmaErrorOf } from '../helpers/rejection.ts';

/** The codes that promises reject with; 'fulfilled' for those that do not. */
async function codesOf(promises: readonly Promise<unknown>[]): Promise<string[]> {
  const outcomes = await Promise.allSettled(promises);
  return outcomes.map((outcome) => (outcome.status === 'rejected' ? outcome.reason.code : outcome.status));
}

describe.each(devices)('rdma_cm on $name', ({ name, host }) => {
  let device: Device;
  const open: CmId[] = [];

  beforeEach(() => {
    device = openDevice(name);
  });
  afterEach(() => {
    for (const id of open.splice(0)) id.close();
    device.close();
  });

  const newId = () => {
    const id = new CmId();
    open.push(id);
    return id;
  };

  function listener(): CmId & { readonly address: Address } {
    const id = newId();
    id.bind({ host, port: 0 });
    id.listen();
    return Object.assign(id, { address: id.localAddress as Address });
  }

  const queuePair = (id: CmId): QueuePair => {
    open.push(id);
    return id.createQp({ pd: device.allocPd(), sendCq: device.createCq() });
  };

  async function resolved(address: Address): Promise<CmId> {
    const id = newId();
    await id.resolveAddr(address);
    await id.resolveRoute();
    queuePair(id);
    return id;
  }

  it('carries private data both ways, and knows both addresses', async () => {
    const server = listener();
    const request = new Promise<ConnectRequest>((resolve) => {
      server.on('connectRequest', (id, asked) => {
        queuePair(id);
        resolve(asked);
        id.accept({ privateData: Buffer.from('welcome') }).catch(() => undefined);
      });
    });
    const client = await resolved(server.address);
    const answer = await client.connect({ privateData: Buffer.from('hello'), initiatorDepth: 4 });
    expect(answer.privateData.toString('latin1', 0, 7)).toBe('welcome');
    const asked = await request;
    expect(asked.privateData.toString('latin1', 0, 5)).toBe('hello');
    expect(asked.responderResources).toBe(4);
    expect(client.peerAddress).toEqual({ host, port: server.address.port, family: 'IPv4' });
    expect(client.localAddress?.host).toBe(host);
    expect(client.device?.name).toBe(name);
  });

  it('says who refuses a connection, with the private data of the refusal', async () => {
    const server = listener();
    server.on('connectRequest', (id) => id.reject(Buffer.from('no room')));
    const client = await resolved(server.address);
    const error = await rdmaErrorOf(() => client.connect());
    expect(error).toMatchObject({ code: 'ECONNREFUSED', syscall: 'rdma_connect', event: 'REJECTED' });
    expect(error.message).toContain(`${host}:${server.address.port}`);
    expect(Buffer.from(error.privateData!).toString('latin1', 0, 7)).toBe('no room');
    expect(client.closed).toBe(true);
  });

  it('says that the extended connection establishment was refused, where the transport has words for it', async () => {
    const server = listener();
    server.on('connectRequest', (id) => id.rejectEce(Buffer.from('no options')));
    const client = await resolved(server.address);
    const error = await rdmaErrorOf(() => client.connect());
    expect(error).toMatchObject({ code: 'ECONNREFUSED', event: 'REJECTED' });
    expect(error.message.includes('vendor option not supported')).toBe(name === 'rxe0');
    expect(Buffer.from(error.privateData!).toString('latin1', 0, 10)).toBe('no options');
  });

  it('rejects requests that nobody listens to', async () => {
    const server = listener();
    const client = await resolved(server.address);
    expect((await rdmaErrorOf(() => client.connect())).code).toBe('ECONNREFUSED');
  });

  it('says that nothing listens', async () => {
    const server = listener();
    server.close();
    const client = await resolved(server.address);
    const error = await rdmaErrorOf(() => client.connect());
    expect(error.code).toBe('ECONNREFUSED');
    expect(error.message).toMatch(/nothing listens there/);
  });

  it('says that the port is in use', async () => {
    const server = listener();
    const error = await rdmaErrorOf(() => {
      const second = newId();
      second.bind(server.address);
      second.listen();
    });
    expect(error.code).toBe('EADDRINUSE');
    expect(error.syscall).toMatch(/rdma_(bind_addr|listen)/);
  });

  it('says that an address is not of this machine', async () => {
    const error = await rdmaErrorOf(() => newId().bind({ host: '192.0.2.1', port: 1 }));
    expect(['EADDRNOTAVAIL', 'ENODEV']).toContain(error.code);
    expect(error.message).toContain('192.0.2.1:1');
  });

  it('says that there is no route', async () => {
    const error = await rdmaErrorOf(() => newId().resolveAddr({ host: '198.51.100.1', port: 1 }));
    expect(['ENETUNREACH', 'EHOSTUNREACH', 'ENODEV', 'ETIMEDOUT']).toContain(error.code);
    expect(error.message).toContain('198.51.100.1');
  });

  it('gives up after the time limit', async () => {
    const server = listener();
    // The request is neither accepted nor rejected.
    server.on('connectRequest', (id) => open.push(id));
    const client = await resolved(server.address);
    const error = await rdmaErrorOf(() => client.connect({}, { timeoutMs: 200 }));
    expect(error.code).toBe('ETIMEDOUT');
    expect(error.message).toContain('200 ms');
    expect(client.closed).toBe(true);
  });

  it('gives up when it is aborted, with the reason of the signal', async () => {
    const server = listener();
    server.on('connectRequest', (id) => open.push(id));
    const client = await resolved(server.address);
    const abort = new AbortController();
    const connecting = client.connect({}, { signal: abort.signal });
    abort.abort(new Error('enough'));
    await expect(connecting).rejects.toThrow('enough');
    await expect(newId().resolveAddr(server.address, { signal: abort.signal })).rejects.toThrow('enough');
  });

  it('does one step at a time', async () => {
    const server = listener();
    const id = newId();
    const first = id.resolveAddr(server.address);
    const error = await rdmaErrorOf(() => id.resolveAddr(server.address));
    expect(error.code).toBe('EALREADY');
    await first;
  });

  it('wants its steps in order', async () => {
    expect((await rdmaErrorOf(() => newId().connect())).code).toBe('ERR_RDMA_STATE');
    expect((await rdmaErrorOf(() => newId().resolveRoute())).syscall).toBe('rdma_resolve_route');
    const unbound = newId();
    const error = await rdmaErrorOf(() =>
      unbound.createQp({ pd: device.allocPd(), sendCq: device.createCq() }),
    );
    expect(error.message).toMatch(/resolve its address first/);
  });

  it('refuses a domain of another device', async () => {
    const other = openDevice(name === 'rxe0' ? 'siw0' : 'rxe0');
    const server = listener();
    const id = newId();
    await id.resolveAddr(server.address);
    const error = await rdmaErrorOf(() => id.createQp({ pd: other.allocPd(), sendCq: other.createCq() }));
    expect(error.message).toMatch(/protection domain is of device \w+0, the connection id is bound to/);
    other.close();
  });

  it('refuses a completion queue that flushed work would overrun', async () => {
    const server = listener();
    const id = newId();
    await id.resolveAddr(server.address);
    const sendCq = device.createCq({ cqe: 16 });
    const error = await rdmaErrorOf(() =>
      id.createQp({ pd: device.allocPd(), sendCq, maxSendWr: sendCq.cqe, maxRecvWr: 1 }),
    );
    expect(error.code).toBe('ENOSPC');
    expect(error.message).toContain(`has ${sendCq.cqe} entries`);
    expect(error.message).toContain(`need ${sendCq.cqe + 1}`);
  });

  it.each([
    [{ privateData: Buffer.alloc(57) }, /privateData has 57 bytes; at most 56/],
    [{ retryCount: 8 }, /retryCount must be an integer from 0 to 7/],
    [{ rnrRetryCount: -1 }, /rnrRetryCount/],
    [{ initiatorDepth: 1000 }, /initiatorDepth/],
  ])('refuses %o', async (param, text) => {
    const client = await resolved(listener().address);
    expect((await rdmaErrorOf(() => client.connect(param))).message).toMatch(text);
    expect(client.closed).toBe(false);
  });

  it.each([
    [{ host: 'not an address', port: 1 }, /numeric IP address/],
    [{ host, port: 65536 }, /port must be an integer from 0 to 65535/],
    [{ host, port: 1.5 }, /port/],
    [undefined, /host must be a non-empty string/],
  ])('refuses to bind to %o', async (address, text) => {
    expect((await rdmaErrorOf(() => newId().bind(address as Address))).message).toMatch(text);
  });

  it('tells both sides of a disconnect, and flushes what is posted', async () => {
    const pair = await connectedPair(name);
    const { mr } = await pair.memory(4096);
    const sge = { addr: mr.addr, length: 64, lkey: mr.lkey };
    const codes = codesOf([pair.server.qp.recv({ sges: [sge] }), pair.server.qp.recv({ sges: [sge] })]);
    const told = [once(pair.client, 'disconnected'), once(pair.server, 'disconnected')];
    pair.client.disconnect();
    await Promise.all(told);
    expect(await codes).toEqual(new Array(2).fill('ERR_RDMA_WC_WR_FLUSH_ERR'));
    await pair.close();
  });

  it('settles everything in flight when the queue pair is closed', async () => {
    const pair = await connectedPair(name);
    const { mr } = await pair.memory(4096);
    const sge = { addr: mr.addr, length: 64, lkey: mr.lkey };
    const receives = Array.from({ length: 5 }, () => pair.client.qp.recv({ sges: [sge] }));
    pair.device.close();
    expect(await codesOf(receives)).toEqual(new Array(5).fill('ERR_RDMA_WC_WR_FLUSH_ERR'));
    expect((await rdmaErrorOf(() => pair.client.qp.postRecv({ sges: [] }))).code).toBe('ERR_RDMA_CLOSED');
    expect(pair.client.qp.closed).toBe(true);
    await pair.close();
  });

  it('reports a wrong rkey, and the next connection works', async () => {
    const pair = await connectedPair(name);
    const { mr } = await pair.memory(4096);
    const wrong = {
      opcode: 0 as const,
      sges: [{ addr: mr.addr, length: 64, lkey: mr.lkey }],
      remoteAddr: mr.addr,
    };
    // siw completes a WRITE when TCP has it, and hears of the refusal later: a READ after it must fail.
    const outcomes = await Promise.allSettled([
      pair.client.qp.send({ ...wrong, rkey: (mr.rkey ^ 0xff00) >>> 0 }),
      pair.client.qp.send({ ...wrong, opcode: 4, rkey: (mr.rkey ^ 0xff00) >>> 0 }),
    ]);
    const failed = outcomes
      .filter((outcome) => outcome.status === 'rejected')
      .map((outcome) => outcome.reason.code);
    expect(failed.length).toBeGreaterThan(0);
    for (const code of failed) {
      expect(['ERR_RDMA_WC_REM_ACCESS_ERR', 'ERR_RDMA_WC_REM_OP_ERR', 'ERR_RDMA_WC_WR_FLUSH_ERR']).toContain(
        code,
      );
    }
    await pair.close();
    const again = await connectedPair(name);
    const memory = await again.memory(64);
    const sge = { addr: memory.mr.addr, length: 64, lkey: memory.mr.lkey };
    await again.client.qp.send({ opcode: 0, sges: [sge], remoteAddr: memory.mr.addr, rkey: memory.mr.rkey });
    await again.close();
  });

  it('flushes what is posted to a queue pair that has failed', async () => {
    const pair = await connectedPair(name);
    const { mr } = await pair.memory(4096);
    const sge = { addr: mr.addr, length: 64, lkey: mr.lkey };
    const before = pair.client.qp.recv({ sges: [sge] });
    pair.client.qp.toError();
    expect(pair.client.qp.state).toBe('ERR');
    const after = [pair.client.qp.recv({ sges: [sge] }), pair.client.qp.send({ opcode: 2, sges: [sge] })];
    expect(await codesOf([before, ...after])).toEqual(new Array(3).fill('ERR_RDMA_WC_WR_FLUSH_ERR'));
    await pair.close();
  });

  it('reports a receive buffer that is too small, and the next connection works', async () => {
    const pair = await connectedPair(name);
    const { mr } = await pair.memory(4096);
    const small = pair.server.qp.recv({ sges: [{ addr: mr.addr, length: 10, lkey: mr.lkey }] });
    const sent = pair.client.qp.send({ opcode: 2, sges: [{ addr: mr.addr, length: 11, lkey: mr.lkey }] });
    sent.catch(() => undefined);
    const error = await rdmaErrorOf(() => small);
    // rxe: LOC_QP_OP_ERR; siw: LOC_LEN_ERR.
    expect(['ERR_RDMA_WC_LOC_LEN_ERR', 'ERR_RDMA_WC_LOC_QP_OP_ERR']).toContain(error.code);
    expect(error.message).toMatch(/buffer/);
    await pair.close();
    await (await connectedPair(name)).close();
  });
});
