/** Completion queues and shared receive queues. */
import { expect } from 'vitest';
import {
  Access,
  CmId,
  type CqOptions,
  type Device,
  Opcode,
  type QueuePair,
  type SharedReceiveQueue,
  WcOpcode,
} from '../../../lib/index.ts';
import { rdmaErrorOf } from '../../device/helpers/rejection.ts';
import { type Body, type Env, implement, refused } from '../harness.ts';
import { type Ends, manualEnds, pingPong, rcEnds, sge } from '../traffic.ts';
import { datagrams, without, xrc } from './work.ts';

const PAGE = 4096;

function sizes({ attr }: Device): number[] {
  return [1, Math.floor(attr.maxCqe / 2), attr.maxCqe];
}

/** Too many entries, and a vector that is not there. */
async function refusesBadOptions(device: Device, options: CqOptions = {}): Promise<void> {
  const { maxCqe } = device.attr;
  const size = await rdmaErrorOf(() => device.createCq({ ...options, cqe: maxCqe + 1 }));
  expect(size.message).toContain(String(maxCqe + 1));
  expect(size.message).toContain(String(maxCqe));
  const vector = await rdmaErrorOf(() => device.createCq({ ...options, cqe: 100, compVector: 1000 }));
  expect(vector.message).toMatch(/1000/);
}

implement('test_cq', 'CQAPITest', {
  test_create_cq({ device }) {
    for (const cqe of sizes(device)) {
      using cq = device.createCq({ cqe, compVector: 0 });
      expect(cq.cqe).toBeGreaterThanOrEqual(cqe);
    }
  },

  test_create_cq_with_comp_channel({ device }) {
    using channel = device.createCompletionChannel();
    for (const cqe of sizes(device)) {
      using cq = device.createCq({ cqe, channel });
      expect(cq.channel).toBe(channel);
      expect(cq.cqe).toBeGreaterThanOrEqual(cqe);
    }
  },

  test_create_cq_bad_flow: ({ device }) => refusesBadOptions(device),
});

implement('test_cq', 'CQTest', {
  async test_resize_cq(env) {
    const { device } = env;
    if (!device.caps.cqResize) {
      using cq = device.createCq({ cqe: 3 });
      return refused(() => cq.resize(7));
    }
    using empty = device.createCq({ cqe: 3 });
    empty.resize(1);
    expect(empty.cqe).toBeGreaterThanOrEqual(1);
    empty.resize(7);
    expect(empty.cqe).toBeGreaterThanOrEqual(7);
    await using ends = manualEnds(env, 'UD', { maxSendWr: 6, maxRecvWr: 6, cq: { cqe: 12 } });
    const cq = ends.client.qp.sendCq;
    cq.resize(20);
    // Completions that nobody has taken yet; below the room for them the queue does not go.
    const sent = Array.from({ length: 6 }, () =>
      ends.client.qp.send({ opcode: Opcode.SEND, sges: [sge(ends.client, 64)], ...ends.client.target }),
    );
    const error = await rdmaErrorOf(() => cq.resize(1));
    expect(error.code).toBe('EBUSY');
    await Promise.all(sent);
    cq.resize(12);
    await pingPong(ends, 3, 64);
    return undefined;
  },
});

/** RC traffic on completion queues of [options]; by hand where that can be. */
function rcTraffic(make: (device: Device) => CqOptions): Body {
  return async (env) => {
    if (!env.device.caps.manualConnection) {
      await using ends = await rcEnds(env);
      await pingPong(ends, 20);
      return;
    }
    await using ends = manualEnds(env, 'RC', { cq: make(env.device) });
    await pingPong(ends, 20);
  };
}

implement('test_cq_events', 'CqEventsTestCase', {
  async test_cq_events_ud(env) {
    if (!env.device.caps.qpType('UD')) return without('UD', env);
    using channel = env.device.createCompletionChannel();
    await using ends = manualEnds(env, 'UD', { cq: { channel } });
    await pingPong(ends, 50, 512);
    return undefined;
  },

  test_cq_events_rc: rcTraffic((device) => ({ channel: device.createCompletionChannel() })),
});

/** The fields of a completion beyond its status (IBV_WC_STANDARD_FLAGS). */
async function completionFields({ client, server }: Ends): Promise<void> {
  const ud = client.qp.type === 'UD';
  const received = server.qp.recv({ sges: [sge(server, 200)] });
  const sent = client.qp.send({ opcode: Opcode.SEND, sges: [sge(client, 100)], ...client.target });
  const [arrived, left] = await Promise.all([received, sent]);
  expect(arrived).toMatchObject({ opcode: WcOpcode.RECV, byteLen: ud ? 140 : 100, qpNum: server.qp.qpNum });
  expect(left).toMatchObject({ opcode: WcOpcode.SEND, qpNum: client.qp.qpNum });
  if (ud) expect(arrived.srcQp).toBe(client.qp.qpNum);
}

implement('test_cqex', 'CqExTestCase', {
  test_ud_traffic_cq_ex: datagrams(async (ends) => {
    await completionFields(ends);
    await pingPong(ends, 20, 512);
  }),

  async test_rc_traffic_cq_ex(env) {
    await using ends = await rcEnds(env);
    await completionFields(ends);
    await pingPong(ends, 20);
  },

  test_xrc_traffic_cq_ex: xrc,
});

