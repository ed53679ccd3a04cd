// What the work requests of each operation say, and what comes back: over a fake queue pair, which carries out all of them.

import { describe, expect, it } from 'vitest';
import { Arena } from '../../../lib/dma/arena.ts';
import { DmaBatch } from '../../../lib/dma/batch.ts';
import type { Fragments } from '../../../lib/dma/fragments.ts';
import { RdmaError, WcStatus } from '../../../lib/errors.ts';
import { RwContext, type RwContextOptions } from '../../../lib/rw/rw-context.ts';
import type { SizedDevice } from '../../../lib/rw/sizing.ts';
import type { RemoteMemory, RwOptions, RwQp } from '../../../lib/rw/types.ts';
import { Access, Opcode } from '../../../lib/verbs/constants.ts';
import type { SendWr } from '../../../lib/verbs/work-request.ts';
import { foreign, pattern } from '../dma/bytes.ts';
import { FakePd } from '../dma/fake-memory.ts';
import { FakeQp } from '../dma/fake-qp.ts';

const KiB = 1024;
const ALL = Access.LOCAL_WRITE | Access.REMOTE_READ | Access.REMOTE_WRITE | Access.REMOTE_ATOMIC;
const tick = () => new Promise((resolve) => setImmediate(resolve));

async function setUp({
  provider = 'card',
  caps = {},
  options = {},
}: {
  provider?: string;
  caps?: Partial<RwQp['caps']>;
  options?: RwContextOptions;
} = {}) {
  const pd = new FakePd(provider, provider === 'siw' || provider === 'cxgb4' ? 'iwarp' : 'ib');
  const peer = new FakePd();
  const qp = new FakeQp(pd, peer, caps);
  const far = peer.register(new Uint8Array(256 * KiB), ALL);
  const rw = new RwContext(qp, options);
  const block = await Arena.for(pd).alloc(64 * KiB);
  const { blocks } = rw.builder.arena.stats;
  const at = (offset = 0): RemoteMemory & { addr: number } => ({ addr: far.addr + offset, rkey: far.rkey });
  /** What is held beyond the start. */
  const held = () => ({ blocks: rw.builder.arena.stats.blocks - blocks, regions: pd.live.size - 1 });
  return { pd, peer, qp, rw, far, at, block, held };
}

const nothing = { blocks: 0, regions: 0 };
const opcodes = (qp: FakeQp) => qp.posted.map(({ wr }) => wr.opcode);
const last = (qp: FakeQp): SendWr => qp.posted.at(-1)!.wr;

describe('immediate data', () => {
  it('goes with the message, and comes out of the receive', async () => {
    const { qp, rw, block } = await setUp();
    const sent = rw.send(block.bytes.subarray(0, 100), { immData: 0xdead_beef });
    expect(last(qp)).toMatchObject({ opcode: Opcode.SEND_WITH_IMM, immData: 0xdead_beef });
    qp.run();
    await expect(sent).resolves.toEqual({ bytes: 100, strategy: 'single' });
    const received = rw.recv(block.bytes.subarray(0, 50));
    qp.deliver(pattern(20), { immData: 7 });
    await expect(received).resolves.toEqual({ bytes: 20, strategy: 'single', immData: 7 });
    expect(Buffer.from(block.bytes.subarray(0, 20))).toEqual(pattern(20));
  });

  it('goes with the last of the WRITEs, and takes a receive without touching its memory', async () => {
    const { qp, rw, at, block, far } = await setUp({ caps: { maxSendSge: 1 }, options: { force: 'chain' } });
    const pieces = [block.bytes.subarray(0, 10), block.bytes.subarray(100, 110)];
    pieces[1]!.fill(9);
    const written = rw.write(pieces, at(), { immData: 0 });
    expect(opcodes(qp)).toEqual([Opcode.RDMA_WRITE, Opcode.RDMA_WRITE_WITH_IMM]);
    qp.run();
    await expect(written).resolves.toMatchObject({ bytes: 20 });
    expect([...far.view.subarray(10, 20)]).toEqual(Array(10).fill(9));
    const memory = foreign(pattern(30, 3));
    const plain = new RwContext(qp);
    const received = plain.recv(memory);
    qp.deliverWritten(5000, 11);
    await expect(received).resolves.toEqual({
      bytes: 0,
      strategy: 'bounce',
      immData: 11,
      writtenBytes: 5000,
    });
    expect(Buffer.from(memory)).toEqual(pattern(30, 3));
  });
});

