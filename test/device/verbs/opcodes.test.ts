import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  Access,
  FlushLevel,
  FlushType,
  type MemoryRegion,
  Opcode,
  type RdmaError,
  SendFlags,
  type SendWr,
  WcOpcode,
  WcStatus,
} from '../../../lib/index.ts';
import { devices } from '../helpers/devices.ts';
import { connectedPair, type Pair } from '../helpers/pair.ts';
import { rdmaErrorOf } from '../helpers/rejection.ts';

const ALL = Access.LOCAL_WRITE | Access.REMOTE_READ | Access.REMOTE_WRITE;

describe.each(devices)('opcodes on $name', ({ name }) => {
  const rxe = name === 'rxe0';
  let pair: Pair;
  let local: { bytes: Buffer; mr: MemoryRegion };
  let remote: { bytes: Buffer; mr: MemoryRegion };

  beforeAll(async () => {
    pair = await connectedPair(name, { maxSendWr: 16, maxRecvWr: 16 });
    local = await pair.memory(16384);
    remote = await pair.memory(16384, rxe ? ALL | Access.REMOTE_ATOMIC : ALL);
  });
  afterAll(() => pair.close());

  const sge = (offset = 0, length = 64) => ({ addr: local.mr.addr + offset, length, lkey: local.mr.lkey });
  const at = (offset = 0) => ({ remoteAddr: remote.mr.addr + offset, rkey: remote.mr.rkey });
  const receive = (length = 256) =>
    pair.server.qp.recv({ sges: [{ addr: remote.mr.addr + 8192, length, lkey: remote.mr.lkey }] });

  async function stillWorks(): Promise<void> {
    local.bytes.write('still works');
    await pair.client.qp.send({ opcode: Opcode.RDMA_WRITE, sges: [sge()], ...at(4096) });
    await pair.client.qp.send({ opcode: Opcode.RDMA_READ, sges: [sge(1024)], ...at(4096) });
    expect(local.bytes.toString('latin1', 1024, 1035)).toBe('still works');
  }

  /** The refusal of an opcode that the device lacks; the queue still carries traffic. */
  async function lacks(wr: SendWr, code: string, text: RegExp): Promise<RdmaError> {
    const error = await rdmaErrorOf(() => pair.client.qp.send(wr));
    expect(error).toMatchObject({ code, wrIndex: 0, posted: 0 });
    expect(error.message).toMatch(text);
    await stillWorks();
    return error;
  }

  it('RDMA_WRITE_WITH_IMM takes a receive', async () => {
    const wr: SendWr = {
      opcode: Opcode.RDMA_WRITE_WITH_IMM,
      sges: [sge(0, 100)],
      ...at(),
      immData: 0x8000_0001,
    };
    if (!rxe) {
      await lacks(wr, 'EOPNOTSUPP', /RDMA_WRITE_WITH_IMM.*not one that this device takes/);
      return;
    }
    local.bytes.fill('w', 0, 100);
    const received = receive();
    await pair.client.qp.send(wr);
    expect(await received).toMatchObject({ byteLen: 100, immData: 0x8000_0001 });
    expect(remote.bytes.toString('latin1', 0, 100)).toBe('w'.repeat(100));
  });

  it('atomics put the old value into the SGE, in host byte order', async () => {
    const cas: SendWr = {
      opcode: Opcode.ATOMIC_CMP_AND_SWP,
      sges: [sge(8, 8)],
      ...at(16),
      compareAdd: 0x1122_3344_5566_7788n,
      swap: 7,
    };
    const add: SendWr = {
      opcode: Opcode.ATOMIC_FETCH_AND_ADD,
      sges: [sge(8, 8)],
      ...at(16),
      compareAdd: 0xffff_ffff_ffff_fffen,
    };
    if (!rxe) {
      await lacks(cas, 'EOPNOTSUPP', /ATOMIC_CMP_AND_SWP.*not one that this device takes/);
      await lacks(add, 'EOPNOTSUPP', /ATOMIC_FETCH_AND_ADD.*not one that this device takes/);
      return;
    }
    remote.bytes.writeBigUInt64LE(0x1122_3344_5566_7788n, 16);
    await pair.client.qp.send(cas);
    expect(local.bytes.readBigUInt64LE(8)).toBe(0x1122_3344_5566_7788n);
    expect(remote.bytes.readBigUInt64LE(16)).toBe(7n);
    await pair.client.qp.send(cas);
    expect(local.bytes.readBigUInt64LE(8)).toBe(7n);
    expect(remote.bytes.readBigUInt64LE(16)).toBe(7n);
    await pair.client.qp.send(add);
    expect(local.bytes.readBigUInt64LE(8)).toBe(7n);
    expect(remote.bytes.readBigUInt64LE(16)).toBe(5n);
  });

  it('ATOMIC_WRITE goes by ibv_wr_post and replaces 8 bytes', async () => {
    const wr: SendWr = { opcode: Opcode.ATOMIC_WRITE, ...at(24), value: 0x0102_0304_0506_0708n };
    if (!rxe) {
      await lacks(wr, 'EOPNOTSUPP', /ATOMIC_WRITE/);
      return;
    }
    await pair.client.qp.send(wr);
    expect(remote.bytes.readBigUInt64LE(24)).toBe(0x0102_0304_0506_0708n);
  });

  it('a list that needs both ways of posting is carried out in order', async () => {
    if (!rxe) return;
    local.bytes.writeBigUInt64LE(11n, 0);
    local.bytes.writeBigUInt64LE(13n, 8);
    const order: number[] = [];
    await new Promise<void>((resolve) => {
      const list: SendWr[] = [
        { opcode: Opcode.RDMA_WRITE, sges: [sge(0, 8)], ...at(32) },
        { opcode: Opcode.ATOMIC_WRITE, ...at(32), value: 12 },
        { opcode: Opcode.ATOMIC_WRITE, ...at(40), value: 2n ** 64n - 1n },
        { opcode: Opcode.RDMA_WRITE, sges: [sge(8, 4), sge(12, 4)], ...at(40), flags: SendFlags.SIGNALED },
        { opcode: Opcode.ATOMIC_WRITE, ...at(48), value: 14, flags: SendFlags.SIGNALED },
      ];
      pair.client.qp.postSend(
        list,
        list.map((_, i) => (status: number) => {
          expect(status).toBe(WcStatus.SUCCESS);
          order.push(i);
          if (i === 4) resolve();
        }),
      );
    });
    expect(order).toEqual([0, 1, 2, 3, 4]);
    expect([32, 40, 48].map((offset) => remote.bytes.readBigUInt64LE(offset))).toEqual([12n, 13n, 14n]);
  });

  it('FLUSH makes what was written visible, or is refused where rdma-core or the device lacks it', async () => {
    const wr: SendWr = { opcode: Opcode.FLUSH, ...at(), length: 64, flushType: FlushType.GLOBAL };
    if (!pair.device.caps.flush) {
      await lacks(wr, 'EOPNOTSUPP', /FLUSH/);
      return;
    }
    const target = await pair.memory(4096, ALL | Access.FLUSH_GLOBAL);
    const { addr: remoteAddr, rkey } = target.mr;
    for (const [flushLevel, length] of [
      [FlushLevel.RANGE, 64],
      [FlushLevel.MR, 0],
    ] as const) {
      local.bytes.write(`flushed ${flushLevel}`);
      pair.client.qp.postSend({ opcode: Opcode.RDMA_WRITE, sges: [sge(0, 9)], remoteAddr, rkey });
      const flushed = await pair.client.qp.send({ ...wr, remoteAddr, rkey, length, flushLevel });
      expect(flushed.opcode).toBe(WcOpcode.FLUSH);
      expect(target.bytes.toString('latin1', 0, 9)).toBe(`flushed ${flushLevel}`);
    }
    for (const [change, text] of [
      [{ flushType: 0 }, /flushType 0 must be of FlushType/],
      [{ flushType: 4 }, /flushType 4 must be of FlushType/],
      [{ flushLevel: 2 }, /flushLevel 2 one of FlushLevel/],
    ] as const) {
      expect((await rdmaErrorOf(() => pair.client.qp.postSend({ ...wr, ...change }))).message).toMatch(text);
    }
    await stillWorks();
  });

  it('SEND_WITH_INV ends the validity of a region on siw, where any key can be invalidated', async () => {
    if (rxe) return;
    const other = await connectedPair(name);
    try {
      const source = await other.memory(4096);
      const sink = await other.memory(4096);
      const victim = await other.memory(64);
      const received = other.server.qp.recv({
        sges: [{ addr: sink.mr.addr, length: 64, lkey: sink.mr.lkey }],
      });
      source.bytes.write('invalidate');
      const sges = [{ addr: source.mr.addr, length: 10, lkey: source.mr.lkey }];
      await other.client.qp.send({
        opcode: Opcode.SEND_WITH_INV,
        sges,
        invalidateRkey: victim.mr.rkey,
      });
      expect((await received).byteLen).toBe(10);
      expect(sink.bytes.toString('latin1', 0, 10)).toBe('invalidate');
      await other.client.qp.send({
        opcode: Opcode.RDMA_WRITE,
        sges,
        remoteAddr: sink.mr.addr + 100,
        rkey: sink.mr.rkey,
      });
      const { addr: remoteAddr, rkey } = victim.mr;
      const read = [{ addr: source.mr.addr + 100, length: 10, lkey: source.mr.lkey }];
      const error = await rdmaErrorOf(() =>
        other.client.qp.send({ opcode: Opcode.RDMA_READ, sges: read, remoteAddr, rkey }),
      );
      expect(error.code).toMatch(/ERR_RDMA_WC_(WR_FLUSH|REM_ACCESS)_ERR/);
    } finally {
      await other.close();
    }
  });

  it('the opcode of the completion is that of the work request', async () => {
    await new Promise<void>((resolve) => {
      pair.client.qp.postSend(
        { opcode: Opcode.RDMA_READ, sges: [sge()], ...at(), flags: SendFlags.SIGNALED },
        (_, __, wc) => {
          expect(pair.clientCq.ring.opcode(wc)).toBe(WcOpcode.RDMA_READ);
          resolve();
        },
      );
    });
  });

  it.each<[string, () => object, string, RegExp]>([
    ['no opcode', () => ({ sges: [] }), 'ERR_INVALID_ARG_TYPE', /opcode is missing/],
    [
      'WRITE without an address',
      () => ({ opcode: 0, sges: [sge()], rkey: 1 }),
      'ERR_INVALID_ARG_TYPE',
      /remoteAddr is missing/,
    ],
    [
      'READ without a key',
      () => ({ opcode: 4, sges: [sge()], remoteAddr: 1 }),
      'ERR_INVALID_ARG_TYPE',
      /rkey is missing/,
    ],
    [
      'a key of -1',
      () => ({ opcode: 0, sges: [sge()], ...at(), rkey: -1 }),
      'ERR_OUT_OF_RANGE',
      /rkey -1 is not in 0 … 2\^32 - 1/,
    ],
    [
      'an address of 2^64',
      () => ({ opcode: 0, sges: [sge()], ...at(), remoteAddr: 2n ** 64n }),
      'ERR_OUT_OF_RANGE',
      /remoteAddr 18446744073709551616 is not in 0 … 2\^64 - 1/,
    ],
    [
      'an address of 2^53',
      () => ({ opcode: 0, sges: [sge()], ...at(), remoteAddr: 2 ** 53 }),
      'ERR_OUT_OF_RANGE',
      /remoteAddr 9007199254740992 is not in .*give a bigint/,
    ],
    [
      'WITH_IMM without data',
      () => ({ opcode: 3, sges: [sge()] }),
      'ERR_INVALID_ARG_TYPE',
      /immData is missing/,
    ],
    [
      'WITH_INV without a key',
      () => ({ opcode: 9, sges: [sge()] }),
      'ERR_INVALID_ARG_TYPE',
      /invalidateRkey is missing/,
    ],
    [
      'CAS without swap',
      () => ({ opcode: 5, sges: [sge(0, 8)], ...at(), compareAdd: 1 }),
      'ERR_INVALID_ARG_TYPE',
      /swap is missing/,
    ],
    [
      'FETCH_AND_ADD without its operand',
      () => ({ opcode: 6, sges: [sge(0, 8)], ...at() }),
      'ERR_INVALID_ARG_TYPE',
      /compareAdd is missing/,
    ],
    [
      'a negative operand',
      () => ({ opcode: 6, sges: [sge(0, 8)], ...at(), compareAdd: -1 }),
      'ERR_OUT_OF_RANGE',
      /compareAdd -1 is not in/,
    ],
    [
      'ATOMIC_WRITE without a value',
      () => ({ opcode: 15, ...at() }),
      'ERR_INVALID_ARG_TYPE',
      /value is missing/,
    ],
    [
      'FLUSH without a type',
      () => ({ opcode: 14, ...at(), length: 1 }),
      'ERR_INVALID_ARG_TYPE',
      /flushType is missing/,
    ],
    [
      'an address handle on RC',
      () => ({ opcode: 2, sges: [sge()], ah: {} }),
      'ERR_INVALID_ARG_VALUE',
      /ah is only for UD queue pairs, and this one is RC/,
    ],
    [
      'a string as inline',
      () => ({ opcode: 2, inline: 'x' }),
      'ERR_INVALID_ARG_TYPE',
      /inline must be a Uint8Array, not 'x'/,
    ],
    ['null', () => null as never, 'ERR_INVALID_ARG_TYPE', /it is null/],
    ['null as an SGE', () => ({ opcode: 2, sges: [null] }), 'ERR_INVALID_ARG_TYPE', /SGE 0 is null/],
    [
      'SOLICITED on a WRITE',
      () => ({ opcode: 0, sges: [sge()], ...at(), flags: SendFlags.SOLICITED }),
      'ERR_INVALID_ARG_VALUE',
      /SOLICITED is not for opcode 0 \(RDMA_WRITE\)/,
    ],
    ['RDMA through TSO', () => ({ opcode: 10, sges: [sge()] }), 'ERR_INVALID_ARG_VALUE', /opcode 10/],
    ['opcode 11', () => ({ opcode: 11, sges: [sge()] }), 'ERR_INVALID_ARG_VALUE', /opcode 11/],
    ['opcode 2^32 - 1', () => ({ opcode: 2 ** 32 - 1, sges: [] }), 'ERR_INVALID_ARG_VALUE', /4294967295/],
  ])('refuses %s and names it', async (_, make, code, text) => {
    const before: SendWr = { opcode: Opcode.RDMA_WRITE, sges: [sge()], ...at() };
    const error = await rdmaErrorOf(() => pair.client.qp.postSend([before, make() as SendWr]));
    expect(error).toMatchObject({ code, wrIndex: 1, posted: 0, qpNum: pair.client.qp.qpNum });
    expect(error.message).toMatch(text);
    expect(pair.client.qp.sendFree).toBe(16);
    await stillWorks();
  });

  it.each<[string, () => object, RegExp]>([
    ['4 bytes of SGE', () => ({ sges: [sge(0, 4)] }), /one SGE of 8 bytes for the old value, not 4 bytes/],
    ['two SGEs', () => ({ sges: [sge(0, 4), sge(4, 4)] }), /not 8 bytes in 2 SGEs/],
    ['no SGE', () => ({ sges: [] }), /one SGE of 8 bytes/],
    ['an odd address', () => at(20), /remoteAddr …0x[0-9a-f]+ of an atomic must be divisible by 8/],
    ['INLINE', () => ({ flags: SendFlags.INLINE }), /INLINE is only for SEND and RDMA WRITE/],
  ])('refuses an atomic with %s', async (_, change, text) => {
    if (!rxe) return;
    const base = { opcode: Opcode.ATOMIC_FETCH_AND_ADD, sges: [sge(0, 8)], ...at(), compareAdd: 1 };
    const error = await rdmaErrorOf(() => pair.client.qp.postSend({ ...base, ...change() } as SendWr));
    expect(error.message).toMatch(text);
    await stillWorks();
  });

  it('refuses ATOMIC_WRITE with SGEs or to an odd address', async () => {
    if (!rxe) return;
    const wr = { opcode: Opcode.ATOMIC_WRITE, ...at(), value: 1 };
    for (const [change, text] of [
      [{ sges: [sge()] }, /ATOMIC_WRITE\) takes no SGEs/],
      [at(12), /must be divisible by 8/],
      [{ inline: Buffer.alloc(8) }, /INLINE is only for/],
    ] as const) {
      expect(
        (await rdmaErrorOf(() => pair.client.qp.postSend({ ...wr, ...change } as SendWr))).message,
      ).toMatch(text);
    }
    await stillWorks();
  });
});
