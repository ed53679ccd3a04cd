import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  type AsyncEvent,
  type CompletionQueue,
  type Device,
  openDevice,
  type ProtectionDomain,
  type QueuePair,
  SendFlags,
  WcStatus,
} from '../../../lib/index.ts';
import { devices } from '../helpers/devices.ts';
import { bringUp, connectManually, loopback, QKEY } from '../helpers/manual.ts';
import { connectedPair, type Pair } from '../helpers/pair.ts';
import { rdmaErrorOf } from '../helpers/rejection.ts';
import { holdLoop, pollUntil } from '../helpers/wait.ts';

const SEND = 2;

/** Sends [text] from the client to a receive of the server. */
async function message(pair: Pair, text: string, flags = 0): Promise<void> {
  const { bytes, mr } = await pair.memory(64);
  const received = pair.server.qp.recv({ sges: [{ addr: mr.addr, length: 64, lkey: mr.lkey }] });
  await pair.client.qp.send({ opcode: SEND, inline: Buffer.from(text), flags });
  const { byteLen, qpNum } = await received;
  expect(bytes.toString('latin1', 0, byteLen)).toBe(text);
  expect(qpNum).toBe(pair.server.qp.qpNum);
}

describe.each(devices)('completion queues on $name', ({ name }) => {
  let device: Device;

  beforeEach(() => {
    device = openDevice(name);
  });
  afterEach(() => device.close());

  it('set room aside for every work request', () => {
    const pd = device.allocPd();
    const cq = device.createCq({ cqe: 100 });
    expect(cq.cqe).toBeGreaterThanOrEqual(100);
    expect(cq.reserved).toBe(0);
    const qp = pd.createQp({ sendCq: cq, maxSendWr: 30, maxRecvWr: 40 });
    expect(cq.reserved).toBe(70);
    qp.close();
    expect(cq.reserved).toBe(0);
  });

  it('resize, not below what is set aside; siw can not', async () => {
    const pd = device.allocPd();
    const cq = device.createCq({ cqe: 100 });
    const before = cq.cqe;
    pd.createQp({ sendCq: cq, maxSendWr: 30, maxRecvWr: 40 });
    const tooSmall = await rdmaErrorOf(() => cq.resize(69));
    expect(tooSmall).toMatchObject({ code: 'EBUSY', syscall: 'ibv_resize_cq' });
    expect(tooSmall.message).toContain('cqe 69: the queue pairs of the completion queue need 70 entries');
    const tooLarge = await rdmaErrorOf(() => cq.resize(device.attr.maxCqe + 1));
    expect(tooLarge.message).toMatch(/cqe must be an integer from 1 to \d+/);
    expect(cq.cqe).toBe(before);
    if (name === 'siw0') {
      const error = await rdmaErrorOf(() => cq.resize(200));
      expect(error).toMatchObject({ code: 'EOPNOTSUPP', syscall: 'ibv_resize_cq' });
      expect(error.message).toContain('device siw0 can not resize completion queues');
      expect(cq.cqe).toBe(before);
      return;
    }
    cq.resize(1000);
    expect(cq.cqe).toBeGreaterThanOrEqual(1000);
    pd.createQp({ sendCq: cq, maxSendWr: 400, maxRecvWr: 500 });
    expect((await rdmaErrorOf(() => cq.resize(200))).message).toContain('need 970 entries');
    expect(cq.reserved).toBe(970);
  });

  it('wait for a completion when they are asked to, without the event loop', async () => {
    const pair = await connectedPair(name);
    const cq = pair.client.qp.sendCq;
    const { mr } = await pair.memory(64);
    const start = performance.now();
    expect(cq.poll(100_000)).toBe(0);
    // Counted in the processor's cycles: a wrong rate is wrong many times over.
    expect(performance.now() - start).toSatisfy((ms) => ms > 80 && ms < 5000, 'about 100 ms');
    const received = pair.server.qp.recv({ sges: [{ addr: mr.addr, length: 64, lkey: mr.lkey }] });
    const statuses: number[] = [];
    pair.client.qp.postSend(
      { opcode: SEND, sges: [{ addr: mr.addr, length: 8, lkey: mr.lkey }], flags: SendFlags.SIGNALED },
      (status) => statuses.push(status),
    );
    for (let turns = 0; statuses.length === 0 && turns < 100; turns += 1) cq.poll(100_000);
    expect(statuses).toEqual([WcStatus.SUCCESS]);
    expect((await received).byteLen).toBe(8);
    expect((await rdmaErrorOf(() => cq.poll(-1))).message).toContain(
      'wait must be an integer from 0 to 1000000',
    );
    await pair.close();
  });

  it('look for the next completion for a while, and let the event loop turn meanwhile', async () => {
    const pair = await connectedPair(name);
    const cq = pair.client.qp.sendCq;
    expect(cq.busyPoll).toBe(0);
    expect((await rdmaErrorOf(() => device.createCq({ busyPoll: 1.5 }))).message).toContain(
      'busyPoll must be',
    );
    for (const busyPoll of [1, 1_000_000]) {
      cq.busyPoll = busyPoll;
      pair.server.qp.sendCq.busyPoll = busyPoll;
      expect(cq.busyPoll).toBe(busyPoll);
      // This receive stays in flight, so both look for its message until it has come.
      const { bytes, mr } = await pair.memory(64);
      const last = pair.client.qp.recv({ sges: [{ addr: mr.addr, length: 64, lkey: mr.lkey }] });
      for (let i = 0; i < 20; i += 1) await message(pair, `message ${i}`);
      await sleep(5);
      await turn();
      await pair.server.qp.send({ opcode: SEND, inline: Buffer.from('last') });
      expect(bytes.toString('latin1', 0, (await last).byteLen)).toBe('last');
    }
    await pair.close();
  });

  it('have no moderation here, and say so', async () => {
    const cq = device.createCq();
    const error = await rdmaErrorOf(() => cq.modify({ cqCount: 16, cqPeriod: 100 }));
    expect(error).toMatchObject({ code: 'EOPNOTSUPP', syscall: 'ibv_modify_cq' });
    expect(error.message).toContain(`device ${name} has no moderation of completion events`);
    for (const [wrong, text] of [
      [{ cqCount: 65_536, cqPeriod: 0 }, /cqCount must be an integer from 0 to 65535, not 65536/],
      [{ cqCount: 0, cqPeriod: -1 }, /cqPeriod must be an integer from 0 to 65535, not -1/],
    ] as const) {
      expect((await rdmaErrorOf(() => cq.modify(wrong))).message).toMatch(text);
    }
  });

  it('take a completion vector that the device has', async () => {
    using cq = device.createCq({ compVector: 0 });
    expect(cq.cqe).toBeGreaterThan(0);
    const error = await rdmaErrorOf(() => device.createCq({ compVector: 1000 }));
    expect(error).toMatchObject({ code: 'EINVAL', syscall: 'ibv_create_cq' });
    expect(error.message).toMatch(/compVector 1000: the device has \d+ completion vectors, numbered from 0/);
  });

  it('have no timestamps here, and say so', async () => {
    const error = await rdmaErrorOf(() => device.createCq({ timestamps: true }));
    expect(error).toMatchObject({ code: 'EOPNOTSUPP', syscall: 'ibv_create_cq_ex' });
    expect(error.message).toContain('timestamps');
  });

  it('extended-poll: an extended queue is never polled on rxe', () => {
    expect(device.quirks.some((quirk) => quirk.name === 'extended-poll')).toBe(name === 'rxe0');
    expect(device.caps.completionTimestamps).toBe(false);
  });

  it('refuse a channel that is none, or of another device', async () => {
    expect((await rdmaErrorOf(() => device.createCq({ channel: {} as never }))).message).toContain(
      'channel must be a CompletionChannel',
    );
    using other = openDevice(name === 'rxe0' ? 'siw0' : 'rxe0');
    const channel = other.createCompletionChannel();
    const error = await rdmaErrorOf(() => device.createCq({ channel }));
    expect(error.message).toContain(`the completion channel is of device ${other.name}, not of ${name}`);
    channel.close();
    expect((await rdmaErrorOf(() => other.createCq({ channel }))).code).toBe('ERR_RDMA_CLOSED');
  });
});

