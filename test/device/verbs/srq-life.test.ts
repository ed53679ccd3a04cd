import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { openDevice, type SharedReceiveQueueEvent, WcStatus } from '../../../lib/index.ts';
import { devices } from '../helpers/devices.ts';
import { rdmaErrorOf } from '../helpers/rejection.ts';
import { type SharedServer, sharedServer } from '../helpers/srq.ts';
import { pollUntil } from '../helpers/wait.ts';
import { runProgram } from '../lifetime/run.ts';

let shared: SharedServer;
afterEach(() => shared.close());

/** Posts a receive to every buffer of [from, to). */
function post(
  from: number,
  to: number,
  onRetired: (i: number, status: number, byteLen: number) => void,
): void {
  for (let i = from; i < to; i += 1) {
    shared.srq.postRecv({ sges: [shared.buffer(i)] }, (status, byteLen) => onRetired(i, status, byteLen));
  }
}

describe.each(devices)('resizing a shared receive queue on $name', ({ name }) => {
  it('keeps what is in flight; siw can not', async () => {
    shared = await sharedServer(name, { srq: { maxWr: 8 }, cqe: 500 });
    const { srq } = shared;
    const texts: string[] = [];
    post(0, 8, (i, status, byteLen) => {
      expect(status).toBe(WcStatus.SUCCESS);
      texts.push(shared.text(i, byteLen));
    });
    if (name === 'siw0') {
      const error = await rdmaErrorOf(() => srq.modify({ maxWr: 16 }));
      expect(error).toMatchObject({ code: 'EOPNOTSUPP', syscall: 'ibv_modify_srq' });
      expect(error.message).toContain('device siw0 can not resize shared receive queues');
    } else {
      srq.modify({ maxWr: 100 });
      expect([srq.maxWr, srq.free, srq.outstanding]).toEqual([100, 92, 8]);
      post(8, 100, (i, status, byteLen) => {
        expect(status).toBe(WcStatus.SUCCESS);
        texts.push(shared.text(i, byteLen));
      });
      expect(srq.free).toBe(0);
    }
    const count = srq.outstanding;
    for (let i = 0; i < count; i += 1) await shared.say(i % 2, `message ${i}`);
    while (texts.length < count) await turn();
    expect(texts.sort()).toEqual(Array.from({ length: count }, (_, i) => `message ${i}`).sort());
    expect(srq.free).toBe(srq.maxWr);
  });

  it('goes down to what is in flight, and up to what the completion queues hold', async () => {
    shared = await sharedServer(name, { srq: { maxWr: 64 }, cqe: 255 });
    if (name === 'siw0') return;
    const { srq, serverCqs } = shared;
    // Two queue pairs of 8 sends each, and the shared receives once.
    expect(serverCqs[0]!.reserved).toBe(8 + 8 + 64);
    let retired = 0;
    post(0, 10, () => {
      retired += 1;
    });
    const tooFew = await rdmaErrorOf(() => srq.modify({ maxWr: 9 }));
    expect(tooFew).toMatchObject({ code: 'EBUSY', syscall: 'ibv_modify_srq' });
    expect(tooFew.message).toContain('maxWr 9: 10 receives are in flight');
    srq.modify({ maxWr: 10 });
    expect([srq.maxWr, srq.free, serverCqs[0]!.reserved]).toEqual([10, 0, 26]);
    expect((await rdmaErrorOf(() => srq.postRecv({ sges: [shared.buffer(0)] }))).code).toBe('ENOBUFS');
    const tooMany = await rdmaErrorOf(() => srq.modify({ maxWr: 240 }));
    expect(tooMany.code).toBe('ENOSPC');
    expect(tooMany.message).toContain('has 255 entries, its queue pairs need 256');
    expect([srq.maxWr, serverCqs[0]!.reserved]).toEqual([10, 26]);
    srq.modify({ maxWr: 239 });
    expect(serverCqs[0]!.reserved).toBe(255);
    for (let i = 0; i < 10; i += 1) await shared.say(i % 2, 'x');
    while (retired < 10) await turn();
  });
});