describe('SEND_WITH_INV', () => {
  it('names the key, and the receiver is told which key has gone', async () => {
    const { qp, rw, block } = await setUp();
    const sent = rw.send([], { invalidateRkey: 77 });
    expect(last(qp)).toMatchObject({ opcode: Opcode.SEND_WITH_INV, invalidateRkey: 77 });
    const received = rw.recv(block.bytes.subarray(0, 50));
    qp.deliver(pattern(3), { invalidatedRkey: 5 });
    await expect(received).resolves.toEqual({ bytes: 3, strategy: 'single', invalidatedRkey: 5 });
    qp.run();
    await expect(sent).resolves.toMatchObject({ bytes: 0 });
  });

  it('is never inline on siw, also when that is forced', async () => {
    const { qp, rw, block } = await setUp({ provider: 'siw' });
    const memory = block.bytes.subarray(0, 50);
    await expect(
      Promise.resolve().then(() => rw.send(memory, { invalidateRkey: 1, force: 'inline' })),
    ).rejects.toThrow(
      /force 'inline' is impossible for this send: this device takes only plain send and write inline/,
    );
    const sent = rw.send(memory, { invalidateRkey: 1 });
    const response = rw.write(memory, { addr: 4096, rkey: 1 }, { message: memory, invalidateRkey: 1 });
    await tick();
    expect(qp.posted.map(({ wr }) => wr.flags)).toEqual([2, 8, 2]);
    void [sent, response].map((operation) => operation.catch(() => undefined));
    qp.run();
    await expect(sent).resolves.toMatchObject({ strategy: 'single' });
  });
});

it('an operation that the device wants in more work requests than the send queue has is refused', async () => {
  const { qp, rw, block, held } = await setUp({ provider: 'siw', caps: { maxSendWr: 1 } });
  const memory = block.bytes.subarray(0, 10);
  expect(() => rw.read(memory, { addr: 8192 - 5, rkey: 1 })).toThrow(
    /the read needs 2 work requests and the send queue has 1/,
  );
  expect(held()).toEqual(nothing);
  void rw.read(memory, { addr: 8192, rkey: 1 }).catch(() => undefined);
  expect(qp.posted).toHaveLength(1);
});