describe.each(devices)('a completion channel of several queues on $name', ({ name }) => {
  let pair: Pair;

  beforeEach(async () => {
    let channel: ReturnType<Device['createCompletionChannel']> | undefined;
    pair = await connectedPair(name, {
      cq: (device) => {
        channel ??= device.createCompletionChannel();
        return { channel };
      },
    });
  });
  afterEach(() => pair.close());

  it('serves all of them by one descriptor', async () => {
    expect(pair.clientCq.channel).toBe(pair.serverCq.channel);
    expect(pair.clientCq.fd).toBe(pair.serverCq.fd);
    const unshared = pair.device.createCq();
    expect(unshared.channel).toBeUndefined();
    expect(unshared.fd).not.toBe(pair.clientCq.fd);
    for (let i = 0; i < 150; i += 1) await message(pair, `message ${i}`);
  });

  it('goes on when one of them is closed, with events in the channel', async () => {
    await message(pair, 'first');
    const third = pair.device.createCq({ channel: pair.clientCq.channel! });
    // A completion of the server's queue makes an event that nobody has read when the queue is closed.
    const { mr } = await pair.memory(64);
    pair.server.qp.postRecv({ sges: [{ addr: mr.addr, length: 64, lkey: mr.lkey }] });
    const sent = pair.client.qp.send({ opcode: SEND, inline: Buffer.from('unread') });
    holdLoop(50);
    pair.serverCq.close();
    expect(pair.server.qp.closed).toBe(true);
    await sent;
    third.close();
    await turn();
    expect(pair.clientCq.closed).toBe(false);
    expect(pair.client.qp.closed).toBe(false);
  });

  it('takes them along when it is closed, and their queue pairs', async () => {
    const { mr } = await pair.memory(64);
    const statuses: number[] = [];
    pair.server.qp.postRecv({ sges: [{ addr: mr.addr, length: 64, lkey: mr.lkey }] }, (status) =>
      statuses.push(status),
    );
    pair.clientCq.channel!.close();
    expect(
      [pair.clientCq, pair.serverCq, pair.client.qp, pair.server.qp].map(({ closed }) => closed),
    ).toEqual([true, true, true, true]);
    expect(statuses).toEqual([WcStatus.WR_FLUSH_ERR]);
  });
});