const timestamps: Body = ({ device }) => {
  expect(device.caps.completionTimestamps).toBe(false);
  return refused(() => device.createCq({ timestamps: true }));
};

implement('test_cqex', 'CQEXAPITest', {
  async test_create_cq_ex(env) {
    // Standard fields are there on every device; the timestamp as caps says, and no other field is asked for.
    using cq = env.device.createCq({ cqe: 10 });
    expect(cq.cqe).toBeGreaterThanOrEqual(10);
    if (env.device.caps.completionTimestamps) env.device.createCq({ cqe: 10, timestamps: true }).close();
    else expect((await timestamps(env))?.verdict).toBe('absent');
  },

  test_create_cq_ex_bad_flow: ({ device }) => refusesBadOptions(device, { solicitedOnly: true }),
});

implement('test_phc_timestamp', 'TimeStampTest', {
  test_timestamp_free_running_rc_traffic: timestamps,
  test_timestamp_real_time_rc_traffic: timestamps,
});

/** Clients, each connected to a queue pair that takes its receives from [srq]. */
async function srqClients({ host, device, pd }: Env, srq: SharedReceiveQueue, count: number) {
  const listener = new CmId();
  listener.bind({ host, port: 0 });
  listener.listen();
  const cq = device.createCq();
  const ids: CmId[] = [listener];
  const clients: QueuePair[] = [];
  for (let i = 0; i < count; i += 1) {
    const client = new CmId();
    await client.resolveAddr({ host, port: listener.localAddress!.port });
    await client.resolveRoute();
    clients.push(client.createQp({ pd, sendCq: cq }));
    const accepted = listener.nextRequest().then(async (id) => {
      id.createQp({ pd, sendCq: cq, srq });
      await id.accept();
      ids.push(id);
    });
    await Promise.all([client.connect(), accepted]);
    ids.push(client);
  }
  return {
    clients,
    [Symbol.dispose]() {
      for (const id of ids.reverse()) id.close();
      cq.close();
    },
  };
}

/** Messages of two clients, for receives that their peers share. */
export async function srqTraffic(env: Env, access: number = Access.LOCAL_WRITE): Promise<void> {
  await using slab = await env.pd.allocSlab(3 * PAGE, Access.LOCAL_WRITE);
  const memory = Buffer.from(slab.buffer);
  const bytes = memory.subarray(0, 2 * PAGE);
  const source = memory.subarray(2 * PAGE, 2 * PAGE + 1024);
  await using mr = await env.pd.regMr(slab.buffer, access, { wholePages: true });
  using srq = env.pd.createSrq({ maxWr: 16 });
  using peers = await srqClients(env, srq, 2);
  for (let round = 1; round <= 6; round += 1) {
    const received = [0, 1].map((i) =>
      srq.recv({ sges: [{ addr: mr.addr + PAGE * i, length: 1024, lkey: mr.lkey }] }),
    );
    source.fill(round);
    const sges = [{ addr: mr.addr + 2 * PAGE, length: 1024, lkey: mr.lkey }];
    await Promise.all(peers.clients.map((qp) => qp.send({ opcode: Opcode.SEND, sges })));
    const completions = await Promise.all(received);
    expect(completions.map(({ byteLen }) => byteLen)).toEqual([1024, 1024]);
    expect(new Set(completions.map(({ qpNum }) => qpNum)).size).toBe(2);
    for (const at of [0, PAGE]) {
      expect(bytes.subarray(at, at + 1024).equals(Buffer.alloc(1024, round))).toBe(true);
    }
  }
}

implement('test_srq', 'SrqTestCase', {
  test_rc_srq_traffic: (env) => srqTraffic(env),

  test_resize_srq({ device, pd }) {
    using srq = pd.createSrq({ maxWr: 16 });
    if (!device.caps.srqResize) return refused(() => srq.modify({ maxWr: 32 }));
    srq.modify({ maxWr: 32 });
    expect(srq.maxWr).toBe(32);
    expect(srq.query().maxWr).toBeGreaterThanOrEqual(32);
    return undefined;
  },

  async test_modify_srq_limit(env) {
    // The region goes last: receives that stay posted hold it.
    await using mr = await env.pd.regMr(Buffer.alloc(64), Access.LOCAL_WRITE);
    using srq = env.pd.createSrq({ maxWr: 16 });
    using peers = await srqClients(env, srq, 1);
    const sges = [{ addr: mr.addr, length: 64, lkey: mr.lkey }];
    let events = 0;
    const reached = new Promise<void>((resolve) => {
      srq.on('SRQ_LIMIT_REACHED', () => {
        events += 1;
        resolve();
      });
    });
    srq.postRecv(Array.from({ length: 10 }, () => ({ sges })));
    srq.modify({ limit: 7 });
    if (env.device.transport === 'ib') expect(srq.query().limit).toBe(7);
    else await refused(() => srq.query());
    for (let i = 0; i < 4; i += 1) await peers.clients[0]!.send({ opcode: Opcode.SEND, sges });
    await reached;
    expect(events).toBe(1);
  },
});
