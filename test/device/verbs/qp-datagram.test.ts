import { execFileSync } from 'node:child_process';
import { createSocket, type Socket } from 'node:dgram';
import { readFileSync } from 'node:fs';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { addon } from '../../../lib/addon.ts';
import { type AddressHandle, Opcode, type QueuePair, type RdmaError, WcStatus } from '../../../lib/index.ts';
import {
  bringUp,
  connectManually,
  ipv4GidIndex,
  loopback,
  type ManualPair,
  manualPair,
  QKEY,
} from '../helpers/manual.ts';
import { connectedPair } from '../helpers/pair.ts';
import { rdmaErrorOf } from '../helpers/rejection.ts';

const GRH = 40;
const GROUP = '239.17.3.9';

let pair: ManualPair;
afterEach(() => pair.close());

type Memory = ReturnType<ManualPair['memory']>;
const sge = ({ mr }: Memory, length = mr.length) => [{ addr: mr.addr, length, lkey: mr.lkey }];
const pathTo = (dgid: string): AddressHandle =>
  pair.pd.createAh({ grh: { dgid, sgidIndex: ipv4GidIndex('rxe0') } });

function datagram(from: QueuePair, ah: AddressHandle, remoteQpn: number, local: Memory, text: string) {
  local.bytes.write(text);
  return from.send({ opcode: Opcode.SEND, sges: sge(local, text.length), ah, remoteQpn, remoteQkey: QKEY });
}

describe('datagrams', () => {
  it('go by an address handle, and back by one that is made from the completion', async () => {
    pair = manualPair({ type: 'UD' });
    const { a, b, pd } = pair;
    const [local, sink] = [pair.memory(200), pair.memory(200)];
    const received = b.recv({ sges: sge(sink) });
    await datagram(a, pd.createAh(loopback()), b.qpNum, local, 'to b');
    const wc = await received;
    expect(wc).toMatchObject({ byteLen: GRH + 4, grh: true, srcQp: a.qpNum });
    expect(sink.bytes.toString('latin1', GRH, GRH + 4)).toBe('to b');

    const reply = pd.createAhFromWc(wc, sink.bytes);
    expect(reply.attr.grh?.dgid).toBe('::ffff:10.0.1.1');
    const back = a.recv({ sges: sge(local) });
    await datagram(b, reply, a.qpNum, sink, 'and back');
    expect((await back).byteLen).toBe(GRH + 8);
    expect(local.bytes.toString('latin1', GRH, GRH + 8)).toBe('and back');
  });

  it('go to any queue pair, from one', async () => {
    pair = manualPair({ type: 'UD' });
    const { a, b, pd } = pair;
    using third = pd.createQp({ type: 'UD', sendCq: pair.cqB });
    bringUp(third, 0);
    const ah = pd.createAh(loopback());
    const local = pair.memory(64);
    for (const target of [b, third, b]) {
      const sink = pair.memory(200);
      const received = target.recv({ sges: sge(sink) });
      await datagram(a, ah, target.qpNum, local, `to ${target.qpNum}`);
      await received;
      expect(sink.bytes.toString('latin1', GRH).startsWith(`to ${target.qpNum}`)).toBe(true);
    }
  });

  it('are at most one packet', async () => {
    pair = manualPair({ type: 'UD' });
    const { a, b, pd } = pair;
    const mtu = a.caps.maxMessage;
    const [local, sink] = [pair.memory(mtu + 1), pair.memory(GRH + mtu)];
    const ah = pd.createAh(loopback());
    const target = { ah, remoteQpn: b.qpNum, remoteQkey: QKEY };
    // rxe would report success and send nothing.
    const error = await rdmaErrorOf(() => a.send({ opcode: Opcode.SEND, sges: sge(local), ...target }));
    expect(error.message).toContain(String(mtu));
    const received = b.recv({ sges: sge(sink) });
    await a.send({ opcode: Opcode.SEND, sges: sge(local, mtu), ...target });
    expect((await received).byteLen).toBe(GRH + mtu);
  });

  it('hold their address handle until they have completed', async () => {
    pair = manualPair({ type: 'UD' });
    const { a, b, pd } = pair;
    const [local, sink] = [pair.memory(64), pair.memory(200)];
    const received = b.recv({ sges: sge(sink) });
    const ah = pd.createAh(loopback());
    const sent = datagram(a, ah, b.qpNum, local, 'closed');
    ah.close();
    await Promise.all([sent, received]);
    expect(sink.bytes.toString('latin1', GRH, GRH + 6)).toBe('closed');
    const error = await rdmaErrorOf(() => datagram(a, ah, b.qpNum, local, 'refused'));
    expect(error.code).toBe('ERR_RDMA_CLOSED');
  });
});