describe.each(devices)('closing a completion queue on $name', ({ name }) => {
  let pair: Pair;
  afterEach(() => pair.close());

  it('does not wait for events that were taken and not acknowledged', async () => {
    pair = await connectedPair(name);
    // Fewer events than are acknowledged at a time.
    for (let i = 0; i < 10; i += 1) await message(pair, `message ${i}`);
    pair.clientCq.close();
    pair.serverCq.close();
    expect([pair.client.qp.closed, pair.server.qp.closed]).toEqual([true, true]);
  });

  it('settles what is in flight first, also from a callback of its own', async () => {
    pair = await connectedPair(name, { maxRecvWr: 8 });
    const { mr } = await pair.memory(64);
    const order: string[] = [];
    await new Promise<void>((resolve) => {
      const list = Array.from({ length: 8 }, () => ({
        sges: [{ addr: mr.addr, length: 64, lkey: mr.lkey }],
      }));
      pair.server.qp.postRecv(list, (status) => {
        order.push(status === WcStatus.SUCCESS ? 'received' : 'flushed');
        if (order.length === 1) pair.serverCq.close();
        if (order.length === 8) resolve();
      });
      pair.client.qp.postSend({ opcode: SEND, inline: Buffer.from('one') });
    });
    expect(order).toEqual(['received', ...new Array(7).fill('flushed')]);
    expect(pair.serverCq.closed).toBe(true);
    expect((await rdmaErrorOf(() => pair.serverCq.poll())).code).toBe('ERR_RDMA_CLOSED');
  });
});

describe.each(devices)('events of solicited messages only on $name', ({ name }) => {
  it('wake for those, or are refused', async () => {
    if (name === 'siw0') {
      using device = openDevice(name);
      const error = await rdmaErrorOf(() => device.createCq({ solicitedOnly: true }));
      expect(error).toMatchObject({ code: 'EOPNOTSUPP', syscall: 'ibv_req_notify_cq' });
      expect(error.message).toContain('makes no events for solicited receives');
      expect(device.quirks.map((quirk) => quirk.name)).toContain('solicited-silent');
      return;
    }
    const pair = await connectedPair(name, { cq: () => ({ solicitedOnly: true }) });
    const { bytes, mr } = await pair.memory(64);
    const texts: string[] = [];
    const recv = () =>
      pair.server.qp.postRecv({ sges: [{ addr: mr.addr, length: 64, lkey: mr.lkey }] }, (status, byteLen) => {
        expect(status).toBe(WcStatus.SUCCESS);
        texts.push(bytes.toString('latin1', 0, byteLen));
      });
    const say = (text: string, flags: number) =>
      pair.client.qp.postSend({ opcode: SEND, inline: Buffer.from(text), flags: flags | SendFlags.SIGNALED });
    recv();
    say('quiet', 0);
    await sleep(100);
    expect(texts).toEqual([]);
    expect(pair.serverCq.poll()).toBe(1);
    expect(texts).toEqual(['quiet']);

    recv();
    say('quiet again', 0);
    await sleep(100);
    expect(texts).toEqual(['quiet']);
    bytes.fill(0);
    recv();
    say('loud', SendFlags.SOLICITED);
    while (texts.length < 3) await turn();
    expect(texts.at(-1)).toBe('loud');
    // The sender's completions wake nobody.
    expect(pair.clientCq.poll()).toBe(3);
    // Errors wake nobody either: the end of the queue pair settles what is in flight.
    const flushed = rdmaErrorOf(() =>
      pair.server.qp.recv({ sges: [{ addr: mr.addr, length: 64, lkey: mr.lkey }] }),
    );
    pair.server.qp.toError();
    expect((await flushed).code).toBe('ERR_RDMA_WC_WR_FLUSH_ERR');
    await pair.close();
  });
});

