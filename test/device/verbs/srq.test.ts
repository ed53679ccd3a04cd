import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openDevice, WcStatus, XrcDomain } from '../../../lib/index.ts';
import { devices } from '../helpers/devices.ts';
import { rdmaErrorOf } from '../helpers/rejection.ts';
import { BUFFER, type SharedServer, sharedServer } from '../helpers/srq.ts';

describe.each(devices)('shared receive queues on $name', ({ name }) => {
  let shared: SharedServer;

  beforeAll(async () => {
    shared = await sharedServer(name, { srq: { maxWr: 16, maxSge: 2 } });
  });
  afterAll(() => shared.close());

  it('feeds two queue pairs, and says which one received', async () => {
    const { srq, servers } = shared;
    const qpNums: number[] = [];
    for (let round = 0; round < 50; round += 1) {
      const received = srq.recv({ sges: [shared.buffer(round % 16)] });
      const text = `round ${round}`;
      await shared.say(round % 2, text);
      const { byteLen, qpNum } = await received;
      expect(shared.text(round % 16, byteLen)).toBe(text);
      qpNums.push(qpNum);
    }
    expect(new Set(qpNums)).toEqual(new Set(servers.map(({ qp }) => qp.qpNum)));
    expect(qpNums[0]).toBe(servers[0]!.qp.qpNum);
    expect(qpNums[1]).toBe(servers[1]!.qp.qpNum);
    expect(srq.free).toBe(16);
  });

  it('takes a full list, and messages of both at once', async () => {
    const { srq } = shared;
    const texts: string[] = [];
    await new Promise<void>((resolve) => {
      const list = Array.from({ length: 16 }, (_, i) => ({ sges: [shared.buffer(i)] }));
      srq.postRecv(
        list,
        list.map((_, i) => (status, byteLen) => {
          expect(status).toBe(WcStatus.SUCCESS);
          texts.push(shared.text(i, byteLen));
          if (texts.length === 16) resolve();
        }),
      );
      expect([srq.free, srq.outstanding]).toEqual([0, 16]);
      for (let i = 0; i < 16; i += 1) void shared.say(i % 2, `message ${i}`);
    });
    expect(texts.sort()).toEqual(Array.from({ length: 16 }, (_, i) => `message ${i}`).sort());
    expect([srq.free, srq.outstanding]).toEqual([16, 0]);
  });

  it('scatters a message over SGEs, and drops empty ones', async () => {
    const { srq, memory } = shared;
    const [first, second] = [shared.buffer(0), shared.buffer(5)];
    const received = srq.recv({ sges: [{ ...first, length: 4 }, second] });
    const empty = srq.recv({ sges: [{ ...first, length: 0 }, shared.buffer(7)] });
    await shared.say(0, 'headtail');
    await shared.say(1, 'whole');
    expect((await received).byteLen).toBe(8);
    expect((await empty).byteLen).toBe(5);
    expect(memory.bytes.toString('latin1', 0, 4)).toBe('head');
    expect(shared.text(5, 4)).toBe('tail');
    expect(shared.text(7, 5)).toBe('whole');
  });

  it('refuses more than it has room for, as a whole', async () => {
    const { srq } = shared;
    const list = Array.from({ length: 17 }, (_, i) => ({ sges: [shared.buffer(i)] }));
    const error = await rdmaErrorOf(() => srq.postRecv(list));
    expect(error).toMatchObject({ code: 'ENOBUFS', posted: 0, wrIndex: 16 });
    expect(error.message).toBe('ibv_post_srq_recv: 17 receives do not fit: 0 of 16 are in flight');
    expect(srq.outstanding).toBe(0);
  });

  it('refuses a wrong receive of a list, by its number, and posts none', async () => {
    const { srq } = shared;
    const good = { sges: [shared.buffer(0)] };
    for (const [sges, text] of [
      [[{ ...shared.buffer(0), lkey: 0xdead }], /work request 1: SGE 0: lkey 0xdead is of no open memory/],
      [[{ ...shared.buffer(0), length: BUFFER * 600 }], /work request 1: SGE 0: its 38400 bytes are not all/],
      [[shared.buffer(0), shared.buffer(1), shared.buffer(2)], /work request 1: 3 SGEs.*at most 2/],
      [undefined as never, /work request 1: sges must be an array/],
    ] as const) {
      const error = await rdmaErrorOf(() => srq.postRecv([good, { sges }]));
      expect(error.message).toMatch(text);
      expect(srq.outstanding).toBe(0);
    }
    const received = srq.recv(good);
    await shared.say(0, 'still works');
    expect(shared.text(0, (await received).byteLen)).toBe('still works');
  });

  it('makes its queue pairs refuse receives of their own', async () => {
    const { qp } = shared.servers[0]!;
    expect(qp.srq).toBe(shared.srq);
    expect(qp.caps.maxRecvWr).toBe(0);
    const error = await rdmaErrorOf(() => qp.postRecv({ sges: [shared.buffer(0)] }));
    expect(error).toMatchObject({ code: 'EINVAL', syscall: 'ibv_post_recv' });
    expect(error.message).toContain('shared receive queue');
  });

  it.each([
    [{ maxWr: 0 }, /maxWr must be an integer from 1/],
    [{ maxWr: 2 ** 20 + 1 }, /maxWr must be an integer from 1 to 1048576/],
    [{ maxSge: 0 }, /maxSge must be an integer from 1/],
    [{ maxSge: 100 }, /maxSge 100: the device takes 1 to/],
    [{ maxWr: 8, limit: 9 }, /limit must be an integer from 0 to 8/],
  ])('checks %o', async (options, text) => {
    using device = openDevice(name);
    const pd = device.allocPd();
    expect((await rdmaErrorOf(() => pd.createSrq(options))).message).toMatch(text);
  });

  it('has no XRC queues here, and checks what they are made with', async () => {
    const { pd, serverCqs, device } = shared;
    const cq = serverCqs[0]!;
    expect((await rdmaErrorOf(() => device.openXrcd())).code).toBe('EOPNOTSUPP');
    for (const [options, text] of [
      [{ cq }, /cq is only for an XRC queue, with xrcd/],
      [{ cq, xrcd: {} as never }, /xrcd must be an XrcDomain/],
      [{ xrcd: Object.create(XrcDomain.prototype) as XrcDomain }, /an XRC queue needs cq/],
    ] as const) {
      expect((await rdmaErrorOf(() => pd.createSrq(options))).message).toMatch(text);
    }
    const error = await rdmaErrorOf(() => pd.createQp({ type: 'XRC_SEND', sendCq: cq, srq: shared.srq }));
    expect(error.message).toContain('srq: XRC queue pairs take none');
    expect(shared.srq.srqNum).toBeUndefined();
  });
});
