import { afterEach, describe, expect, it } from 'vitest';
import { Opcode, type QueuePair, RdmaError, SendFlags, WcStatus } from '../../../lib/index.ts';
import {
  connectManually,
  loopback,
  type ManualPair,
  manualPair,
  QKEY,
  unconnectedPair,
} from '../helpers/manual.ts';

let pair: ManualPair;
afterEach(() => pair.close());

type Memory = ReturnType<ManualPair['memory']>;
const sge = ({ mr }: Memory, length = mr.length) => [{ addr: mr.addr, length, lkey: mr.lkey }];

async function message(
  from: QueuePair,
  to: QueuePair,
  text: string,
  local: Memory,
  sink: Memory,
): Promise<void> {
  const received = to.recv({ sges: sge(sink) });
  local.bytes.write(text);
  await from.send({ opcode: Opcode.SEND, sges: sge(local, text.length) });
  expect((await received).byteLen).toBe(text.length);
  expect(sink.bytes.toString('latin1', 0, text.length)).toBe(text);
}

describe.each(['RC', 'UC'] as const)('a %s queue pair that was connected by hand', (type) => {
  it('carries messages both ways', async () => {
    pair = manualPair({ type });
    const [local, sink] = [pair.memory(100), pair.memory(100)];
    await message(pair.a, pair.b, 'from a to b', local, sink);
    await message(pair.b, pair.a, 'and back again', sink, local);
  });

  it('writes to the peer', async () => {
    pair = manualPair({ type });
    const [local, sink] = [pair.memory(5000), pair.memory(5000)];
    for (let i = 0; i < local.bytes.length; i += 1) local.bytes[i] = i * 13;
    const { addr: remoteAddr, rkey } = sink.mr;
    const arrived = pair.b.recv({ sges: [] });
    await pair.a.send({ opcode: Opcode.RDMA_WRITE_WITH_IMM, sges: sge(local), remoteAddr, rkey, immData: 7 });
    expect((await arrived).immData).toBe(7);
    expect(sink.bytes.equals(local.bytes)).toBe(true);
  });

  it('starts at any packet sequence number', async () => {
    pair = manualPair({ type }, { rtr: { rqPsn: 0xff_fffe }, rts: { sqPsn: 0xff_fffe } });
    const [local, sink] = [pair.memory(100), pair.memory(100)];
    for (let i = 0; i < 4; i += 1) await message(pair.a, pair.b, `message ${i}`, local, sink);
    expect(pair.a.query().sqPsn).toBe(2);
  });

  it('completes what is not signalled, too, with sqSigAll', async () => {
    pair = manualPair({ type, sqSigAll: true, maxSendWr: 4 });
    const [local, sink] = [pair.memory(100), pair.memory(400)];
    const { addr, rkey } = sink.mr;
    for (let round = 0; round < 3; round += 1) {
      const wcs: number[] = [];
      await new Promise<void>((resolve) => {
        const list = [0, 1, 2, 3].map((i) => ({
          opcode: Opcode.RDMA_WRITE,
          sges: sge(local),
          remoteAddr: addr + i * 100,
          rkey,
        }));
        pair.a.postSend(list, (status, _, wc) => {
          expect(status).toBe(WcStatus.SUCCESS);
          wcs.push(wc);
          if (wcs.length === 4) resolve();
        });
      });
      // Each by a completion of its own, none because a later one implied it.
      expect(wcs.every((wc) => wc >= 0)).toBe(true);
      expect(pair.a.sendFree).toBe(4);
    }
  });
});

it('reads from the peer over RC', async () => {
  pair = manualPair();
  const [local, source] = [pair.memory(3000), pair.memory(3000)];
  source.bytes.fill('rc');
  const { addr: remoteAddr, rkey } = source.mr;
  await pair.a.send({ opcode: Opcode.RDMA_READ, sges: sge(local), remoteAddr, rkey });
  expect(local.bytes.equals(source.bytes)).toBe(true);
});