describe('what cannot go out is refused before anything is posted', () => {
  const remote = { addr: 8192, rkey: 1 };
  const refusals: [
    why: RegExp,
    options: RwOptions,
    op: 'send' | 'recv' | 'write' | 'read',
    provider?: string,
  ][] = [
    [/options\.message is for a write, not for a send/, { message: [] }, 'send'],
    [/options\.message is for a write, not for a read/, { message: [] }, 'read'],
    [/exclude each other/, { immData: 1, invalidateRkey: 2 }, 'send'],
    [/immData is for a send or write, not for a read/, { immData: 1 }, 'read'],
    [/immData is for a send or write, not for a recv/, { immData: 1 }, 'recv'],
    [/options\.immData must be an integer from 0 to 2\^32 - 1, got -1/, { immData: -1 }, 'send'],
    [
      /invalidateRkey is for a send, or the message of a write, not for a write/,
      { invalidateRkey: 1 },
      'write',
    ],
    [/options\.invalidateRkey must be .*got 4294967296/, { invalidateRkey: 2 ** 32 }, 'send'],
    [/fake-siw has no immediate data; put it into the message/, { immData: 1 }, 'send', 'siw'],
    [/fake-old has no SEND_WITH_INV; let the peer revoke/, { invalidateRkey: 1 }, 'send', 'old'],
  ];
  it.each(refusals)('%s', async (why, options, op, provider) => {
    const { qp, rw, block, held } = await setUp(provider === undefined ? {} : { provider });
    if (provider === 'old') Object.assign(qp.pd.device.caps, { sendWithInvalidate: false });
    const memory = block.bytes.subarray(0, 100);
    const call = (given: RwOptions) =>
      op === 'send' || op === 'recv' ? rw[op](memory, given) : rw[op](memory, remote, given);
    expect(() => call(options)).toThrow(why);
    expect(qp.calls).toEqual([]);
    expect(held()).toEqual(nothing);
    // Without what was wrong it goes.
    void call({}).catch(() => undefined);
    expect(qp.posted.length + qp.receives.length).toBe(1);
  });

  it('receives of a queue pair that takes them from a shared receive queue', async () => {
    const { qp, rw, block } = await setUp();
    qp.srq = {};
    expect(() => rw.recv(block)).toThrow(
      /takes its receives from a shared receive queue: post them to its srq/,
    );
    qp.srq = undefined;
    void rw.recv(block);
    expect(qp.receives).toHaveLength(1);
  });

  it('a batch of another protection domain', async () => {
    const { qp, rw, at } = await setUp();
    const other = await setUp();
    const batch = DmaBatch.start(other.rw.builder, 'scatter', 'toDevice');
    batch.add(other.block);
    await batch.finalize();
    expect(() => rw.write(batch, at())).toThrow(/the batch was mapped for another protection domain/);
    expect(qp.calls).toEqual([]);
    expect(batch.state).toBe('mapped');
    await batch.unmap();
  });
});

describe('atomics', () => {
  it('add and swap 8 bytes of the peer, and bring what was there', async () => {
    const { qp, rw, at, far, held } = await setUp();
    const value = new BigUint64Array(far.view.buffer, 0, 2);
    const run = async (operation: Promise<bigint>): Promise<bigint> => {
      qp.run();
      return operation;
    };
    expect(await run(rw.fetchAdd(at(), 5))).toBe(0n);
    expect(await run(rw.fetchAdd(at(), -7n))).toBe(5n);
    expect(value[0]).toBe(2n ** 64n - 2n);
    expect(await run(rw.fetchAdd(at(), 2n ** 64n - 1n))).toBe(2n ** 64n - 2n);
    expect(await run(rw.compareAndSwap(at(8), 1, 9))).toBe(0n);
    expect(value[1]).toBe(0n);
    expect(await run(rw.compareAndSwap(at(8), 0n, 2n ** 64n - 1n))).toBe(0n);
    expect(value[1]).toBe(2n ** 64n - 1n);
    const { signal } = new AbortController();
    expect(await run(rw.fetchAdd(at(8), 1, { signal }))).toBe(2n ** 64n - 1n);
    expect(held()).toEqual(nothing);
    expect(rw.builder.counters).toMatchObject({ inFlight: 0, failed: 0 });
  });

  it('refuse what is not 8 bytes, 64 bits, or a device that has them', async () => {
    const { qp, rw, at, block, held } = await setUp();
    const most = 2n ** 64n;
    for (const add of [most, -(2n ** 63n) - 1n, 1.5, 2 ** 53, Number.NaN]) {
      expect(() => rw.fetchAdd(at(), add), String(add)).toThrow(/add must be an integer of 64 bits/);
    }
    for (const bad of [-1, most, 0.5]) {
      expect(() => rw.compareAndSwap(at(), bad, 0), String(bad)).toThrow(
        /expected must be an integer of 64 bits/,
      );
      expect(() => rw.compareAndSwap(at(), 0n, bad), String(bad)).toThrow(
        /replacement must be an integer of 64/,
      );
    }
    expect(() => rw.fetchAdd(at(4), 1)).toThrow(/is not divisible by 8/);
    const high = 0xffff_8880_0000_0004n;
    expect(() => rw.fetchAdd({ addr: high, rkey: 1 }, 1)).toThrow(/0xffff888000000004 is not divisible by 8/);
    expect(() => rw.fetchAdd(at(), 1, { signal: AbortSignal.abort() })).toThrow(/abort/);
    expect(() => rw.builder.plan('atomic', block)).toThrow(
      /an atomic brings 8 bytes, and the fragments have 65536/,
    );
    const siw = await setUp({ provider: 'siw' });
    expect(() => siw.rw.fetchAdd(at(), 1)).toThrow(/fake-siw has no atomic operations/);
    expect(qp.calls).toEqual([]);
    expect(held()).toEqual(nothing);
    const good = rw.fetchAdd(at(), 1);
    qp.run();
    expect(await good).toBe(0n);
  });

  it('bring the old value into memory that the builder maps, in one piece', async () => {
    const { rw, block } = await setUp();
    const { builder } = rw;
    const indirect = { maxExtents: 4, build: () => Promise.reject(new Error('not called')) };
    const other = new RwContext(new FakeQp(rw.qp.pd as FakePd), { indirect }).builder;
    const slot = block.bytes.subarray(0, 8);
    expect(builder.plan('atomic', slot)).toMatchObject({ row: 5, wrs: 1, sges: 1 });
    const halves = [block.bytes.subarray(0, 4), block.bytes.subarray(100, 104)];
    expect(builder.plan('atomic', halves)).toMatchObject({ row: 10, strategy: 'bounce', sges: 1 });
    expect(() => builder.plan('atomic', halves, { force: 'linear' })).toThrow(
      /old value of an atomic needs one piece/,
    );
    expect(() => other.plan('atomic', halves, { force: 'indirectMkey' })).toThrow(/atomic needs one piece/);
  });
});

