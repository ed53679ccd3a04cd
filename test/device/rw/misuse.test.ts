// Wrong arguments, closed objects and a peer that has gone, for what is called most: a clear error, and what still can go on does.

import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  Access,
  Arena,
  type ArenaBuffer,
  DmaBatch,
  type MemoryRegion,
  RwContext,
} from '../../../lib/index.ts';
import { devices } from '../helpers/devices.ts';
import { connectedPair, type Pair } from '../helpers/pair.ts';
import { rdmaErrorOf } from '../helpers/rejection.ts';

const KiB = 1024;

describe.each(devices)('misuse on $name', ({ name }) => {
  let pair: Pair;
  let rw: RwContext;
  let remote: { bytes: Buffer; mr: MemoryRegion };
  let block: ArenaBuffer;
  const at = () => ({ addr: remote.mr.addr, rkey: remote.mr.rkey });
  /** Bytes go to the peer and come back. */
  const works = async (context = rw) => {
    block.bytes.fill(0x42, 0, 3000);
    await context.write(block.bytes.subarray(0, 3000), at());
    const back = new Uint8Array(3000);
    await context.read(back, at());
    return back.every((byte) => byte === 0x42);
  };

  beforeEach(async () => {
    pair = await connectedPair(name);
    rw = new RwContext(pair.client.qp);
    remote = await pair.memory(64 * KiB);
    block = await Arena.for(pair.pd).alloc(64 * KiB);
  });
  afterEach(() => pair.close());

  it('wrong arguments are named before anything is posted, and the next call works', async () => {
    const { builder } = rw;
    const { arena } = builder;
    const list = [block.bytes.subarray(0, 10), block.bytes.subarray(20, 30)];
    const mistakes: [call: () => unknown, why: RegExp][] = [
      [() => rw.read(block, undefined as never), /remote must be the peer's \{ addr, rkey \}/],
      [() => rw.write(block, { addr: 'here', rkey: 1 } as never), /remote\.addr must be an address/],
      [() => rw.read('text' as never, at()), /fragments must be a Buffer/],
      [() => rw.write([block, 7 as never], at()), /fragments\[1\] must be a Buffer/],
      [() => builder.mapSgeSingle(list as never), /fragment must be a Buffer/],
      [() => builder.mapSgeSingle(new Uint8Array(10)), /is foreign memory and has no local key/],
      [() => builder.fillSgeFromFragments([block, new Uint8Array(9)]), /fragment 1 \(9 bytes\) is foreign/],
      [() => builder.expose(block, undefined as never), /access undefined gives a peer nothing/],
      [() => builder.expose([], Access.REMOTE_READ), /no bytes to expose/],
      [() => DmaBatch.start(rw as never, 'scatter', 'toDevice'), /builder must be an SgeBuilder/],
      [() => DmaBatch.start(builder, 'scatter', 'sideways' as never), /direction must be one of/],
      [() => DmaBatch.start(builder, 'scatter', 'toDevice').finalize(), /finalize of a batch without bytes/],
      [() => arena.alloc(0), /bytes must be an integer from 1/],
      [() => arena.alloc('1' as never), /bytes must be an integer from 1/],
    ];
    const { blocks } = arena.stats;
    for (const [call, why] of mistakes) {
      const error = await rdmaErrorOf(async () => call());
      expect(error.message).toMatch(why);
      expect(rw.outstanding + rw.waiting).toBe(0);
    }
    expect(arena.stats.blocks).toBe(blocks);
    expect(await works()).toBe(true);
  });

  it('of closed memory: each call says so, and another arena or region does', async () => {
    const { builder } = rw;
    const own = new Arena(pair.pd, { slabBytes: 64 * KiB });
    const lost = await own.alloc(100);
    const view = lost.bytes;
    lost.free();
    expect((await rdmaErrorOf(async () => lost.free())).message).toMatch(/already freed/);
    await own.close();
    expect((await rdmaErrorOf(async () => own.alloc(1))).code).toBe('ERR_RDMA_CLOSED');
    for (const use of [
      () => rw.read(view, at()),
      () => rw.write(view, at()),
      () => builder.mapSgeSingle(view),
      () => builder.fillSgeFromFragments([view]),
      () => builder.expose(view, Access.REMOTE_READ),
      () => DmaBatch.start(builder, 'scatter', 'toDevice').add(view),
    ]) {
      const error = await rdmaErrorOf(async () => use());
      expect(error).toMatchObject({ code: 'ERR_INVALID_STATE', fragment: 0 });
      expect(error.message).toMatch(/fragment 0 lies in an arena slab whose registration is closed/);
    }
    expect(await works()).toBe(true);
  });

  it('of a closed protection domain: nothing is mapped or allocated any more, and nothing crashes', async () => {
    const { builder } = rw;
    const batch = DmaBatch.start(builder, 'scatter', 'toDevice');
    batch.add(new Uint8Array(100));
    pair.client.close();
    pair.server.close();
    pair.pd.close();
    const closed = /^ERR_RDMA_(CLOSED|WC_WR_FLUSH_ERR)$/;
    const memory = new Uint8Array(100 * KiB);
    expect((await rdmaErrorOf(async () => builder.expose(memory, Access.REMOTE_READ))).code).toMatch(closed);
    expect((await rdmaErrorOf(async () => builder.arena.alloc(32 * 1024 * KiB))).code).toMatch(closed);
    expect((await rdmaErrorOf(async () => batch.finalize())).code).toMatch(closed);
    expect((await rdmaErrorOf(async () => rw.read(memory, at(), { force: 'transientMr' }))).code).toMatch(
      closed,
    );
    expect((await rdmaErrorOf(async () => builder.mapSgeSingle(block.bytes))).code).toBe('ERR_INVALID_STATE');
    expect(builder.counters.inFlight).toBe(0);
    const other = await connectedPair(name);
    try {
      const fresh = new RwContext(other.client.qp);
      const target = await other.memory(1000);
      const { addr, rkey } = target.mr;
      expect((await fresh.write(new Uint8Array(1000).fill(3), { addr, rkey })).bytes).toBe(1000);
    } finally {
      await other.close();
    }
  });

  it('a peer that has gone: operations end with an error, and the memory is free for the next connection', async () => {
    const { builder } = rw;
    expect(await works()).toBe(true);
    const batch = DmaBatch.start(builder, 'scatter', 'toDevice');
    batch.add(block.bytes.subarray(0, 100));
    await batch.finalize();
    const { blocks } = builder.arena.stats;
    pair.server.close();
    const ended = await Promise.allSettled([
      rw.write(new Uint8Array(1000), at()),
      rw.read(new Uint8Array(70 * KiB), at(), { force: 'transientMr' }),
      rw.write(batch, at()),
    ]);
    // On siw the first bytes may be gone before it is known that nobody takes them.
    const codes = ended.flatMap((result) => (result.status === 'rejected' ? [result.reason.code] : []));
    expect(codes.length).toBeGreaterThan(0);
    for (const code of codes) expect(code).toMatch(/^ERR_RDMA_WC_/);
    expect((await rdmaErrorOf(async () => rw.read(new Uint8Array(10), at()))).code).toMatch(/^ERR_RDMA_WC_/);
    await builder.idle();
    expect(builder.arena.stats.blocks).toBe(blocks);
    expect(builder.counters.inFlight).toBe(0);
    expect(batch.state).toBe('mapped');
    await batch.unmap();
    const exposure = await builder.expose(block, Access.REMOTE_READ);
    expect(exposure.descriptor.length).toBe(64 * KiB);
    await exposure.revoke();
    (await builder.arena.alloc(1000)).free();
    expect(builder.mapSgeSingle(block).lkey).toBe(block.lkey);
  });
});
