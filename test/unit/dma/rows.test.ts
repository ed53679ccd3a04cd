// Every row of the strategy table, chosen by itself and carried out to the last completion: on fake devices, so that those
// rows are among them that no soft device has. The rows come from the table: one without a case here fails.

import { describe, expect, it } from 'vitest';
import { Arena } from '../../../lib/dma/arena.ts';
import { DmabufFragment, type Fragment } from '../../../lib/dma/fragments.ts';
import type { Extent } from '../../../lib/dma/layout.ts';
import type { SgeBuilderOptions } from '../../../lib/dma/sge-builder.ts';
import { table } from '../../../lib/dma/table.ts';
import { RwContext } from '../../../lib/rw/rw-context.ts';
import type { RwQp } from '../../../lib/rw/types.ts';
import { Access, Opcode } from '../../../lib/verbs/constants.ts';
import { foreign, pattern } from './bytes.ts';
import { FakePd } from './fake-memory.ts';
import { FakeQp } from './fake-qp.ts';

const KiB = 1024;
const PAGE = 4096;
const ALL = Access.LOCAL_WRITE | Access.REMOTE_READ | Access.REMOTE_WRITE;
/** Beside a row's own cases, this one is not in the table: what stands in for a row that finds no memory to lock. */
const WITHOUT_LOCKING = 13;

interface Ground {
  readonly pd: FakePd;
  /** Arena memory, and pages of it that are no neighbours. */
  readonly block: Buffer;
  readonly pages: readonly Buffer[];
}

interface Case {
  readonly op: 'read' | 'write';
  readonly memory: (ground: Ground) => Fragment[];
  /** What plan() says; all of it is what is then done. */
  readonly plan: {
    readonly strategy: string;
    readonly reason: RegExp;
    readonly wrs: number;
    readonly sges: number;
    readonly bytesCopied: number;
    readonly registers: number;
  };
  readonly device?: () => FakePd;
  readonly caps?: Partial<RwQp['caps']>;
  readonly options?: SgeBuilderOptions;
  readonly reuse?: boolean;
  /** What is said when the memory could not be locked, which a plan cannot know. */
  readonly instead?: RegExp;
  /** Stays when the operation is over. */
  readonly kept?: number;
}

/** A device of another kind: its memory is reached by descriptors, which stand for [memory]. */
function peerToPeer(memory: Uint8Array): FakePd {
  const pd = new FakePd('mlx5', 'ib', { peerToPeer: true });
  const regDmabufMr = async ({
    offset,
    length,
    access,
  }: {
    offset: number;
    length: number;
    access: number;
  }) => pd.register(memory.subarray(offset, offset + length), access);
  return Object.assign(pd, { regDmabufMr });
}

/** Keys over several extents of [pd], as a device with indirect keys makes them. */
function indirectKeys(pd: FakePd) {
  return {
    maxExtents: 16,
    build: async (extents: readonly Extent[], access: number) => {
      const parts = extents.flatMap(({ addr, length, lkey }) =>
        pd.resolve(addr, length, lkey, access, false),
      );
      const mr = pd.registerParts(parts, access);
      return { addr: mr.addr, lkey: mr.lkey, release: () => mr.close() };
    },
  };
}

/** Foreign memory with something in it. */
const own = (bytes: number) => foreign(pattern(bytes, bytes));
const faraway = foreign(pattern(20_000, 5));
const apart = ({ block }: Ground, count: number, bytes: number): Buffer[] =>
  Array.from({ length: count }, (_, i) => block.subarray(i * 2 * bytes, (i * 2 + 1) * bytes));