describe('completion queues on rxe0', () => {
  let device: Device;
  let pd: ProtectionDomain;

  beforeEach(() => {
    device = openDevice('rxe0');
    pd = device.allocPd();
  });
  afterEach(() => device.close());

  it('resize up and down under traffic', async () => {
    const pair = await connectedPair('rxe0', { cqe: 300, maxSendWr: 32, maxRecvWr: 64 });
    const { bytes, mr } = await pair.memory(64 * 64);
    const sges = (i: number) => [{ addr: mr.addr + (i % 64) * 64, length: 64, lkey: mr.lkey }];
    const total = 600;
    let received = 0;
    let sent = 0;
    /** What should not have come; an assertion in a callback would not end the test. */
    const wrong: string[] = [];
    const arrived = new Promise<void>((resolve) => {
      const onReceived = (status: number, byteLen: number) => {
        const at = (received % 64) * 64;
        const text = bytes.toString('latin1', at, at + byteLen);
        if (status !== WcStatus.SUCCESS || text !== `message ${received}`) {
          wrong.push(`receive ${received}: status ${status}, '${text}'`);
          resolve();
          return;
        }
        received += 1;
        if (received + 63 < total) pair.server.qp.postRecv({ sges: sges(received + 63) }, onReceived);
        if (received === total) resolve();
      };
      for (let i = 0; i < 64; i += 1) pair.server.qp.postRecv({ sges: sges(i) }, onReceived);
    });
    const onSent = (status: number) => {
      // The last ones may still be on their way when everything has come and the pair is closed.
      if (received < total && status !== WcStatus.SUCCESS) wrong.push(`send: status ${status}`);
      else if (sent < total) say();
    };
    const say = () => {
      pair.client.qp.postSend(
        { opcode: SEND, inline: Buffer.from(`message ${sent}`), flags: SendFlags.SIGNALED },
        onSent,
      );
      sent += 1;
    };
    for (let i = 0; i < 16; i += 1) say();
    const sizes = new Set<number>();
    for (let round = 0; received < total && wrong.length === 0; round += 1) {
      const cqe = [96, 4000, 200, 20_000][round % 4]!;
      pair.serverCq.resize(cqe);
      pair.clientCq.resize(cqe);
      sizes.add(pair.serverCq.cqe);
      await turn();
    }
    if (wrong.length === 0) await arrived;
    expect(wrong).toEqual([]);
    expect(sizes.size).toBe(4);
    await pair.close();
  });

  it('keep completions of closed queue pairs from taking the room of others', async () => {
    const cq = device.createCq({ cqe: 15 });
    expect(cq.cqe).toBe(15);
    const events: AsyncEvent[] = [];
    cq.on('event', (event) => events.push(event));
    const { mr } = ((bytes) => ({ mr: pd.regMrSync(bytes, 1) }))(Buffer.alloc(64));
    const list = Array.from({ length: 14 }, () => ({
      sges: [{ addr: mr.addr, length: 64, lkey: mr.lkey }],
    }));
    /** A queue pair with all its receives flushed: the device's queue is as full as it can be. */
    const flushed = (onRetired: (status: number, byteLen: number, wc: number) => void): QueuePair => {
      const qp = pd.createQp({ sendCq: cq, maxSendWr: 1, maxRecvWr: 14 });
      qp.toInit();
      qp.postRecv(list, onRetired);
      qp.toError();
      holdLoop(50);
      return qp;
    };
    for (let i = 0; i < 3; i += 1) flushed(() => undefined).close();
    const wcs: number[] = [];
    using _ = flushed((status, _length, wc) => {
      expect(status).toBe(WcStatus.WR_FLUSH_ERR);
      wcs.push(wc);
    });
    while (wcs.length < 14) await turn();
    // Each by a completion of its own: none was lost.
    expect(wcs.every((wc) => wc >= 0)).toBe(true);
    await sleep(20);
    expect(events).toEqual([]);
    await mr.close();
  });

  it('never overrun when all that fits is flushed', async () => {
    const cq = device.createCq({ cqe: 31 });
    const events: AsyncEvent[] = [];
    cq.on('event', (event) => events.push(event));
    const { mr } = ((bytes) => ({ mr: pd.regMrSync(bytes, 1) }))(Buffer.alloc(64));
    const qps = [10, 10, 8].map((maxRecvWr) => pd.createQp({ sendCq: cq, maxSendWr: 1, maxRecvWr }));
    expect(cq.reserved).toBe(cq.cqe);
    const error = await rdmaErrorOf(() => pd.createQp({ sendCq: cq, maxSendWr: 1, maxRecvWr: 0 }));
    expect(error.code).toBe('ENOSPC');
    expect(error.message).toContain('the completion queue has 31 entries, its queue pairs need 32');
    let flushed = 0;
    for (const qp of qps) {
      qp.toInit();
      const list = Array.from({ length: qp.caps.maxRecvWr }, () => ({
        sges: [{ addr: mr.addr, length: 64, lkey: mr.lkey }],
      }));
      qp.postRecv(list, (status, _, wc) => {
        expect(status).toBe(WcStatus.WR_FLUSH_ERR);
        if (wc >= 0) flushed += 1;
      });
      qp.toError();
    }
    while (flushed < 28) await turn();
    await sleep(20);
    expect(events).toEqual([]);
    await mr.close();
  });

  it('serve queue pairs of every kind, and say who sent a datagram', async () => {
    const cq: CompletionQueue = device.createCq();
    const { bytes, mr } = ((memory) => ({ bytes: memory, mr: pd.regMrSync(memory, 1) }))(Buffer.alloc(256));
    const sges = [{ addr: mr.addr, length: 128, lkey: mr.lkey }];
    const two = (type: 'RC' | 'UC') => {
      const [a, b] = [pd.createQp({ type, sendCq: cq }), pd.createQp({ type, sendCq: cq })];
      connectManually(a, b);
      return [a, b] as const;
    };
    for (const [a, b] of [two('RC'), two('UC')]) {
      const received = b.recv({ sges });
      await a.send({ opcode: SEND, inline: Buffer.from(a.type) });
      expect(await received).toMatchObject({ byteLen: 2, qpNum: b.qpNum });
      expect(bytes.toString('latin1', 0, 2)).toBe(a.type);
    }
    const [from, to] = [pd.createQp({ type: 'UD', sendCq: cq }), pd.createQp({ type: 'UD', sendCq: cq })];
    for (const qp of [from, to]) bringUp(qp, 0);
    const ah = pd.createAh(loopback());
    const received = to.recv({ sges });
    await from.send({
      opcode: SEND,
      inline: Buffer.from('datagram'),
      ah,
      remoteQpn: to.qpNum,
      remoteQkey: QKEY,
    });
    const wc = await received;
    expect(wc).toMatchObject({ byteLen: 48, qpNum: to.qpNum, srcQp: from.qpNum, grh: true, sl: 0 });
    expect(wc).toMatchObject({ pkeyIndex: 0, slid: 0, dlidPathBits: 0 });
    expect(wc.timestamp).toBeUndefined();
    expect(bytes.toString('latin1', 40, 48)).toBe('datagram');
    await mr.close();
  });

  it('can be polled without the event loop', () => {
    const cq = device.createCq();
    const [a, b] = [pd.createQp({ sendCq: cq }), pd.createQp({ sendCq: cq })];
    connectManually(a, b);
    const { mr } = ((memory) => ({ mr: pd.regMrSync(memory, 1) }))(Buffer.alloc(64));
    const done: string[] = [];
    b.postRecv({ sges: [{ addr: mr.addr, length: 64, lkey: mr.lkey }] }, () => done.push('received'));
    a.postSend({ opcode: SEND, inline: Buffer.from('x'), flags: SendFlags.SIGNALED }, () => {
      done.push('sent');
      expect(cq.poll()).toBe(0);
    });
    pollUntil(() => {
      cq.poll();
      return done.length === 2;
    });
    expect(done.sort()).toEqual(['received', 'sent']);
  });
});