describe('a write and the message behind it', () => {
  const message = () => Buffer.from('done');

  it('are one list, also when either has to wait for its mapping', async () => {
    const { qp, rw, at, block, held, far } = await setUp();
    const large = () => foreign(pattern(100 * KiB));
    const small = block.bytes.subarray(0, 100);
    const cases: [Fragments, Fragments][] = [
      [small, message()],
      [small, large()],
      [large(), message()],
      [large(), large()],
    ];
    for (const [head, tail] of cases) {
      const call = qp.calls.length;
      const written = rw.write(head, at(), {
        message: tail,
        immData: 3,
        force: head === small ? 'single' : 'transientMr',
      });
      while (qp.posted.length === 0) await tick();
      expect(qp.calls[call]!.map(({ opcode }) => opcode)).toEqual([Opcode.RDMA_WRITE, Opcode.SEND_WITH_IMM]);
      qp.run();
      await written;
    }
    expect(qp.messages.map(({ length }) => length)).toEqual([4, 100 * KiB, 4, 100 * KiB]);
    expect(Buffer.from(far.view.subarray(0, 100 * KiB)).equals(pattern(100 * KiB))).toBe(true);
    await rw.builder.idle();
    expect(held()).toMatchObject({ blocks: 0 });
  });

  it('fail together when one of them cannot be mapped, and nothing stays', async () => {
    const { pd, qp, rw, at, block, held } = await setUp();
    const small = block.bytes.subarray(0, 100);
    const large = () => foreign(100 * KiB);
    // At once: the message is no memory.
    expect(() => rw.write(small, at(), { message: 'text' as never })).toThrow(/fragments must be/);
    expect(() => rw.write(large(), at(), { message: 'text' as never })).toThrow(/fragments must be/);
    await tick();
    pd.failWith = new RdmaError('EFAULT', 'fake: bad address');
    // The write waits and fails while the write itself is mapped; the message waits and fails; both do.
    await expect(rw.write(large(), at(), { message: message() })).rejects.toThrow('bad address');
    await expect(rw.write(small, at(), { message: large() })).rejects.toThrow('bad address');
    await expect(rw.write(large(), at(), { message: large() })).rejects.toThrow('bad address');
    // A write whose mapping fails although its message could not be mapped at all.
    expect(() => rw.write(large(), at(), { message: 7 as never })).toThrow(/fragments must be/);
    await tick();
    pd.failWith = undefined;
    await rw.builder.idle();
    expect(qp.calls).toEqual([]);
    expect(held()).toEqual(nothing);
    expect(rw.builder.counters.inFlight).toBe(0);
    const good = rw.write(small, at(), { message: message() });
    qp.run();
    await expect(good).resolves.toMatchObject({ bytes: 100 });
  });

  it('are refused when they exceed the send queue together', async () => {
    const { rw, at, block, held } = await setUp({ caps: { maxSendWr: 1 } });
    expect(() => rw.write(block.bytes.subarray(0, 100), at(), { message: message() })).toThrow(
      /the write and its message needs 2 work requests and the send queue has 1/,
    );
    expect(held()).toEqual(nothing);
  });

  it('say which of them was refused, by its fragment', async () => {
    const { qp, rw, at, block } = await setUp({ caps: { maxSendSge: 1 } });
    const pieces = [block.bytes.subarray(0, 100), block.bytes.subarray(200, 300)];
    const late = [block.bytes.subarray(400, 500)];
    const refused = async (wrIndex: number) => {
      const { postSend } = qp;
      qp.postSend = () => {
        throw new RdmaError('EINVAL', 'fake: refused', { posted: 0, wrIndex });
      };
      const error = await rw.write(pieces, at(), { message: late, force: 'chain' }).catch((reason) => reason);
      qp.postSend = postSend;
      return [error.wrIndex, error.fragment];
    };
    expect(await refused(0)).toEqual([0, 0]);
    expect(await refused(1)).toEqual([1, 1]);
    expect(await refused(2)).toEqual([2, 0]);
  });
});

