import { afterEach, describe, expect, it } from 'vitest';
import { SendFlags, WcStatus } from '../../../lib/index.ts';
import { devices } from '../helpers/devices.ts';
import { connectedPair, type Pair } from '../helpers/pair.ts';

const DEPTH = 16;
const BYTES = 64;

describe.each(devices)('batches on $name', ({ name }) => {
  let pair: Pair | undefined;
  afterEach(async () => {
    await pair?.close();
    pair = undefined;
  });

  const connect = async (): Promise<Pair> => {
    pair = await connectedPair(name, { maxSendWr: DEPTH, maxRecvWr: DEPTH });
    return pair;
  };

  /** Waits until [count] work requests have been retired; tells their statuses and slots, in order. */
  const collector = (count: number) => {
    const statuses: number[] = [];
    const slots: number[] = [];
    const lengths: number[] = [];
    let finish = (): void => {};
    const all = new Promise<void>((resolve) => {
      finish = resolve;
    });
    const onRetired = (status: number, byteLen: number, _wc: number, slot: number): void => {
      statuses.push(status);
      slots.push(slot);
      lengths.push(byteLen);
      if (slots.length === count) finish();
    };
    return { statuses, slots, lengths, all, onRetired };
  };

  it('writes, of which the last one is signalled', async () => {
    const { client, memory } = await connect();
    const from = await memory(DEPTH * BYTES);
    const to = await memory(DEPTH * BYTES);
    from.bytes.forEach((_, i) => {
      from.bytes[i] = i * 7;
    });
    const batch = client.qp.sendBatch;
    const retired = collector(DEPTH);
    const slots: number[] = [];
    for (let i = 0; i < DEPTH; i += 1) {
      const at = i * BYTES;
      const flags = i === DEPTH - 1 ? SendFlags.SIGNALED : 0;
      slots.push(batch.write(from.mr.addr + at, BYTES, from.mr.lkey, to.mr.addr + at, to.mr.rkey, flags));
    }
    expect({ length: batch.length, free: batch.free, slots: batch.slots }).toEqual({
      length: DEPTH,
      free: 0,
      slots: DEPTH,
    });
    expect(batch.post(retired.onRetired)).toBe(DEPTH);
    expect(batch.length).toBe(0);
    await retired.all;
    expect(retired.statuses).toEqual(slots.map(() => WcStatus.SUCCESS));
    expect(retired.slots).toEqual(slots);
    expect(slots).toEqual(Array.from({ length: DEPTH }, (_, i) => i));
    // A read of the same range waits until siw's peer has the bytes.
    const check = await memory(DEPTH * BYTES);
    const read = collector(1);
    batch.read(check.mr.addr, DEPTH * BYTES, check.mr.lkey, to.mr.addr, to.mr.rkey, SendFlags.SIGNALED);
    expect(batch.post(read.onRetired)).toBe(1);
    await read.all;
    expect(read.statuses).toEqual([WcStatus.SUCCESS]);
    expect(check.bytes.equals(from.bytes)).toBe(true);
    expect(to.bytes.equals(from.bytes)).toBe(true);
  });

  it('sends into the receives of the peer, round after round', async () => {
    const { client, server, memory } = await connect();
    const from = await memory(DEPTH * BYTES);
    const to = await memory(DEPTH * BYTES);
    const sends = client.qp.sendBatch;
    const recvs = server.qp.recvBatch;
    for (let round = 0; round < 5; round += 1) {
      from.bytes.forEach((_, i) => {
        from.bytes[i] = i + round;
      });
      const count = 5;
      const received = collector(count);
      const sent = collector(count);
      const slots: number[] = [];
      for (let i = 0; i < count; i += 1) slots.push(recvs.recv(to.mr.addr + i * BYTES, BYTES, to.mr.lkey));
      recvs.post(received.onRetired);
      for (let i = 0; i < count; i += 1) {
        sends.send(from.mr.addr + i * BYTES, BYTES - i, from.mr.lkey, SendFlags.SIGNALED);
      }
      sends.post(sent.onRetired);
      await Promise.all([received.all, sent.all]);
      expect(received.statuses).toEqual([0, 0, 0, 0, 0]);
      expect(received.slots).toEqual(slots);
      expect(received.lengths).toEqual([64, 63, 62, 61, 60]);
      expect(slots).toEqual(Array.from({ length: count }, (_, i) => (round * count + i) % DEPTH));
      for (let i = 0; i < count; i += 1) {
        const at = i * BYTES;
        const length = BYTES - i;
        expect(to.bytes.subarray(at, at + length).equals(from.bytes.subarray(at, at + length))).toBe(true);
      }
    }
  });

  it('carries immediate data, or says that the device has none', async () => {
    const { client, server, memory } = await connect();
    const { mr } = await memory(BYTES);
    const batch = client.qp.sendBatch;
    const received = collector(1);
    server.qp.recvBatch.recv(mr.addr, BYTES, mr.lkey);
    server.qp.recvBatch.post(received.onRetired);
    batch.sendWithImm(0xfedc_ba98, mr.addr, 8, mr.lkey, SendFlags.SIGNALED);
    if (name === 'siw0') {
      expect(() => batch.post()).toThrow(
        expect.objectContaining({ code: 'EOPNOTSUPP', wrIndex: 0, posted: 0 }),
      );
      return;
    }
    batch.post();
    await received.all;
    expect(received.statuses).toEqual([WcStatus.SUCCESS]);
  });

  it('refuses numbers that are none, by name', async () => {
    const { client, memory } = await connect();
    const { mr } = await memory(BYTES);
    const batch = client.qp.sendBatch;
    const [addr, lkey] = [mr.addr, mr.lkey];
    const bad = (what: () => unknown, code: string, text: string): void => {
      expect(what).toThrow(expect.objectContaining({ code, message: expect.stringContaining(text) }));
    };
    bad(() => batch.send(addr, -1, lkey), 'ERR_OUT_OF_RANGE', 'length is -1');
    bad(() => batch.send(addr, 1.5, lkey), 'ERR_OUT_OF_RANGE', 'length is 1.5');
    bad(() => batch.send(addr, 8, 2 ** 32), 'ERR_OUT_OF_RANGE', 'lkey is 4294967296');
    bad(() => batch.send(addr + 0.5, 8, lkey), 'ERR_OUT_OF_RANGE', 'addr is');
    bad(() => batch.send(Number.NaN, 8, lkey), 'ERR_OUT_OF_RANGE', 'addr is NaN');
    bad(() => batch.send(2 ** 53, 8, lkey), 'ERR_OUT_OF_RANGE', 'addr is 9007199254740992');
    bad(() => batch.write(addr, 8, lkey, -4096, 1), 'ERR_OUT_OF_RANGE', 'remoteAddr is -4096');
    bad(() => batch.write(addr, 8, lkey, 0, -1), 'ERR_OUT_OF_RANGE', 'rkey is -1');
    bad(() => batch.writeWithImm(-1, addr, 8, lkey, 0, 0), 'ERR_OUT_OF_RANGE', 'immData is -1');
    bad(() => batch.send(addr, 8, lkey, 0.1), 'ERR_OUT_OF_RANGE', 'flags is 0.1');
    bad(() => batch.send(undefined as never, 8, lkey), 'ERR_INVALID_ARG_TYPE', 'addr is undefined');
    expect(batch.length).toBe(0);
  });

  it('leaves keys and ranges to the addon, which posts nothing then', async () => {
    const { client, memory } = await connect();
    const { mr } = await memory(BYTES);
    const batch = client.qp.sendBatch;
    batch.send(mr.addr, BYTES, mr.lkey);
    batch.send(mr.addr, BYTES + 1, mr.lkey);
    expect(() => batch.post()).toThrow(
      expect.objectContaining({ code: 'ERR_OUT_OF_RANGE', wrIndex: 1, posted: 0 }),
    );
    expect({ length: batch.length, free: client.qp.sendFree }).toEqual({ length: 0, free: DEPTH });
    batch.send(mr.addr, BYTES, (mr.lkey ^ 0x55) >>> 0);
    expect(() => batch.post()).toThrow(
      expect.objectContaining({
        code: 'ERR_INVALID_ARG_VALUE',
        message: expect.stringContaining('SGE 0: lkey'),
      }),
    );
  });

  it('is full when the queue is, and drops what it is told to', async () => {
    const { client, memory } = await connect();
    const { mr } = await memory(BYTES);
    const batch = client.qp.recvBatch;
    for (let i = 0; i < DEPTH; i += 1) batch.recv(mr.addr, BYTES, mr.lkey);
    expect(() => batch.recv(mr.addr, BYTES, mr.lkey)).toThrow(
      expect.objectContaining({ code: 'ENOBUFS', message: expect.stringContaining('0 of 16 are in flight') }),
    );
    batch.clear();
    expect(batch.length).toBe(0);
    expect(batch.post()).toBe(0);
    expect(batch.recv(mr.addr, BYTES, mr.lkey)).toBe(0);
    expect(() => client.qp.postRecv({ sges: [] })).toThrow(
      expect.objectContaining({
        code: 'ERR_RDMA_STATE',
        message: expect.stringContaining('holds 1 work requests'),
      }),
    );
    expect(batch.post()).toBe(1);
  });

  it('retires with a flush what is posted to a failed queue pair', async () => {
    const { client, memory } = await connect();
    const { mr } = await memory(BYTES);
    client.qp.toError();
    const retired = collector(2);
    const batch = client.qp.sendBatch;
    const slots = [batch.send(mr.addr, 8, mr.lkey), batch.send(mr.addr, 8, mr.lkey)];
    batch.post(retired.onRetired);
    await retired.all;
    expect(retired.statuses).toEqual([WcStatus.WR_FLUSH_ERR, WcStatus.WR_FLUSH_ERR]);
    expect(retired.slots).toEqual(slots);
  });

  it('tells two batches of a failed queue pair apart, and is full until both are flushed', async () => {
    const { client, memory } = await connect();
    const { mr } = await memory(BYTES);
    client.qp.toError();
    const retired = collector(DEPTH);
    const batch = client.qp.sendBatch;
    const fill = (count: number): number[] =>
      Array.from({ length: count }, () => batch.send(mr.addr, 8, mr.lkey));
    const first = fill(DEPTH / 2);
    batch.post(retired.onRetired);
    const second = fill(DEPTH / 2);
    batch.post(retired.onRetired);
    expect(new Set([...first, ...second]).size).toBe(DEPTH);
    expect(batch.free).toBe(0);
    await retired.all;
    expect(retired.slots).toEqual([...first, ...second]);
    expect(new Set(retired.statuses)).toEqual(new Set([WcStatus.WR_FLUSH_ERR]));
    expect(batch.free).toBe(DEPTH);
  });

  it('flushes the batch of a failed queue pair once, when that is closed at once', async () => {
    const { client, memory } = await connect();
    const { mr } = await memory(BYTES);
    client.qp.toError();
    const retired = collector(2);
    const slot = client.qp.sendBatch.send(mr.addr, 8, mr.lkey);
    client.qp.sendBatch.post(retired.onRetired);
    client.qp.close();
    await new Promise((resolve) => setImmediate(resolve));
    expect(retired.slots).toEqual([slot]);
    expect(retired.statuses).toEqual([WcStatus.WR_FLUSH_ERR]);
  });
});

describe('batches of other queue pairs', () => {
  it('are refused where a send says more, and where the receives are not its own', async () => {
    const { device, pd, close } = await connectedPair('rxe0');
    const cq = device.createCq();
    const datagrams = pd.createQp({ sendCq: cq, type: 'UD' });
    expect(() => datagrams.sendBatch).toThrow(
      expect.objectContaining({ code: 'EINVAL', message: expect.stringContaining('UD queue pairs') }),
    );
    const srq = pd.createSrq();
    const shared = pd.createQp({ sendCq: cq, srq });
    expect(() => shared.recvBatch).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    await close();
  });
});