describe.each(devices)('the limit of a shared receive queue on $name', ({ name }) => {
  it('is reported once, and can be set anew', async () => {
    shared = await sharedServer(name, { srq: { maxWr: 16, limit: 4 } });
    const { srq } = shared;
    const events: SharedReceiveQueueEvent[] = [];
    srq.on('SRQ_LIMIT_REACHED', (event) => events.push(event));
    let retired = 0;
    const onRetired = () => {
      retired += 1;
    };
    const drain = async (count: number) => {
      const before = retired;
      for (let i = 0; i < count; i += 1) await shared.say(i % 2, 'x');
      while (retired < before + count) await turn();
      await sleep(50);
    };
    post(0, 16, onRetired);
    await drain(8);
    expect(events.length).toBe(0);
    await drain(7);
    expect(events.map(({ type }) => type)).toEqual(['SRQ_LIMIT_REACHED']);
    expect(events[0]!.srq === srq).toBe(true);
    post(0, 15, onRetired);
    await drain(15);
    expect(events.length).toBe(1);

    post(0, 15, onRetired);
    srq.modify({ limit: 10 });
    await drain(15);
    expect(events.length).toBe(2);
    expect((await rdmaErrorOf(() => srq.modify({ limit: 17 }))).message).toContain(
      'limit must be an integer from 0 to 16, not 17',
    );
  });

  it('is told by a query; siw can not be asked', async () => {
    shared = await sharedServer(name, { connections: 0, srq: { maxWr: 16, maxSge: 3, limit: 4 } });
    const { srq } = shared;
    if (name === 'siw0') {
      const error = await rdmaErrorOf(() => srq.query());
      expect(error).toMatchObject({ code: 'EOPNOTSUPP', syscall: 'ibv_query_srq' });
      expect(error.message).toContain('device siw0 can not be asked');
      return;
    }
    const attr = srq.query();
    expect(attr).toMatchObject({ maxSge: 3, limit: 4 });
    expect(attr.maxWr).toBeGreaterThanOrEqual(16);
    srq.modify({ maxWr: 40, limit: 30 });
    expect(srq.query().limit).toBe(30);
    srq.modify({ maxWr: 8, limit: 2 });
    expect(srq.query().limit).toBe(2);
    expect(srq.maxWr).toBe(8);
  });
});

describe.each(devices)('receives that come back in any order on $name', ({ name }) => {
  it('do not stall behind one that stays out', async () => {
    shared = await sharedServer(name, { srq: { maxWr: 4 }, ownCqs: true });
    const { srq, serverCqs, clients } = shared;
    const [late, quick] = serverCqs;
    const order: string[] = [];
    srq.postRecv({ sges: [shared.buffer(0)] }, (status, byteLen, wc, cq) => {
      expect([status, cq === late]).toEqual([WcStatus.SUCCESS, true]);
      expect(late!.ring.qpNum(wc)).toBe(shared.servers[0]!.qp.qpNum);
      order.push(shared.text(0, byteLen));
    });
    // The first receive is taken by the first queue pair, whose completion queue nobody polls for now.
    clients[0]!.qp.postSend({ opcode: 2, inline: Buffer.from('late') });
    expect(pollUntil(() => shared.text(0, 4) === 'late')).toBe(true);
    for (let round = 1; round <= 300; round += 1) {
      srq.postRecv({ sges: [shared.buffer(1)] }, (status, byteLen, _, cq) => {
        expect([status, cq === quick]).toEqual([WcStatus.SUCCESS, true]);
        order.push(shared.text(1, byteLen));
      });
      clients[1]!.qp.postSend({ opcode: 2, inline: Buffer.from(`round ${round}`), flags: 2 });
      expect(
        pollUntil(() => {
          quick!.poll();
          clients[1]!.qp.sendCq.poll();
          return order.length === round;
        }),
      ).toBe(true);
    }
    expect(srq.outstanding).toBe(1);
    expect(order).toEqual(Array.from({ length: 300 }, (_, i) => `round ${i + 1}`));
    late!.poll();
    expect(order.at(-1)).toBe('late');
    expect(srq.outstanding).toBe(0);
  });
});

