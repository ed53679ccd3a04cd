/** Posting to queue pairs of other types than RC; only rxe0 has such. */
import { afterEach, describe, expect, it } from 'vitest';
import { type AddressHandle, Opcode, type QpType, SendFlags, type SendWr } from '../../../lib/index.ts';
import { connectManually, loopback, type ManualPair, QKEY, unconnectedPair } from '../helpers/manual.ts';
import { rdmaErrorOf } from '../helpers/rejection.ts';

const GRH = 40;

describe('posting to UD and UC queue pairs of rxe0', () => {
  let pair: ManualPair;
  let local: ReturnType<ManualPair['memory']>;
  let remote: ReturnType<ManualPair['memory']>;
  let ah: AddressHandle;

  function setUp(type: QpType): void {
    pair = unconnectedPair({ type });
    connectManually(pair.a, pair.b);
    local = pair.memory(16384);
    remote = pair.memory(16384);
    ah = pair.pd.createAh(loopback());
  }
  afterEach(() => pair.close());

  const sge = (length = 8, offset = 0) => ({ addr: local.mr.addr + offset, length, lkey: local.mr.lkey });
  const receive = () => pair.b.recv({ sges: [{ addr: remote.mr.addr, length: 8192, lkey: remote.mr.lkey }] });
  const datagram = (length = 8) => ({
    opcode: Opcode.SEND,
    sges: [sge(length)],
    ah,
    remoteQpn: pair.b.qpNum,
    remoteQkey: QKEY,
  });
  const message = (length = 8): SendWr => ({ opcode: Opcode.SEND, sges: [sge(length)] });

  async function datagramsWork(): Promise<void> {
    const received = receive();
    local.bytes.write('datagram');
    await pair.a.send(datagram());
    expect(await received).toMatchObject({ byteLen: GRH + 8, srcQp: pair.a.qpNum, grh: true });
    expect(remote.bytes.toString('latin1', GRH, GRH + 8)).toBe('datagram');
  }

  it('UD: SEND and SEND_WITH_IMM by an address handle', async () => {
    setUp('UD');
    await datagramsWork();
    const received = receive();
    await pair.a.send({ ...datagram(3), opcode: Opcode.SEND_WITH_IMM, immData: 0xcafe_f00d });
    expect(await received).toMatchObject({ byteLen: GRH + 3, immData: 0xcafe_f00d });
    const inline = receive();
    const { sges: _, ...rest } = datagram();
    await pair.a.send({ ...rest, inline: Buffer.from('inline') });
    expect((await inline).byteLen).toBe(GRH + 6);
  });

  it('UD: an address handle that is closed in flight goes after the completion', async () => {
    setUp('UD');
    const received = receive();
    const sent = pair.a.send(datagram());
    ah.close();
    await sent;
    expect((await received).byteLen).toBe(GRH + 8);
    const error = await rdmaErrorOf(() => pair.a.postSend(datagram()));
    expect(error).toMatchObject({ code: 'ERR_RDMA_CLOSED', wrIndex: 0, posted: 0 });
    ah = pair.pd.createAh(loopback());
    await datagramsWork();
  });

  it.each<[string, () => object, RegExp]>([
    ['no address handle', () => ({ ah: undefined }), /ah must be an AddressHandle.*not undefined/],
    ['null', () => ({ ah: null }), /ah must be an AddressHandle.*not null/],
    ['a number', () => ({ ah: 7 }), /ah must be an AddressHandle.*not 7/],
    ['no queue pair number', () => ({ remoteQpn: undefined }), /remoteQpn is missing/],
    ['a queue pair number of 25 bits', () => ({ remoteQpn: 2 ** 24 }), /remoteQpn 16777216 is not in/],
    ['no key', () => ({ remoteQkey: undefined }), /remoteQkey is missing/],
    ['a negative key', () => ({ remoteQkey: -1 }), /remoteQkey -1 is not in/],
    ['FENCE', () => ({ flags: SendFlags.FENCE }), /FENCE is not for opcode 2 \(SEND\) of this queue pair/],
    [
      'RDMA_WRITE',
      () => ({ opcode: 0, remoteAddr: 0, rkey: 0 }),
      /RDMA_WRITE\) is not one that UD queue pairs/,
    ],
    [
      'RDMA_READ',
      () => ({ opcode: 4, remoteAddr: 0, rkey: 0 }),
      /RDMA_READ\) is not one that UD queue pairs/,
    ],
    ['SEND_WITH_INV', () => ({ opcode: 9, invalidateRkey: 1 }), /is not one that UD queue pairs have/],
    ['ATOMIC_WRITE', () => ({ opcode: 15, remoteAddr: 0, rkey: 0, value: 1 }), /is not one that UD queue/],
    ['LOCAL_INV', () => ({ opcode: 7, invalidateRkey: 1, sges: [] }), /is not one that UD queue pairs have/],
  ])('UD: refuses %s', async (_, change, text) => {
    setUp('UD');
    const error = await rdmaErrorOf(() =>
      pair.a.postSend([datagram(), { ...datagram(), ...change() } as SendWr]),
    );
    expect(error).toMatchObject({ wrIndex: 1, posted: 0 });
    expect(error.message).toMatch(text);
    await datagramsWork();
  });

  it('UD: a datagram is one packet: at most the MTU', async () => {
    setUp('UD');
    const { activeMtu } = pair.device.queryPort(1);
    const received = receive();
    await pair.a.send(datagram(activeMtu));
    expect((await received).byteLen).toBe(GRH + activeMtu);
    const error = await rdmaErrorOf(() => pair.a.postSend(datagram(activeMtu + 1)));
    expect(error.message).toContain(`a message of ${activeMtu + 1} bytes`);
    await datagramsWork();
  });

  it('UD: refuses an address handle of another protection domain', async () => {
    setUp('UD');
    const stranger = pair.device.allocPd().createAh(loopback());
    const error = await rdmaErrorOf(() => pair.a.postSend({ ...datagram(), ah: stranger }));
    expect(error.message).toMatch(/ah is of another protection domain/);
    await datagramsWork();
  });

  it('UC: SEND and RDMA_WRITE; no READ, no atomics, no invalidation', async () => {
    setUp('UC');
    const target = { remoteAddr: remote.mr.addr + 4096, rkey: remote.mr.rkey };
    for (const [wr, code, text] of [
      [
        { opcode: 4, sges: [sge()], ...target },
        'ERR_INVALID_ARG_VALUE',
        /RDMA_READ\) is not one that UC queue/,
      ],
      [{ opcode: 6, sges: [sge()], ...target, compareAdd: 1 }, 'ERR_INVALID_ARG_VALUE', /is not one that UC/],
      [
        { opcode: 9, sges: [sge()], invalidateRkey: 1 },
        'EOPNOTSUPP',
        /SEND_WITH_INV\) is not one that this device/,
      ],
      [{ opcode: 7, invalidateRkey: 1 }, 'EOPNOTSUPP', /LOCAL_INV\) is not one that this device/],
    ] as const) {
      const error = await rdmaErrorOf(() => pair.a.postSend(wr as SendWr));
      expect(error.code).toBe(code);
      expect(error.message).toMatch(text);
    }
    const received = receive();
    local.bytes.write('by UC');
    await pair.a.send(message(5));
    expect((await received).byteLen).toBe(5);
    const written = receive();
    await pair.a.send({ opcode: Opcode.RDMA_WRITE_WITH_IMM, sges: [sge(5)], ...target, immData: 9 });
    expect((await written).immData).toBe(9);
    expect(remote.bytes.toString('latin1', 4096, 4101)).toBe('by UC');
  });

  it('refuses a send before RTS and a receive in RESET', async () => {
    pair = unconnectedPair();
    local = pair.memory(64);
    const sges = [{ addr: local.mr.addr, length: 8, lkey: local.mr.lkey }];
    const send = await rdmaErrorOf(() => pair.a.postSend({ opcode: Opcode.SEND, sges }));
    expect(send).toMatchObject({ code: 'ENOTCONN', posted: 0 });
    expect(send.message).toMatch(/in the state RESET/);
    const recv = await rdmaErrorOf(() => pair.a.postRecv({ sges }));
    expect(recv).toMatchObject({ posted: 0 });
    expect(recv.message).toMatch(/in the state RESET: connect it first, to INIT at least/);
    connectManually(pair.a, pair.b);
    const received = pair.b.recv({ sges });
    await pair.a.send({ opcode: Opcode.SEND, sges: [{ ...sges[0]!, length: 4 }] });
    expect((await received).byteLen).toBe(4);
  });
});