it('obeys the access that INIT was given: no WRITE without REMOTE_WRITE', async () => {
  pair = manualPair({}, { init: { accessFlags: 0 } });
  const [local, sink] = [pair.memory(100), pair.memory(100)];
  local.bytes.fill(1);
  const { addr: remoteAddr, rkey } = sink.mr;
  const failure = await pair.a
    .send({ opcode: Opcode.RDMA_WRITE, sges: sge(local), remoteAddr, rkey })
    .catch((error) => error);
  expect(failure).toBeInstanceOf(RdmaError);
  expect([WcStatus.REM_ACCESS_ERR, WcStatus.REM_INV_REQ_ERR]).toContain(failure.wcStatus);
  expect(sink.bytes.every((byte) => byte === 0)).toBe(true);
});

describe('RESET', () => {
  it('retires what is in flight as flushed, and the queue pair can be used anew', async () => {
    pair = unconnectedPair({ maxSendWr: 8, maxRecvWr: 8 });
    const { a, b } = pair;
    const [local, sink] = [pair.memory(100), pair.memory(100)];
    for (let round = 0; round < 5; round += 1) {
      connectManually(a, b);
      await message(a, b, `round ${round}`, local, sink);
      const statuses: number[] = [];
      for (let i = 0; i < 8; i += 1) b.postRecv({ sges: sge(sink) }, (status) => statuses.push(status));
      expect(b.recvFree).toBe(0);
      for (const qp of [a, b]) qp.modify({ state: 'RESET' });
      expect(statuses).toEqual(new Array(8).fill(WcStatus.WR_FLUSH_ERR));
      expect([a.state, b.state, b.recvFree]).toEqual(['RESET', 'RESET', 8]);
    }
  });

  it('lets go of the memory', async () => {
    pair = manualPair();
    const sink = pair.memory(100);
    pair.b.postRecv({ sges: sge(sink) });
    const gone = sink.mr.close();
    pair.b.modify({ state: 'RESET' });
    await gone;
  });

  it('tells first what has completed before', async () => {
    pair = manualPair({ maxSendWr: 8 });
    const { a, b } = pair;
    const [local, sink] = [pair.memory(100), pair.memory(100)];
    const order: [string, number][] = [];
    b.postRecv([{ sges: sge(sink) }, { sges: sge(sink) }], (status) => order.push(['recv', status]));
    const sent = a.send({ opcode: Opcode.SEND, sges: sge(local), flags: SendFlags.SOLICITED });
    // The event loop is held up, so that nothing has been taken from the queue when RESET comes.
    const end = performance.now() + 200;
    while (performance.now() < end);
    b.modify({ state: 'RESET' });
    expect(order).toEqual([
      ['recv', WcStatus.SUCCESS],
      ['recv', WcStatus.WR_FLUSH_ERR],
    ]);
    await sent;
  });

  it('brings a failed queue pair back', async () => {
    pair = manualPair();
    const { a, b } = pair;
    const [local, sink] = [pair.memory(100), pair.memory(100)];
    const bad = { opcode: Opcode.RDMA_WRITE, sges: sge(local), remoteAddr: sink.mr.addr, rkey: 0xdead };
    await expect(a.send(bad)).rejects.toThrow(/REM_ACCESS_ERR|FLUSH/);
    expect(a.state).toBe('ERR');
    for (const qp of [a, b]) qp.modify({ state: 'RESET' });
    connectManually(a, b);
    await message(a, b, 'alive again', local, sink);
  });

  it('is refused within a callback of a completion', async () => {
    pair = manualPair();
    const { a, b } = pair;
    const [local, sink] = [pair.memory(100), pair.memory(100)];
    b.postRecv({ sges: sge(sink) });
    const failure = await new Promise((resolve) => {
      a.postSend({ opcode: Opcode.SEND, sges: sge(local), flags: SendFlags.SIGNALED }, () => {
        try {
          a.modify({ state: 'RESET' });
        } catch (error) {
          resolve(error);
        }
      });
    });
    expect(failure).toMatchObject({ code: 'ERR_RDMA_STATE' });
    expect((failure as Error).message).toContain('setImmediate');
    expect(a.state).toBe('RTS');
  });

  it('refuses work that a retired request posts while it goes on', () => {
    pair = manualPair();
    const sink = pair.memory(100);
    let failure: unknown;
    pair.b.postRecv({ sges: sge(sink) }, () => {
      try {
        pair.b.postRecv({ sges: sge(sink) });
      } catch (error) {
        failure = error;
      }
    });
    pair.b.modify({ state: 'RESET' });
    expect(failure).toMatchObject({ code: 'ERR_RDMA_STATE' });
    expect(pair.b.recvFree).toBe(64);
  });
});

