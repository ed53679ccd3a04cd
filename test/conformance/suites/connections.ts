/** What pyverbs lacks: connections. */
import { expect } from 'vitest';
import { CmId, EventChannel, Opcode, SendFlags } from '../../../lib/index.ts';
import { connectedPair, type Pair } from '../../device/helpers/pair.ts';
import { rdmaErrorOf } from '../../device/helpers/rejection.ts';
import { implement } from '../harness.ts';

/** Work in flight on both sides: receives that nobody meets, and WRITEs. Counts by status what is retired. */
async function inFlight(pair: Pair): Promise<{ readonly posted: number; readonly statuses: number[] }> {
  const statuses: number[] = [];
  const retired = (status: number) => {
    statuses.push(status);
  };
  const { mr } = await pair.memory(1 << 20);
  const { mr: target } = await pair.memory(1 << 20);
  const small = { sges: [{ addr: mr.addr, length: 64, lkey: mr.lkey }] };
  pair.server.qp.postRecv(Array(8).fill(small), retired);
  pair.client.qp.postRecv(Array(8).fill(small), retired);
  const write = {
    opcode: Opcode.RDMA_WRITE,
    sges: [{ addr: mr.addr, length: 1 << 20, lkey: mr.lkey }],
    remoteAddr: target.addr,
    rkey: target.rkey,
    flags: SendFlags.SIGNALED,
  };
  pair.client.qp.postSend(Array(8).fill(write), retired);
  return { posted: 24, statuses };
}

async function settled(work: { readonly posted: number; readonly statuses: number[] }): Promise<void> {
  await expect.poll(() => work.statuses.length, { timeout: 10_000, interval: 10 }).toBe(work.posted);
  // The receives are flushed; a WRITE was done before the end or was flushed too.
  expect(work.statuses.filter((status) => status === 5).length).toBeGreaterThanOrEqual(16);
}

implement('beyond', 'Connections', {
  async disconnect_mid_flight({ name }) {
    await using pair = await connectedPair(name);
    const work = await inFlight(pair);
    const ended = [pair.client, pair.server].map(
      (id) => new Promise<void>((resolve) => id.once('disconnected', resolve)),
    );
    pair.client.disconnect();
    await Promise.all([...ended, settled(work)]);
  },

  async close_in_flight({ name }) {
    const closers: ((pair: Pair) => void)[] = [
      (pair) => pair.client.qp.close(),
      (pair) => pair.clientCq.close(),
      (pair) => pair.pd.close(),
      (pair) => pair.device.close(),
    ];
    for (const close of closers) {
      const pair = await connectedPair(name);
      const work = await inFlight(pair);
      close(pair);
      pair.server.close();
      await settled(work);
      await pair.close();
    }
  },

  async migrate_id({ name }) {
    await using pair = await connectedPair(name);
    const { mr } = await pair.memory(64);
    const channel = new EventChannel();
    const old = pair.client.channel;
    pair.client.migrate(channel);
    expect(pair.client.channel).toBe(channel);
    expect(channel).not.toBe(old);
    const sges = [{ addr: mr.addr, length: 64, lkey: mr.lkey }];
    const received = pair.server.qp.recv({ sges });
    await Promise.all([received, pair.client.qp.send({ opcode: Opcode.SEND, sges })]);
    // The end of the connection comes through the new channel.
    const ended = new Promise<void>((resolve) => pair.client.once('disconnected', resolve));
    void pair.server.disconnect();
    await ended;
    pair.client.close();
    channel.close();
  },

  async private_data_limits({ name, host }) {
    const listener = new CmId();
    listener.bind({ host, port: 0 });
    listener.listen();
    const client = new CmId();
    await client.resolveAddr({ host, port: listener.localAddress!.port });
    await client.resolveRoute();
    const pd = client.device!.allocPd();
    client.createQp({ pd, sendCq: client.device!.createCq() });
    const connecting = await rdmaErrorOf(() => client.connect({ privateData: new Uint8Array(57) }));
    expect(connecting).toMatchObject({ code: 'ERR_OUT_OF_RANGE' });
    expect(connecting.message).toMatch(/57 bytes; at most 56/);
    const refusing = new Promise<void>((resolve, reject) => {
      listener.once('connectRequest', (id) => {
        void (async () => {
          const rejecting = await rdmaErrorOf(() => id.reject(new Uint8Array(149)));
          expect(rejecting.message).toMatch(/149 bytes; at most 148/);
          id.createQp({ pd, sendCq: id.device!.createCq() });
          const accepting = await rdmaErrorOf(() => id.accept({ privateData: new Uint8Array(197) }));
          expect(accepting.message).toMatch(/197 bytes; at most 196/);
          id.reject();
        })().then(resolve, reject);
      });
    });
    const rejected = await rdmaErrorOf(() => client.connect());
    await refusing;
    expect(rejected.code).toBe('ECONNREFUSED');
    listener.close();
    pd.device.close();
    expect(name).toBe(pd.device.name);
  },

  async private_data_intact({ host }) {
    const bytes = (length: number) => Buffer.from(Array.from({ length }, (_, i) => i + 1));
    const listener = new CmId();
    listener.bind({ host, port: 0 });
    listener.listen();
    const client = new CmId();
    await client.resolveAddr({ host, port: listener.localAddress!.port });
    await client.resolveRoute();
    const device = client.device!;
    const pd = device.allocPd();
    client.createQp({ pd, sendCq: device.createCq() });
    const accepted = new Promise<Buffer>((resolve, reject) => {
      listener.once('connectRequest', (id, { privateData }) => {
        id.createQp({ pd, sendCq: device.createCq() });
        id.accept({ privateData: bytes(196) }).then(() => resolve(privateData), reject);
      });
    });
    const { privateData: answer } = await client.connect({ privateData: bytes(56) });
    expect((await accepted).subarray(0, 56).equals(bytes(56))).toBe(true);
    expect(answer.subarray(0, 196).equals(bytes(196))).toBe(true);
    listener.close();
    client.close();
    device.close();
  },
});