describe.each(devices)('the end of a queue pair on a shared receive queue on $name', ({ name }) => {
  it('leaves the receives to the others, and what has arrived is delivered', async () => {
    shared = await sharedServer(name, { srq: { maxWr: 8 } });
    const { srq, servers, clients } = shared;
    const texts: string[] = [];
    post(0, 8, (i, status, byteLen) => {
      expect(status).toBe(WcStatus.SUCCESS);
      texts.push(shared.text(i, byteLen));
    });
    clients[0]!.qp.postSend({ opcode: 2, inline: Buffer.from('last words'), flags: 2 });
    pollUntil(() => shared.memory.bytes.includes('last words'));
    pollUntil(() => {
      clients[0]!.qp.sendCq.poll();
      return clients[0]!.qp.sendFree === 64;
    });
    servers[0]!.close();
    expect(texts).toEqual([]);
    while (texts.length < 1) await turn();
    expect(texts).toEqual(['last words']);
    for (let i = 0; i < 7; i += 1) await shared.say(1, `message ${i}`);
    while (texts.length < 8) await turn();
    expect(srq.outstanding).toBe(0);
  });

  it('does not touch the other when a message is too long', async () => {
    shared = await sharedServer(name, { srq: { maxWr: 8 } });
    const { srq, servers, clients } = shared;
    const statuses: number[] = [];
    const qpNums: (number | undefined)[] = [];
    for (let i = 0; i < 4; i += 1) {
      srq.postRecv({ sges: [{ ...shared.buffer(i), length: 8 }] }, (status, _, wc, cq) => {
        statuses.push(status);
        qpNums.push(cq?.ring.qpNum(wc));
      });
    }
    clients[0]!.qp.postSend({ opcode: 2, inline: Buffer.from('more than eight bytes'), flags: 2 });
    while (servers[0]!.qp.state !== 'ERR') await sleep(5);
    await shared.say(1, 'short');
    while (!statuses.includes(WcStatus.SUCCESS)) await turn();
    await sleep(50);
    // The receive of the long message comes back with an error, or goes down with its queue pair.
    const failed = statuses.filter((status) => status !== WcStatus.SUCCESS);
    expect(failed.length).toBeLessThanOrEqual(1);
    for (const status of failed) {
      expect([WcStatus.LOC_LEN_ERR, WcStatus.LOC_QP_OP_ERR, WcStatus.WR_FLUSH_ERR]).toContain(status);
      expect(qpNums[statuses.indexOf(status)]).toBe(servers[0]!.qp.qpNum);
    }
    expect(servers[1]!.qp.state).not.toBe('ERR');
    expect(srq.outstanding).toBeGreaterThanOrEqual(2);
  });
});