describe.each(['UD', 'UC'] as const)('a failed send of %s', (type) => {
  /** Sends from a to b; the packet can not leave while the link is down. */
  function sender(local: Memory): () => Promise<unknown> {
    const { a, b, pd } = pair;
    const ud = type === 'UD';
    const target = ud ? { ah: pd.createAh(loopback()), remoteQpn: b.qpNum, remoteQkey: QKEY } : {};
    return () => a.send({ opcode: Opcode.SEND, sges: sge(local), ...target });
  }

  async function failure(send: () => Promise<unknown>): Promise<RdmaError> {
    const table = '/sys/class/infiniband/rxe0/ports/1/gid_attrs/ndevs';
    const netdev = readFileSync(`${table}/${ipv4GidIndex('rxe0')}`, 'latin1').trim();
    execFileSync('ip', ['link', 'set', netdev, 'down']);
    try {
      return await rdmaErrorOf(send);
    } finally {
      execFileSync('ip', ['link', 'set', netdev, 'up']);
      await vi.waitFor(() => expect(pair.device.queryPort().state).toBe('ACTIVE'));
    }
  }

  it('ends in ERR on rxe, which has no SQE, and RESET leads back', async () => {
    pair = manualPair({ type });
    const { a, b } = pair;
    const [local, sink] = [pair.memory(64), pair.memory(200)];
    const send = sender(local);
    const error = await failure(send);
    expect([WcStatus.LOC_QP_OP_ERR, WcStatus.WR_FLUSH_ERR]).toContain(error.wcStatus);
    await vi.waitFor(() => expect(a.state).toBe('ERR'));
    await expect(send()).rejects.toMatchObject({ wcStatus: WcStatus.WR_FLUSH_ERR });
    for (const qp of [a, b]) qp.modify({ state: 'RESET' });
    connectManually(a, b);
    const received = b.recv({ sges: sge(sink) });
    local.bytes.write('again');
    await send();
    await received;
    expect(sink.bytes.toString('latin1')).toContain('again');
  });

  it('leaves it in SQE where there is one: it still receives, and RTS may be asked for', async () => {
    pair = manualPair({ type });
    const { a } = pair;
    const [local, sink] = [pair.memory(64), pair.memory(200)];
    // A device that has SQE, in so far as the library sees it.
    const state = vi.spyOn(addon, 'queryQpState').mockReturnValue(5);
    const toError = vi.spyOn(addon, 'qpToError');
    const modify = vi.spyOn(addon, 'modifyQp').mockReturnValue();
    const query = addon.queryQp;
    vi.spyOn(addon, 'queryQp').mockImplementation((qp) => ({ ...query(qp), state: 5 }));
    try {
      await failure(sender(local));
      expect(state).toHaveBeenCalledTimes(1);
      expect(toError).not.toHaveBeenCalled();
      expect(a.state).toBe('SQE');
      a.modify({ state: 'RTS', curState: 'SQE' });
      expect(modify).toHaveBeenCalledWith(a._handle, { state: 3, curState: 5 }, 3);
      // A receive goes to the device: it is not flushed here.
      a.postRecv({ sges: sge(sink) });
      expect(a.recvFree).toBe(63);
    } finally {
      vi.restoreAllMocks();
    }
  });
});

describe('multicast', () => {
  /** What makes the kernel pass packets of the group on to this host itself. */
  async function member(): Promise<Socket> {
    const socket = createSocket('udp4');
    await new Promise<void>((resolve) => socket.bind(0, '10.0.1.1', resolve));
    socket.addMembership(GROUP, '10.0.1.1');
    return socket;
  }

  it('comes to every queue pair that is attached, until it is detached', async () => {
    pair = manualPair({ type: 'UD' });
    const { a, b } = pair;
    const socket = await member();
    try {
      for (const qp of [a, b]) qp.attachMcast(GROUP);
      // Twice is once.
      b.attachMcast(GROUP);
      const ah = pathTo(GROUP);
      const local = pair.memory(64);
      const sinks = [pair.memory(200), pair.memory(200)] as const;
      const both = [a.recv({ sges: sge(sinks[0]) }), b.recv({ sges: sge(sinks[1]) })];
      await datagram(a, ah, 0xff_ffff, local, 'to all');
      await Promise.all(both);
      for (const sink of sinks) expect(sink.bytes.toString('latin1', GRH, GRH + 6)).toBe('to all');

      b.detachMcast(GROUP);
      let heard = false;
      b.postRecv({ sges: sge(sinks[1]) }, (status) => {
        heard ||= status === WcStatus.SUCCESS;
      });
      const own = a.recv({ sges: sge(sinks[0]) });
      await datagram(a, ah, 0xff_ffff, local, 'to few');
      await own;
      expect(heard).toBe(false);
      expect(sinks[1].bytes.toString('latin1', GRH, GRH + 6)).toBe('to all');
    } finally {
      socket.close();
    }
  });

  it('is left at close, without which the kernel would not destroy the queue pair', () => {
    pair = manualPair({ type: 'UD' });
    const { a, b } = pair;
    for (const qp of [a, b]) {
      qp.attachMcast(GROUP);
      qp.attachMcast('ff0e::9', 0);
    }
    const count = () =>
      Number(/qp (\d+)/.exec(execFileSync('rdma', ['resource', 'show', 'rxe0'], { encoding: 'utf8' }))?.[1]);
    const before = count();
    a.close();
    expect(count()).toBe(before - 1);
  });

  it.each<[string, () => unknown, RegExp]>([
    ['a group that it is not attached to', () => pair.a.detachMcast(GROUP), /not attached to this group/],
    ['an address that is no group', () => pair.a.attachMcast('10.0.1.1'), /is not that of a multicast group/],
    ['no address', () => pair.a.attachMcast(undefined as never), /gid must be a GID/],
    ['a LID of 17 bits', () => pair.a.attachMcast(GROUP, 1 << 16), /lid must be an integer from 0 to 65535/],
  ])('refuses %s', async (_, call, text) => {
    pair = manualPair({ type: 'UD' });
    expect((await rdmaErrorOf(call)).message).toMatch(text);
  });

  it('is for UD only, on every device', async () => {
    pair = manualPair();
    const siw = await connectedPair('siw0');
    for (const qp of [pair.a, siw.client.qp]) {
      const error = await rdmaErrorOf(() => qp.attachMcast(GROUP));
      expect(error.message).toContain('only a UD queue pair has multicast groups, not RC');
    }
    await siw.close();
  });
});