describe('ERR', () => {
  it('is asked for by modify as by toError', async () => {
    pair = manualPair();
    const sink = pair.memory(100);
    const received = pair.b.recv({ sges: sge(sink) });
    pair.b.modify({ state: 'ERR' });
    await expect(received).rejects.toMatchObject({ wcStatus: WcStatus.WR_FLUSH_ERR });
    expect(pair.b.state).toBe('ERR');
  });

  it('can not be reached from RESET, where nothing is in flight', () => {
    pair = unconnectedPair();
    expect(() => pair.a.modify({ state: 'ERR' })).toThrow(/RC RESET → ERR is not a transition/);
    expect(() => pair.a.toError()).toThrow(/only from RESET is there no way/);
    expect(pair.a.state).toBe('RESET');
    connectManually(pair.a, pair.b);
    expect(pair.a.state).toBe('RTS');
  });
});

describe('SQD', () => {
  it('holds back sends until RTS', async () => {
    pair = manualPair();
    const { a, b } = pair;
    const [local, sink] = [pair.memory(100), pair.memory(100)];
    await message(a, b, 'before', local, sink);
    a.modify({ state: 'SQD', enSqdAsyncNotify: true });
    expect(a.state).toBe('SQD');
    while (a.query().sqDraining === true) await new Promise((resolve) => setImmediate(resolve));
    a.modify({ state: 'RTS', curState: 'SQD' });
    await message(a, b, 'after', local, sink);
  });

  it('is left for RESET also while it drains', async () => {
    pair = manualPair();
    const { a, b } = pair;
    const [local, sink] = [pair.memory(1 << 20), pair.memory(1 << 20)];
    const { addr: remoteAddr, rkey } = sink.mr;
    for (let round = 0; round < 5; round += 1) {
      const list = Array.from({ length: 8 }, () => ({
        opcode: Opcode.RDMA_WRITE,
        sges: sge(local),
        remoteAddr,
        rkey,
      }));
      const retired = new Promise<void>((resolve) => {
        let left = list.length;
        a.postSend(list, () => {
          left -= 1;
          if (left === 0) resolve();
        });
      });
      a.modify({ state: 'SQD' });
      a.modify({ state: 'RESET' });
      await retired;
      expect(a.state).toBe('RESET');
      b.modify({ state: 'RESET' });
      connectManually(a, b);
    }
    await message(a, b, 'after all', local, sink);
  });

  it('tells when the send queue is drained', async () => {
    pair = manualPair();
    const drained = new Promise((resolve) => pair.a.once('SQ_DRAINED', resolve));
    pair.a.modify({ state: 'SQD', enSqdAsyncNotify: true });
    expect(await drained).toMatchObject({ type: 'SQ_DRAINED', qp: pair.a });
    expect(pair.a.state).toBe('SQD');
  });
});

describe('UD', () => {
  it('needs the same qkey at both ends', () => {
    pair = unconnectedPair({ type: 'UD' });
    connectManually(pair.a, pair.b);
    expect(pair.a.query().qkey).toBe(QKEY);
    pair.a.modify({ qkey: 5 });
    expect(pair.a.query().qkey).toBe(5);
  });

  it('has a path by address handle, not by modify', () => {
    pair = unconnectedPair({ type: 'UD' });
    pair.a.toInit({ qkey: QKEY });
    expect(() => pair.a.toRtr({ ahAttr: loopback(), destQpNum: 1 })).toThrow(
      /UD INIT → RTR does not take ahAttr, destQpNum/,
    );
  });
});
