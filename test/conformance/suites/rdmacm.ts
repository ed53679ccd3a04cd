/** Connections, datagram services and multicast groups by rdma_cm. */
import { expect } from 'vitest';
import {
  CmId,
  type CompletionQueue,
  getaddrinfo,
  type MulticastGroup,
  Opcode,
  type QueuePair,
  type UdParam,
} from '../../../lib/index.ts';
import { connectedPair } from '../../device/helpers/pair.ts';
import { rdmaErrorOf } from '../../device/helpers/rejection.ts';
import { type Body, type Env, implement, refused } from '../harness.ts';
import { type End, message, pingPong, rcEnds, reads, writes } from '../traffic.ts';

const GROUP = '239.7.7.1';

/** A listener, and a client that has resolved its way to it. */
async function listenerAndClient({ host }: Env, portSpace: 'TCP' | 'UDP' = 'TCP') {
  const listener = new CmId({ portSpace });
  listener.bind({ host, port: 0 });
  listener.listen();
  const client = new CmId({ portSpace });
  await client.resolveAddr({ host, port: listener.localAddress!.port });
  await client.resolveRoute();
  return {
    listener,
    client,
    [Symbol.dispose]() {
      client.close();
      listener.close();
    },
  };
}

/** An end of [qp] with memory of its own, on the domain of the environment. */
function end({ pd }: Env, qp: QueuePair, target: End['target'] = {}): End {
  const bytes = Buffer.alloc(2048);
  return { qp, bytes, mr: pd.regMrSync(bytes, 7), target };
}

/** How datagrams are addressed to what rdma_cm tells of the peer. */
function targetOf({ pd }: Env, { ahAttr, qpNum, qkey }: UdParam): End['target'] {
  return { ah: pd.createAh(ahAttr), remoteQpn: qpNum, remoteQkey: qkey };
}

/** A member of the multicast group with a queue pair and a receive's memory. */
async function member(env: Env, sendCq: CompletionQueue, options = {}) {
  const id = new CmId({ portSpace: 'UDP' });
  id.bind({ host: env.host, port: 0 });
  const qp = id.createQp({ pd: env.pd, sendCq });
  const group = await id.joinMulticast(GROUP, options);
  return { id, group, end: end(env, qp, targetOf(env, group.ud)) };
}

type Member = Awaited<ReturnType<typeof member>>;

/** A case of multicast: one member sends to the other. */
function multicast(test: (sender: Member, receiver: Member, env: Env) => Promise<void>, options = {}): Body {
  return async (env) => {
    if (!env.device.caps.multicast) {
      const id = new CmId({ portSpace: 'UDP' });
      const outcome = await refused(() => {
        id.bind({ host: env.host, port: 0 });
        return id.joinMulticast(GROUP);
      });
      id.close();
      return outcome;
    }
    using cq = env.device.createCq();
    const sender = await member(env, cq, options);
    const receiver = await member(env, cq);
    await test(sender, receiver, env);
    for (const { id, end } of [sender, receiver]) {
      id.close();
      end.target.ah?.close();
      await end.mr.close();
    }
    return undefined;
  };
}

/** One datagram to the group; it comes to the receiver. */
async function toGroup(sender: Member, receiver: Member): Promise<void> {
  for (let round = 1; round <= 3; round += 1) await message(sender.end, receiver.end, 256, round);
}

function joined({ group }: { group: MulticastGroup }): void {
  expect(group.joined).toBe(true);
  expect(group.ud.qpNum).toBe(0xff_ffff);
}