const cases: Readonly<Record<number, readonly Case[]>> = {
  0: [
    {
      op: 'write',
      memory: () => [foreign(0)],
      plan: { strategy: 'empty', reason: /^no bytes/, wrs: 1, sges: 1, bytesCopied: 0, registers: 0 },
    },
  ],
  1: [
    {
      op: 'write',
      memory: () => [own(40), own(20)],
      plan: {
        strategy: 'inline',
        reason: /60 bytes fits in maxInlineData/,
        wrs: 1,
        sges: 1,
        bytesCopied: 60,
        registers: 0,
      },
    },
    {
      op: 'write',
      memory: (ground) => apart(ground, 3, 20),
      plan: { strategy: 'inline', reason: /60 bytes fits/, wrs: 1, sges: 3, bytesCopied: 0, registers: 0 },
    },
  ],
  2: [
    {
      op: 'write',
      device: () => peerToPeer(faraway),
      memory: () => [new DmabufFragment(9, 100, 9000), own(50)],
      plan: {
        strategy: 'transientMr',
        reason: /memory of another device/,
        wrs: 1,
        sges: 2,
        bytesCopied: 50,
        registers: 1,
      },
    },
    {
      op: 'read',
      device: () => peerToPeer(faraway),
      memory: () => [new DmabufFragment(9, 8192, 10)],
      plan: {
        strategy: 'transientMr',
        reason: /by its dma-buf/,
        wrs: 1,
        sges: 1,
        bytesCopied: 0,
        registers: 1,
      },
    },
  ],
  4: [
    {
      op: 'read',
      device: () => new FakePd('cxgb4', 'iwarp'),
      memory: (ground) => [...apart(ground, 2, 1000), Buffer.from('a slice of the pool')],
      plan: {
        strategy: 'transientMr',
        reason: /iWARP READ sink goes on the wire/,
        wrs: 3,
        sges: 3,
        bytesCopied: 19,
        registers: 3,
      },
    },
  ],
  5: [
    {
      op: 'read',
      memory: ({ block }) => [block.subarray(7, 9000)],
      plan: {
        strategy: 'single',
        reason: /^one piece of arena memory/,
        wrs: 1,
        sges: 1,
        bytesCopied: 0,
        registers: 0,
      },
    },
  ],
  6: [
    {
      op: 'write',
      memory: (ground) => apart(ground, 4, 700),
      plan: {
        strategy: 'multi',
        reason: /^4 pieces .* fit in the 4 SGEs/,
        wrs: 1,
        sges: 4,
        bytesCopied: 0,
        registers: 0,
      },
    },
  ],
  7: [
    {
      op: 'read',
      memory: (ground) => apart(ground, 7, 700),
      plan: {
        strategy: 'chain',
        reason: /^7 pieces .* exceed the 4 SGEs/,
        wrs: 2,
        sges: 7,
        bytesCopied: 0,
        registers: 0,
      },
    },
  ],
  8: [
    {
      op: 'write',
      memory: ({ pages }) => [pages[3]!.subarray(100), pages[0]!, pages[2]!.subarray(0, 30)],
      caps: { maxSendSge: 1, maxSendWr: 2 },
      options: { bounceMax: PAGE },
      plan: {
        strategy: 'linear',
        reason: /over a window, registered for this transfer/,
        wrs: 1,
        sges: 1,
        bytesCopied: 0,
        registers: 1,
      },
    },
    {
      op: 'read',
      device: () => new FakePd('mlx5', 'ib', { onDemandPaging: true }),
      memory: ({ pages }) => [pages[3]!, pages[0]!, pages[2]!],
      caps: { maxSendSge: 1, maxSendWr: 2 },
      plan: {
        strategy: 'linear',
        reason: /over a window with a standing key/,
        wrs: 1,
        sges: 1,
        bytesCopied: 0,
        registers: 0,
      },
      kept: 1,
    },
  ],
  9: [
    {
      op: 'write',
      device: () => new FakePd('mlx5'),
      memory: (ground) => apart(ground, 9, 333),
      caps: { maxSendWr: 2 },
      plan: {
        strategy: 'indirectMkey',
        reason: /^9 pieces exceed .* one indirect key/,
        wrs: 1,
        sges: 1,
        bytesCopied: 0,
        registers: 0,
      },
    },
    {
      op: 'read',
      device: () => new FakePd('mlx5'),
      memory: (ground) => apart(ground, 9, 333),
      caps: { maxSendWr: 2 },
      plan: {
        strategy: 'indirectMkey',
        reason: /one indirect key/,
        wrs: 1,
        sges: 1,
        bytesCopied: 0,
        registers: 0,
      },
    },
  ],
  10: [
    {
      op: 'write',
      memory: (ground) => [own(3000), ...apart(ground, 2, 500)],
      plan: {
        strategy: 'bounce',
        reason: /^3000 of 4000 bytes are foreign/,
        wrs: 1,
        sges: 3,
        bytesCopied: 3000,
        registers: 0,
      },
    },
    {
      op: 'read',
      memory: (ground) => apart(ground, 9, 10),
      plan: {
        strategy: 'bounce',
        reason: /^9 pieces need more than chainMax 2/,
        wrs: 1,
        sges: 1,
        bytesCopied: 90,
        registers: 0,
      },
    },
  ],
  11: [
    {
      op: 'read',
      memory: () => [own(100 * KiB)],
      options: { bounceMax: 64 * KiB },
      reuse: true,
      plan: {
        strategy: 'cachedMr',
        reason: /used again: registered to stay/,
        wrs: 1,
        sges: 1,
        bytesCopied: 0,
        registers: 1,
      },
      kept: 1,
    },
  ],
  12: [
    {
      op: 'write',
      memory: () => [own(100 * KiB), own(100)],
      options: { bounceMax: 64 * KiB },
      plan: {
        strategy: 'transientMr',
        reason: /more than bounceMax 65536/,
        wrs: 1,
        sges: 2,
        bytesCopied: 100,
        registers: 1,
      },
    },
  ],
  [WITHOUT_LOCKING]: [
    {
      op: 'write',
      device: () => Object.assign(new FakePd(), { lockable: 16 * 1024 * KiB }),
      memory: () => [own(100 * KiB)],
      options: { bounceMax: 64 * KiB },
      plan: {
        strategy: 'bounce',
        reason: /more than bounceMax/,
        wrs: 1,
        sges: 1,
        bytesCopied: 100 * KiB,
        registers: 0,
      },
      instead: /no memory could be locked/,
    },
  ],
};

