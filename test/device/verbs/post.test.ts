import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type MemoryRegion,
  Opcode,
  type RdmaWrite,
  SendFlags,
  type SendWr,
  type Sge,
  WcStatus,
} from '../../../lib/index.ts';
import { devices } from '../helpers/devices.ts';
import { connectedPair, type Pair } from '../helpers/pair.ts';
import { rdmaErrorOf } from '../helpers/rejection.ts';

const SIZE = 64 * 1024;

describe.each(devices)('posting on $name', ({ name }) => {
  let pair: Pair;
  let local: { bytes: Buffer; mr: MemoryRegion };
  let remote: { bytes: Buffer; mr: MemoryRegion };

  beforeAll(async () => {
    pair = await connectedPair(name, { maxSendWr: 16, maxRecvWr: 16 });
    local = await pair.memory(SIZE);
    remote = await pair.memory(SIZE);
  });
  afterAll(() => pair.close());

  const sge = (offset = 0, length = 64) => ({ addr: local.mr.addr + offset, length, lkey: local.mr.lkey });
  const write = (offset = 0, length = 64): RdmaWrite & { sges: readonly Sge[]; inline?: undefined } => ({
    opcode: Opcode.RDMA_WRITE,
    sges: [sge(offset, length)],
    remoteAddr: remote.mr.addr + offset,
    rkey: remote.mr.rkey,
  });

  const signalled = (wr: SendWr): SendWr => ({ ...wr, flags: (wr.flags ?? 0) | SendFlags.SIGNALED });

  /** The connection carries data as before: what was refused did no harm. */
  async function stillWorks(): Promise<void> {
    local.bytes.fill(0);
    local.bytes.write('still works');
    await pair.client.qp.send(write());
    const sink = {
      opcode: Opcode.RDMA_READ,
      sges: [sge(1024)],
      remoteAddr: remote.mr.addr,
      rkey: remote.mr.rkey,
    };
    await pair.client.qp.send(sink);
    expect(local.bytes.toString('latin1', 1024, 1024 + 11)).toBe('still works');
  }

  it('writes and reads between registered memory', async () => {
    for (let i = 0; i < SIZE; i += 1) local.bytes[i] = i * 7;
    await pair.client.qp.send(write(0, SIZE));
    expect(remote.bytes.equals(local.bytes)).toBe(true);
    remote.bytes.reverse();
    const sink = {
      opcode: Opcode.RDMA_READ,
      sges: [sge(0, SIZE)],
      remoteAddr: BigInt(remote.mr.addr),
      rkey: remote.mr.rkey,
    };
    await pair.client.qp.send(sink);
    expect(local.bytes.equals(remote.bytes)).toBe(true);
  });

  it('sends and receives, with the length of the message', async () => {
    const received = pair.server.qp.recv({
      sges: [{ addr: remote.mr.addr, length: 100, lkey: remote.mr.lkey }],
    });
    local.bytes.write('hello, peer');
    await pair.client.qp.send({ opcode: Opcode.SEND, sges: [sge(0, 5), sge(5, 6)] });
    expect((await received).byteLen).toBe(11);
    expect(remote.bytes.toString('latin1', 0, 11)).toBe('hello, peer');
  });

  it('sends an empty message', async () => {
    const received = pair.server.qp.recv({
      sges: [{ addr: remote.mr.addr, length: 100, lkey: remote.mr.lkey }],
    });
    await pair.client.qp.send({ opcode: Opcode.SEND, sges: [] });
    expect((await received).byteLen).toBe(0);
  });

  it('drops empty SGEs, which panic the kernel on siw', async () => {
    const received = pair.server.qp.recv({
      sges: [
        { addr: remote.mr.addr, length: 0, lkey: remote.mr.lkey },
        { addr: remote.mr.addr, length: 100, lkey: remote.mr.lkey },
      ],
    });
    local.bytes.write('after nothing');
    await pair.client.qp.send({ opcode: Opcode.SEND, sges: [sge(0, 0), sge(0, 13)] });
    expect((await received).byteLen).toBe(13);
  });

  it('carries immediate data where the device has it', async () => {
    if (name === 'siw0') {
      const error = await rdmaErrorOf(() =>
        pair.client.qp.send({ opcode: Opcode.SEND_WITH_IMM, sges: [sge()], immData: 1 }),
      );
      expect(error).toMatchObject({ code: 'EOPNOTSUPP', wrIndex: 0, posted: 0 });
      return;
    }
    const received = pair.server.qp.recv({
      sges: [{ addr: remote.mr.addr, length: 100, lkey: remote.mr.lkey }],
    });
    await pair.client.qp.send({ opcode: Opcode.SEND_WITH_IMM, sges: [sge()], immData: 0xfeedbeef });
    expect(await received).toMatchObject({ byteLen: 64, immData: 0xfeedbeef });
  });

  it('copies inline data when it is posted', async () => {
    const received = pair.server.qp.recv({
      sges: [{ addr: remote.mr.addr, length: 100, lkey: remote.mr.lkey }],
    });
    const text = Buffer.from('inline');
    const sent = pair.client.qp.send({ opcode: Opcode.SEND, sges: [], inline: text });
    text.fill('x');
    await sent;
    expect((await received).byteLen).toBe(6);
    expect(remote.bytes.toString('latin1', 0, 6)).toBe('inline');
  });

  it('retires unsignalled work requests with the next signalled one, in order', async () => {
    const order: number[] = [];
    await new Promise<void>((resolve) => {
      const list = Array.from({ length: 8 }, (_, i) => ({
        ...write(i * 64),
        flags: i === 7 ? SendFlags.SIGNALED : 0,
      }));
      pair.client.qp.postSend(
        list,
        list.map((_, i) => (status: number) => {
          expect(status).toBe(WcStatus.SUCCESS);
          order.push(i);
          if (i === 7) resolve();
        }),
      );
      expect(pair.client.qp.sendFree).toBe(8);
    });
    expect(order).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    expect(pair.client.qp.sendFree).toBe(16);
  });

  it.each([
    ['signalled', SendFlags.SIGNALED],
    ['unsignalled', 0],
  ])('retires the READ (%s) when its bytes are there, also before a SEND', async (_, flags) => {
    // siw completes the SEND while the READ still waits for its response.
    const big = { source: await pair.memory(4 << 20), sink: await pair.memory(4 << 20) };
    for (let round = 1; round <= 8; round += 1) {
      big.source.bytes.fill(round);
      const received = pair.server.qp.recv({
        sges: [{ addr: remote.mr.addr, length: 100, lkey: remote.mr.lkey }],
      });
      const { source, sink } = big;
      const read = {
        opcode: Opcode.RDMA_READ,
        sges: [{ addr: sink.mr.addr, length: 4 << 20, lkey: sink.mr.lkey }],
        remoteAddr: source.mr.addr,
        rkey: source.mr.rkey,
        flags,
      };
      let last: number | undefined;
      await new Promise<void>((resolve) => {
        let left = 2;
        const one = () => {
          left -= 1;
          if (left === 0) resolve();
        };
        const onRead = () => {
          last = sink.bytes.at(-1);
          one();
        };
        pair.client.qp.postSend(
          [read, { opcode: Opcode.SEND, sges: [sge()], flags: SendFlags.SIGNALED }],
          [onRead, one],
        );
      });
      expect(last).toBe(round);
      await received;
    }
    expect(pair.client.qp.sendFree).toBe(16);
  });

  it('goes around its ring many times', async () => {
    for (let round = 0; round < 100; round += 1) {
      local.bytes.writeUInt32LE(round, 0);
      await pair.client.qp.send(write());
      expect(remote.bytes.readUInt32LE(0)).toBe(round);
    }
  });

  it('refuses more than the queue has room for, as a whole', async () => {
    const list = Array.from({ length: 17 }, () => write());
    const error = await rdmaErrorOf(() => pair.client.qp.postSend(list));
    expect(error).toMatchObject({ code: 'ENOBUFS', posted: 0 });
    expect(error.message).toContain('17');
    expect(pair.client.qp.sendFree).toBe(16);
    await stillWorks();
  });

  it.each<[string, () => object, RegExp]>([
    [
      'an unknown lkey',
      () => ({ ...write(), sges: [{ ...sge(), lkey: 0xdead }] }),
      /lkey 0xdead is of no open memory/,
    ],
    ['lkey 0', () => ({ ...write(), sges: [{ ...sge(), lkey: 0 }] }), /lkey 0x0/],
    [
      'an SGE that ends outside its region',
      () => ({ ...write(), sges: [sge(SIZE - 63, 64)] }),
      /not all inside/,
    ],
    ['an SGE that starts before its region', () => ({ ...write(), sges: [sge(-1, 64)] }), /not all inside/],
    ['a length of 2^32 - 1', () => ({ ...write(), sges: [sge(0, 2 ** 32 - 1)] }), /4294967295 bytes/],
    ['a length of -1', () => ({ ...write(), sges: [sge(0, -1)] }), /length -1/],
    [
      'a length that is no number',
      () => ({ ...write(), sges: [{ ...sge(), length: 'x' as never }] }),
      /length x/,
    ],
    ['an address of NaN', () => ({ ...write(), sges: [{ ...sge(), addr: Number.NaN }] }), /addr NaN/],
    ['an address beyond 2^53', () => ({ ...write(), sges: [{ ...sge(), addr: 2 ** 60 }] }), /not an address/],
    [
      'too many SGEs',
      () => ({ ...write(), sges: new Array(33).fill(sge()) }),
      /33 SGEs, but this queue takes at most/,
    ],
    ['no SGE array', () => ({ ...write(), sges: undefined as never }), /sges must be an array/],
    ['an unknown opcode', () => ({ ...write(), opcode: 13 }), /opcode 13/],
    ['opcode 200', () => ({ ...write(), opcode: 200 }), /opcode 200/],
    ['unknown flags', () => ({ ...write(), flags: 0x100 }), /send flags 0x102 are not all known/],
    [
      'READ inline',
      () => ({ ...write(), opcode: Opcode.RDMA_READ, flags: SendFlags.INLINE }),
      /INLINE is only for/,
    ],
    ['too much inline data', () => ({ ...write(), inline: Buffer.alloc(70_000) }), /70000 bytes inline/],
    ['too much inline by SGE', () => ({ ...write(0, 4096), flags: SendFlags.INLINE }), /4096 bytes inline/],
    ['a negative remote address', () => ({ ...write(), remoteAddr: -1 }), /remoteAddr -1/],
  ])('refuses %s before the device sees it', async (_, make, text) => {
    const error = await rdmaErrorOf(() => pair.client.qp.postSend([write(), signalled(make() as SendWr)]));
    expect(error.message).toMatch(text);
    expect(error.message).toMatch(/work request 1/);
    expect(pair.client.qp.sendFree).toBe(16);
    await stillWorks();
  });

  it('refuses a sink that the region may not be written to', async () => {
    const readOnly = await pair.memory(128, 0);
    const sink = [{ addr: readOnly.mr.addr, length: 64, lkey: readOnly.mr.lkey }];
    const read = { opcode: Opcode.RDMA_READ, sges: sink, remoteAddr: remote.mr.addr, rkey: remote.mr.rkey };
    expect((await rdmaErrorOf(() => pair.client.qp.postSend(read))).message).toMatch(/lacks LOCAL_WRITE/);
    expect((await rdmaErrorOf(() => pair.client.qp.postRecv({ sges: sink }))).message).toMatch(
      /lacks LOCAL_WRITE/,
    );
    await stillWorks();
  });

  it('refuses a READ with FENCE on siw, which would block the queue for ever', async () => {
    const read = {
      opcode: Opcode.RDMA_READ,
      sges: [sge()],
      remoteAddr: remote.mr.addr,
      rkey: remote.mr.rkey,
      flags: SendFlags.FENCE,
    };
    if (name === 'siw0') {
      expect((await rdmaErrorOf(() => pair.client.qp.send(read))).code).toBe('EOPNOTSUPP');
    } else {
      await pair.client.qp.send(read);
    }
    await stillWorks();
  });

  it('refuses a READ into more SGEs than the device takes', async () => {
    if (name === 'rxe0') return;
    const read = {
      opcode: Opcode.RDMA_READ,
      sges: [sge(0), sge(64)],
      remoteAddr: remote.mr.addr,
      rkey: remote.mr.rkey,
    };
    expect((await rdmaErrorOf(() => pair.client.qp.postSend(read))).message).toMatch(
      /READ into 2 SGEs.*at most 1/,
    );
    await stillWorks();
  });
});