implement('test_rdmacm', 'CMTestCase', {
  async test_rdmacm_sync_traffic(env) {
    const ends = await rcEnds(env);
    await pingPong(ends);
    await ends[Symbol.asyncDispose]();
    await using other = await connectedPair(env.name);
    const ended = [other.client, other.server].map(
      (id) => new Promise<void>((resolve) => id.once('disconnected', resolve)),
    );
    await other.client.disconnect();
    await Promise.all(ended);
    expect(other.client.state).toBe('disconnected');
  },

  async test_rdmacm_async_traffic(env) {
    const ackTimeout = 21;
    using ids = await listenerAndClient(env);
    using cq = env.device.createCq();
    const request = ids.listener.nextRequest();
    const make = (id: CmId) => {
      id.setAckTimeout(ackTimeout);
      return id.createQp({ pd: env.pd, sendCq: cq });
    };
    const clientQp = make(ids.client);
    const [server] = await Promise.all([
      request.then(async (id) => {
        make(id);
        await id.accept();
        return id;
      }),
      ids.client.connect(),
    ]);
    // iWARP leaves acknowledgements to TCP.
    if (env.device.transport === 'ib') {
      for (const qp of [clientQp, server.qp!]) expect(qp.query().timeout).toBe(ackTimeout);
    }
    const ends = { client: end(env, clientQp), server: end(env, server.qp!) };
    await pingPong({ ...ends, [Symbol.asyncDispose]: async () => undefined });
    server.close();
    await Promise.all([ends.client.mr.close(), ends.server.mr.close()]);
  },

  async test_rdmacm_async_reject_traffic(env) {
    const reason = Buffer.from('no, thank you');
    using ids = await listenerAndClient(env);
    using cq = env.device.createCq();
    ids.listener.once('connectRequest', (id) => id.reject(reason));
    ids.client.createQp({ pd: env.pd, sendCq: cq });
    const error = await rdmaErrorOf(() => ids.client.connect());
    expect(error).toMatchObject({ code: 'ECONNREFUSED', event: 'REJECTED' });
    expect(Buffer.from(error.privateData!).subarray(0, reason.length)).toEqual(reason);
  },

  test_rdmacm_async_multicast_traffic: multicast(async (sender, receiver) => {
    joined(sender);
    joined(receiver);
    await toGroup(sender, receiver);
  }),

  test_rdmacm_async_ex_multicast_traffic: multicast(
    async (sender, receiver) => {
      expect(sender.group.sendOnly).toBe(true);
      joined(sender);
      await toGroup(sender, receiver);
    },
    { sendOnly: true },
  ),

  test_rdmacm_async_ex_leave_multicast_traffic: multicast(async (sender, receiver, env) => {
    await toGroup(sender, receiver);
    receiver.group.leave();
    expect(receiver.group.joined).toBe(false);
    receiver.end.bytes.fill(0);
    let heard = false;
    const { addr, lkey, length } = receiver.end.mr;
    receiver.end.qp.postRecv({ sges: [{ addr, length, lkey }] }, (status) => {
      heard ||= status === 0;
    });
    const { end: from } = sender;
    const sges = [{ addr: from.mr.addr, length: 256, lkey: from.mr.lkey }];
    await from.qp.send({ opcode: Opcode.SEND, sges, ...from.target });
    // The sender is still a member and hears itself: what went to the group has gone by.
    const ear = end(env, from.qp);
    await message(from, ear, 256, 9);
    await ear.mr.close();
    expect(heard).toBe(false);
    expect(receiver.end.bytes.every((byte) => byte === 0)).toBe(true);
  }),

  async test_rdmacm_async_traffic_external_qp(env) {
    using ids = await listenerAndClient(env);
    using cq = env.device.createCq();
    const make = () => env.pd.createQp({ sendCq: cq });
    // iWARP has no states to go through by hand: rdma_cm and TCP bring the queue pair up.
    const byHand = env.device.caps.manualConnection;
    const bringUp = (id: CmId, qp: QueuePair) => {
      if (!byHand) return;
      for (const state of ['INIT', 'RTR', 'RTS'] as const) qp.modify(id.initQpAttr(state));
    };
    const [clientQp, serverQp] = [make(), make()];
    const accepted = ids.listener.nextRequest().then(async (id) => {
      bringUp(id, serverQp);
      await id.accept({ qpNum: serverQp.qpNum });
      return id;
    });
    const connected = ids.client.connect({ qpNum: clientQp.qpNum }).then((reply) => {
      expect(reply.established).toBe(!byHand);
      if (!byHand) return;
      expect(reply.conn?.qpNum).toBe(serverQp.qpNum);
      bringUp(ids.client, clientQp);
      ids.client.establish();
    });
    const [server] = await Promise.all([accepted, connected]);
    const ends = { client: end(env, clientQp), server: end(env, serverQp) };
    await pingPong({ ...ends, [Symbol.asyncDispose]: async () => undefined });
    server.close();
    for (const one of [ends.client, ends.server]) {
      one.qp.close();
      await one.mr.close();
    }
  },

  async test_rdmacm_async_udp_traffic(env) {
    if (!env.device.caps.qpType('UD')) {
      const id = new CmId({ portSpace: 'UDP' });
      const outcome = await refused(() => {
        id.bind({ host: env.host, port: 0 });
        id.listen();
      });
      id.close();
      return outcome;
    }
    using ids = await listenerAndClient(env, 'UDP');
    using cq = env.device.createCq();
    const request = ids.listener.nextRequest();
    const clientQp = ids.client.createQp({ pd: env.pd, sendCq: cq });
    const accepted = request.then(async (id) => {
      const qp = id.createQp({ pd: env.pd, sendCq: cq });
      await id.accept();
      return { id, qp };
    });
    const [reply, { id, qp }] = await Promise.all([ids.client.connect(), accepted]);
    expect(reply.ud?.qpNum).toBe(qp.qpNum);
    const client = end(env, clientQp, targetOf(env, reply.ud!));
    // What the server needs to answer: the same path back, and the client's queue pair.
    const server = end(env, qp, { ...targetOf(env, reply.ud!), remoteQpn: clientQp.qpNum });
    await pingPong({ client, server, [Symbol.asyncDispose]: async () => undefined }, 10, 512);
    id.close();
    for (const one of [client, server]) {
      one.target.ah!.close();
      await one.mr.close();
    }
    return undefined;
  },

  async test_rdmacm_async_read(env) {
    await using ends = await rcEnds(env);
    await reads(ends);
  },

  async test_rdmacm_async_write(env) {
    await using ends = await rcEnds(env);
    await writes(ends);
  },

  async test_rdmacm_async_resolve_addrinfo(env) {
    // rdma_resolve_addrinfo came after rdma-core 44; getaddrinfo() does not block either.
    const list = await getaddrinfo(env.host, '7471', { portSpace: 'TCP' });
    expect(list[0]).toMatchObject({ family: 'IPv4', target: { host: env.host, port: 7471 } });
    using id = new CmId();
    await id.resolveAddr(list[0]!.target!);
    expect(id.device!.name).toBe(env.name);
  },
});