describe.each(devices)('closing around a shared receive queue on $name', ({ name }) => {
  const states = () => ({
    srq: shared.srq.closed,
    qps: shared.servers.map(({ qp }) => qp.closed),
    cq: shared.serverCqs[0]!.closed,
  });
  /** Receives in flight, and what becomes of them. */
  const inFlight = () => {
    const statuses: number[] = [];
    post(0, 5, (_, status) => statuses.push(status));
    return statuses;
  };
  const FLUSHED = new Array(5).fill(WcStatus.WR_FLUSH_ERR);

  it('takes its queue pairs along, and settles its receives', async () => {
    shared = await sharedServer(name);
    const statuses = inFlight();
    shared.srq.close();
    expect(states()).toEqual({ srq: true, qps: [true, true], cq: false });
    expect(statuses).toEqual(FLUSHED);
    expect((await rdmaErrorOf(() => shared.srq.postRecv({ sges: [] }))).code).toBe('ERR_RDMA_CLOSED');
    shared.srq.close();
  });

  it('keeps it when a completion queue goes, for queue pairs with another', async () => {
    shared = await sharedServer(name, { ownCqs: true });
    const statuses = inFlight();
    shared.serverCqs[0]!.close();
    expect(shared.servers.map(({ qp }) => qp.closed)).toEqual([true, false]);
    expect(shared.srq.closed).toBe(false);
    await shared.say(1, 'still here');
    while (statuses.length === 0) await turn();
    expect(statuses).toEqual([WcStatus.SUCCESS]);
    await shared.connect();
    await shared.say(2, 'newcomer');
    while (statuses.length < 2) await turn();
    expect(statuses).toEqual([WcStatus.SUCCESS, WcStatus.SUCCESS]);
  });

  it('takes it along with its device, in whatever order the rest has been closed', async () => {
    shared = await sharedServer(name);
    const statuses = inFlight();
    const closing = shared.memory.mr.close();
    shared.device.close();
    await closing;
    expect(states()).toEqual({ srq: true, qps: [true, true], cq: true });
    expect(statuses).toEqual(FLUSHED);
  });

  it('keeps regions that its receives name, until they come back or it is closed', async () => {
    shared = await sharedServer(name);
    const statuses = inFlight();
    let gone = false;
    const closing = shared.memory.mr.close().then(() => {
      gone = true;
    });
    for (const { qp } of shared.servers) qp.close();
    await sleep(20);
    expect([gone, statuses]).toEqual([false, []]);
    shared.srq.close();
    await closing;
    expect(statuses).toEqual(FLUSHED);
  });

  it('may be done by the callback of a receive', async () => {
    shared = await sharedServer(name);
    const statuses: number[] = [];
    await new Promise<void>((resolve) => {
      post(0, 5, (_, status) => {
        statuses.push(status);
        if (statuses.length === 1) shared.srq.close();
        if (statuses.length === 5) resolve();
      });
      void shared.say(0, 'x').catch(() => undefined);
    });
    expect(statuses.slice(1)).toEqual(FLUSHED.slice(1));
    expect(statuses[0]).toBe(WcStatus.SUCCESS);
  });

  it('gives the room in completion queues back', async () => {
    shared = await sharedServer(name, { srq: { maxWr: 100 } });
    const [cq] = shared.serverCqs;
    expect(cq!.reserved).toBe(8 + 8 + 100);
    shared.servers[0]!.close();
    expect(cq!.reserved).toBe(8 + 100);
    shared.servers[1]!.close();
    expect(cq!.reserved).toBe(0);
  });

  it('refuses a queue of another device', async () => {
    shared = await sharedServer(name, { connections: 0 });
    using other = openDevice(name === 'rxe0' ? 'siw0' : 'rxe0');
    const error = await rdmaErrorOf(() =>
      other.allocPd().createQp({ sendCq: other.createCq(), srq: shared.srq }),
    );
    expect(error.message).toContain(`the protection domain is of device ${other.name}`);
    expect(error.message).toContain(`the shared receive queue of ${name}`);
    const wrong = await rdmaErrorOf(() =>
      shared.pd.createQp({ sendCq: shared.device.createCq(), srq: {} as never }),
    );
    expect(wrong.message).toContain('srq must be a SharedReceiveQueue');
  });
});

describe('receives of a shared queue', () => {
  it.each([
    ['taken', 'alive'],
    ['no-queue-pair', 'idle'],
    ['closed', 'idle'],
    ['unref', 'idle'],
    ['returned', 'idle'],
  ])('keep the process alive while a queue pair can take them: %s', async (how, says) => {
    shared = await sharedServer('rxe0', { connections: 0 });
    const { code, out, err } = await runProgram('shared-receives', [how]);
    expect([code, out.trim(), err]).toEqual([0, says, '']);
  });
});
