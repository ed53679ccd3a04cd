/** What pyverbs lacks: completions and posting. */
import { expect } from 'vitest';
import { Opcode, SendFlags, type SendWr } from '../../../lib/index.ts';
import { connectedPair } from '../../device/helpers/pair.ts';
import { rdmaErrorOf } from '../../device/helpers/rejection.ts';
import { implement } from '../harness.ts';

/** Blocks the event loop, as a busy program does. */
function busy(ms: number): void {
  const end = performance.now() + ms;
  while (performance.now() < end);
}

implement('beyond', 'Completions', {
  async lost_wakeup({ name }) {
    await using pair = await connectedPair(name, { maxSendWr: 4, maxRecvWr: 4 });
    const { mr: a } = await pair.memory(64);
    const { mr: b } = await pair.memory(64);
    const one = (mr: typeof a) => [{ addr: mr.addr, length: 64, lkey: mr.lkey }];
    // Each turn ends with completions that nothing but their events can announce; the turns fall on every phase of
    // arming, polling and sleeping.
    for (let turn = 0; turn < 300; turn += 1) {
      const received = pair.server.qp.recv({ sges: one(b) });
      const sent = pair.client.qp.send({ opcode: Opcode.SEND, sges: one(a) });
      if (turn % 3 === 1) await new Promise(setImmediate);
      if (turn % 3 === 2) busy(0.2);
      const [{ byteLen }] = await Promise.all([received, sent]);
      expect(byteLen).toBe(64);
    }
  },

  async acks_at_destroy({ name }) {
    for (let round = 0; round < 5; round += 1) {
      const pair = await connectedPair(name);
      const { mr } = await pair.memory(64);
      const sges = [{ addr: mr.addr, length: 64, lkey: mr.lkey }];
      let settled = 0;
      const list = Array.from({ length: 8 }, () => ({ sges }));
      pair.server.qp.postRecv(list, () => {
        settled += 1;
      });
      for (let i = 0; i < 8; i += 1) {
        pair.client.qp.postSend({ opcode: Opcode.SEND, sges, flags: SendFlags.SIGNALED });
      }
      // The events lie in the channels, nobody has taken them: ibv_destroy_cq(3) would wait for them for ever.
      busy(5);
      pair.clientCq.close();
      pair.serverCq.close();
      expect([pair.clientCq.closed, pair.serverCq.closed, settled]).toEqual([true, true, 8]);
      await pair.close();
    }
  },

  async whole_batches({ name }) {
    const count = 600; // more than two batches of the completion ring
    await using pair = await connectedPair(name, { maxSendWr: count, maxRecvWr: count });
    const { bytes, mr: source } = await pair.memory(count);
    bytes.forEach((_, i) => {
      bytes[i] = i;
    });
    const { bytes: arrived, mr: target } = await pair.memory(count);
    const order: number[] = [];
    await new Promise<void>((resolve) => {
      for (let i = 0; i < count; i += 1) {
        pair.server.qp.postRecv({ sges: [{ addr: target.addr + i, length: 1, lkey: target.lkey }] }, () => {
          order.push(i);
          if (order.length === count) resolve();
        });
      }
      const wrs = Array.from({ length: count }, (_, i): SendWr => {
        return { opcode: Opcode.SEND, sges: [{ addr: source.addr + i, length: 1, lkey: source.lkey }] };
      });
      pair.client.qp.postSend(
        wrs.map((wr, i) => (i === count - 1 ? { ...wr, flags: SendFlags.SIGNALED } : wr)),
      );
    });
    expect(order).toEqual(Array.from({ length: count }, (_, i) => i));
    expect(arrived.equals(bytes)).toBe(true);
  },
});

implement('beyond', 'Posting', {
  async partial_post({ name }) {
    await using pair = await connectedPair(name);
    const { mr, bytes } = await pair.memory(64);
    const { mr: target, bytes: arrived } = await pair.memory(64);
    bytes.fill(7);
    const write = (i: number): SendWr => ({
      opcode: Opcode.RDMA_WRITE,
      sges: [{ addr: mr.addr, length: 8, lkey: mr.lkey }],
      remoteAddr: target.addr + 8 * i,
      rkey: target.rkey,
      flags: SendFlags.SIGNALED,
    });
    const bad = {
      ...write(2),
      sges: [{ addr: mr.addr, length: 8, lkey: (mr.lkey ^ 0xffff) >>> 0 }],
    } as SendWr;
    let retired = 0;
    const count = () => {
      retired += 1;
    };
    const error = await rdmaErrorOf(() =>
      pair.client.qp.postSend([write(0), write(1), bad, write(3)], count),
    );
    expect(error).toMatchObject({ wrIndex: 2, posted: 0, syscall: 'ibv_post_send' });
    await pair.client.qp.send(write(4));
    // What was counted as not posted was not posted: nothing of it arrived, and nothing of it completes.
    expect([...arrived.subarray(0, 40)]).toEqual([...Array(32).fill(0), ...Array(8).fill(7)]);
    expect(retired).toBe(0);
  },

  async send_queue_full({ name }) {
    await using pair = await connectedPair(name, { maxSendWr: 8 });
    const { mr } = await pair.memory(64);
    const { mr: target } = await pair.memory(64);
    const { qp } = pair.client;
    const write: SendWr = {
      opcode: Opcode.RDMA_WRITE,
      sges: [{ addr: mr.addr, length: 64, lkey: mr.lkey }],
      remoteAddr: target.addr,
      rkey: target.rkey,
      flags: SendFlags.SIGNALED,
    };
    const room = qp.sendFree;
    expect(room).toBeGreaterThanOrEqual(8);
    let done = 0;
    let drained: () => void = () => undefined;
    const all = new Promise<void>((resolve) => {
      drained = resolve;
    });
    qp.postSend(Array(room).fill(write), () => {
      done += 1;
      if (done === room) drained();
    });
    expect(qp.sendFree).toBe(0);
    const error = await rdmaErrorOf(() => qp.postSend(write));
    expect(error).toMatchObject({ code: 'ENOBUFS', posted: 0 });
    await all;
    expect(qp.sendFree).toBe(room);
    await qp.send(write);
  },

  async unsignalled({ name }) {
    await using pair = await connectedPair(name, { maxSendWr: 16 });
    const { mr } = await pair.memory(64);
    const { mr: target } = await pair.memory(64);
    const write: SendWr = {
      opcode: Opcode.RDMA_WRITE,
      sges: [{ addr: mr.addr, length: 64, lkey: mr.lkey }],
      remoteAddr: target.addr,
      rkey: target.rkey,
    };
    const order: number[] = [];
    await new Promise<void>((resolve) => {
      const last = { ...write, flags: SendFlags.SIGNALED };
      const retired = Array.from({ length: 10 }, (_, i) => () => {
        order.push(i);
        if (i === 9) resolve();
      });
      pair.client.qp.postSend([...Array(9).fill(write), last], retired);
    });
    expect(order).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(pair.client.qp.sendFree).toBe(pair.client.qp.caps.maxSendWr);
  },
});