describe('a post that fails', () => {
  it('with what is no RdmaError rejects as it is', async () => {
    const { qp, rw, block, held } = await setUp();
    const { postSend } = qp;
    qp.postSend = () => {
      throw new TypeError('fake: a mistake');
    };
    await expect(rw.send(block.bytes.subarray(0, 100))).rejects.toThrow(TypeError);
    qp.postSend = () => {
      throw new RdmaError('ERR_RDMA_CLOSED', 'fake: closed');
    };
    await expect(rw.send(block.bytes.subarray(0, 100))).rejects.toMatchObject({
      code: 'ERR_RDMA_CLOSED',
      fragment: 0,
    });
    expect(rw.outstanding).toBe(0);
    expect(held()).toEqual(nothing);
    qp.postSend = postSend;
    const good = rw.send(block.bytes.subarray(0, 100));
    qp.run();
    await expect(good).resolves.toMatchObject({ bytes: 100 });
  });

  it('between operations leaves those before it alone, and tries those behind it again', async () => {
    const { qp, rw, block } = await setUp();
    const sends = (count: number) =>
      Array.from({ length: count }, (_, i) => rw.send(block.bytes.subarray(i * 100, i * 100 + 90 + i)));
    // The first goes out at once; of the others, posted together, one is taken.
    qp.refuseAfter = 1;
    const results = Promise.allSettled(sends(4));
    await tick();
    qp.refuseAfter = undefined;
    qp.run();
    expect((await results).map(({ status }) => status)).toEqual([
      'fulfilled',
      'fulfilled',
      'rejected',
      'rejected',
    ]);
    expect(qp.errors).toBe(0);
    const good = sends(1);
    qp.run();
    await Promise.all(good);
  });

  it('inside of an operation ends those behind it with a flush: nothing is posted after the queue pair has failed', async () => {
    const { qp, rw, at, block, held } = await setUp({ caps: { maxSendSge: 1 } });
    const pieces = [block.bytes.subarray(0, 100), block.bytes.subarray(200, 300)];
    const chain = () => rw.write(pieces, at(), { force: 'chain' });
    // One goes alone; of the next two, posted together, the second is cut in two; the last is behind it.
    qp.refuseAfter = 3;
    const results = Promise.allSettled([chain(), chain(), chain(), chain()]);
    await tick();
    expect(qp.errors).toBe(1);
    expect(qp.posted).toHaveLength(5);
    qp.refuseAfter = undefined;
    qp.run();
    const codes = (await results).map((result) =>
      result.status === 'rejected' ? result.reason.code : 'none',
    );
    const flush = 'ERR_RDMA_WC_WR_FLUSH_ERR';
    expect(codes).toEqual([flush, flush, 'ENOMEM', flush]);
    expect(qp.calls.map((call) => call.length)).toEqual([2, 3]);
    expect(rw.outstanding).toBe(0);
    expect(held()).toEqual(nothing);
  });
});