/** The bytes of the fragments, where the CPU reaches them; of a dma-buf those that it stands for. */
const bytesOf = (fragments: readonly Fragment[]): Buffer =>
  Buffer.concat(
    fragments.map((fragment) =>
      fragment instanceof DmabufFragment
        ? faraway.subarray(fragment.offset, fragment.offset + fragment.length)
        : (fragment as Uint8Array),
    ),
  );

async function carryOut(
  row: number,
  { op, memory, plan, device, caps, options, reuse, instead, kept = 0 }: Case,
) {
  const pd = device?.() ?? new FakePd();
  const peer = new FakePd();
  const qp = new FakeQp(pd, peer, caps);
  const rw = new RwContext(qp, { ...options, ...(row === 9 ? { indirect: indirectKeys(pd) } : {}) });
  const arena = Arena.for(pd);
  const { bytes: block } = await arena.alloc(64 * KiB);
  const pages = await Promise.all(Array.from({ length: 8 }, () => arena.alloc(PAGE)));
  const ground = { pd, block, pages: pages.filter((_, i) => i % 2 === 0).map(({ bytes }) => bytes) };
  block.set(pattern(block.length, 3));
  const far = peer.register(new Uint8Array(256 * KiB), ALL);
  const fragments = memory(ground);
  const { blocks } = arena.stats;
  const regions = pd.live.size;
  const { builder } = rw;

  // What it would do …
  const { strategy, reason, ...cost } = plan;
  const planned = builder.plan(op, fragments, { reuse });
  if (instead === undefined) {
    expect(planned).toMatchObject({ row, strategy, ...cost });
    expect(planned.reason).toMatch(reason);
  }
  // … is what it does: the mapping,
  const mapping = await builder.map(op, memory(ground), { reuse });
  expect(mapping.plan).toMatchObject({ row, strategy, wrs: cost.wrs, sges: cost.sges });
  expect(mapping.plan.reason).toMatch(instead ?? reason);
  mapping.retire(5);
  await builder.cache.clear();
  await builder.idle();
  expect(arena.stats.blocks).toBe(blocks);

  // and the work requests, to the last byte, and back.
  const total = bytesOf(fragments).length;
  const wanted = op === 'read' ? pattern(total, 77) : bytesOf(fragments);
  if (op === 'read') far.view.set(wanted, 500);
  const moved = rw[op](fragments, { addr: far.addr + 500, rkey: far.rkey }, { reuse: reuse ?? false });
  await rw.ready();
  expect(qp.posted.map(({ wr }) => wr.opcode)).toEqual(
    Array(plan.wrs).fill(op === 'read' ? Opcode.RDMA_READ : Opcode.RDMA_WRITE),
  );
  expect(qp.posted.reduce((sum, { wr }) => sum + (wr.sges?.length ?? 1), 0)).toBe(plan.sges);
  qp.run();
  await expect(moved).resolves.toEqual({ bytes: total, strategy });
  const arrived = op === 'read' ? bytesOf(fragments) : Buffer.from(far.view.subarray(500, 500 + total));
  expect(arrived.equals(wanted)).toBe(true);
  expect(far.view.subarray(0, 500).every((byte) => byte === 0)).toBe(true);
  expect(far.view.subarray(500 + total).every((byte) => byte === 0)).toBe(true);

  // Everything is undone.
  await builder.idle();
  expect(pd.live.size - regions).toBe(kept);
  expect(arena.stats.blocks).toBe(blocks);
  expect(builder.windows!.stats.links).toBe(0);
  expect(builder.counters).toMatchObject({ inFlight: 0, completed: 1, failed: 1 });
}

const rows = [
  ...table.map(({ row, strategy }) => [row, strategy] as const),
  [WITHOUT_LOCKING, 'bounce'] as const,
];

describe.each(rows)('row %i, %s', (row, strategy) => {
  it('is chosen by itself, posted and undone', async () => {
    const those = cases[row] ?? [];
    expect(those.length, `row ${row} has no case here`).toBeGreaterThan(0);
    for (const one of those) {
      expect(one.plan.strategy).toBe(strategy);
      await carryOut(row, one);
    }
  });
});

it('every case here is of a row', () => {
  expect(Object.keys(cases).map(Number)).toEqual(rows.map(([row]) => row));
});