describe('the receive queue', () => {
  it('tells the cause of a receive that fails; a flush without a completion has no vendor error', async () => {
    const { qp, rw, block } = await setUp();
    const [first, second] = [rw.recv(block.bytes.subarray(0, 10)), rw.recv(block.bytes.subarray(20, 30))];
    await tick();
    qp.failReceive(WcStatus.LOC_LEN_ERR);
    qp.failReceive(WcStatus.WR_FLUSH_ERR, -1);
    await expect(first).rejects.toMatchObject({ code: 'ERR_RDMA_WC_LOC_LEN_ERR', vendorErr: 43 });
    await expect(second).rejects.toMatchObject({ code: 'ERR_RDMA_WC_WR_FLUSH_ERR', vendorErr: 0 });
  });

  it('goes on when one of those that wait for a registration fails, wherever it stands', async () => {
    const { pd, qp, rw } = await setUp();
    const regMr = pd.regMr.bind(pd);
    for (const bad of [0, 1, 2]) {
      let open = (): void => undefined;
      const gate = new Promise<void>((resolve) => {
        open = resolve;
      });
      pd.regMr = async (memory, access) => {
        if (memory.byteLength === (100 + bad) * KiB) throw new RdmaError('EFAULT', 'fake: bad address');
        await gate;
        return regMr(memory, access);
      };
      const receives = [0, 1, 2].map((i) => rw.recv(foreign((100 + i) * KiB)));
      await expect(receives[bad]).rejects.toThrow('bad address');
      expect(rw.waiting).toBe(2);
      open();
      await rw.ready();
      expect(qp.receives).toHaveLength(2);
      qp.deliver(pattern(10));
      qp.deliver(pattern(11));
      const brought = await Promise.all(receives.filter((_, i) => i !== bad));
      expect(brought.map(({ bytes }) => bytes)).toEqual([10, 11]);
    }
  });
});

it('a queue pair that was closed under the context ends its operations all the same', async () => {
  const { qp, rw, at, block, held } = await setUp();
  qp.toError = () => {
    throw new RdmaError('ERR_RDMA_CLOSED', 'fake: closed');
  };
  const lost = rw.write(block.bytes.subarray(0, 100), { ...at(), rkey: 1 });
  qp.run();
  await expect(lost).rejects.toMatchObject({ code: 'ERR_RDMA_WC_REM_ACCESS_ERR' });
  await expect(rw.read(block, at())).rejects.toMatchObject({ code: 'ERR_RDMA_WC_WR_FLUSH_ERR' });
  expect(held()).toEqual(nothing);
});

it('maxSendWr is the part of rwSizing that a send queue needs', () => {
  const device: SizedDevice = {
    provider: 'rxe',
    transport: 'ib',
    attr: { maxSge: 4, maxSgeRd: 4, maxQpWr: 100, maxCqe: 100 },
    queryPort: () => ({ maxMsgSz: 2 ** 31 }),
  };
  expect(RwContext.maxSendWr(device, { operations: 3, fragments: 8, sends: 2 })).toBe(8);
});
