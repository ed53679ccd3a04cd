import { beforeAll, describe, expect, it } from 'vitest';
import { Arena, type ArenaBuffer } from '../../../lib/dma/arena.ts';
import type { Fragment } from '../../../lib/dma/fragments.ts';
import { SgeBuilder, type SgeBuilderOptions } from '../../../lib/dma/sge-builder.ts';
import { table } from '../../../lib/dma/table.ts';
import type { DmaOp } from '../../../lib/dma/types.ts';
import { RdmaError, WcStatus } from '../../../lib/errors.ts';
import type { RwQp } from '../../../lib/rw/types.ts';
import { foreign } from './bytes.ts';
import { FakePd } from './fake-memory.ts';
import { FakeQp } from './fake-qp.ts';

const KiB = 1024;
let pd: FakePd;
let blocks: ArenaBuffer[];

beforeAll(async () => {
  pd = new FakePd();
  // Every second block, so that no two are neighbours.
  const all: ArenaBuffer[] = [];
  for (let i = 0; i < 128; i++) all.push(await Arena.for(pd).alloc(4096));
  blocks = all.filter((_, i) => i % 2 === 0);
});

const builder = (caps: Partial<RwQp['caps']> = {}, options: SgeBuilderOptions = {}) =>
  new SgeBuilder(new FakeQp(pd, pd, { maxSendWr: 64, ...caps }), options);

/** [n] arena pieces of [bytes] each. */
const arena = (n: number, bytes = 1000): Fragment[] =>
  blocks.slice(0, n).map((block) => block.bytes.subarray(0, bytes));

const ops: readonly DmaOp[] = ['send', 'recv', 'write', 'read'];

describe('the strategy table chooses by itself', () => {
  const cases: [
    name: string,
    op: DmaOp,
    fragments: () => Fragment[],
    plan: object,
    caps?: Partial<RwQp['caps']>,
  ][] = [
    ['nothing', 'write', () => [], { row: 0, strategy: 'empty', wrs: 1, sges: 1 }],
    ['nothing but empty fragments', 'recv', () => [foreign(0)], { row: 0, strategy: 'empty' }],
    [
      'a little foreign memory to send',
      'send',
      () => [foreign(40), foreign(24)],
      { row: 1, strategy: 'inline', wrs: 1, sges: 1, bytesCopied: 64, registers: 0 },
    ],
    [
      'a little arena memory to write',
      'write',
      () => arena(2, 32),
      { row: 1, strategy: 'inline', sges: 2, bytesCopied: 0 },
    ],
    [
      'a little in more pieces than SGEs',
      'write',
      () => arena(5, 8),
      { row: 1, strategy: 'inline', sges: 1, bytesCopied: 40 },
    ],
    ['one byte too many for inline', 'send', () => arena(1, 65), { row: 5, strategy: 'single' }],
    ['a little to read', 'read', () => arena(1, 8), { row: 5, strategy: 'single', sges: 1, bytesCopied: 0 }],
    ['a little to receive', 'recv', () => arena(1, 8), { row: 5, strategy: 'single' }],
    [
      'as many pieces as SGEs',
      'write',
      () => arena(4),
      { row: 6, strategy: 'multi', wrs: 1, sges: 4, bytesCopied: 0 },
    ],
    [
      'the READ limit is its own',
      'read',
      () => arena(2),
      { row: 7, strategy: 'chain', wrs: 2, sges: 2 },
      { maxReadSge: 1 },
    ],
    [
      'the RECV limit is its own',
      'recv',
      () => arena(2),
      { row: 10, strategy: 'bounce', wrs: 1, sges: 1, bytesCopied: 2000 },
      { maxRecvSge: 1 },
    ],
    [
      'one piece too many, splittable',
      'write',
      () => arena(5),
      { row: 7, strategy: 'chain', wrs: 2, sges: 5 },
    ],
    [
      'one piece too many, a message',
      'send',
      () => arena(5),
      { row: 10, strategy: 'bounce', wrs: 1, bytesCopied: 5000 },
    ],
    [
      'a chain longer than chainMax of little data',
      'read',
      () => arena(20),
      { row: 10, strategy: 'bounce', bytesCopied: 20_000 },
      { maxReadSge: 1 },
    ],
    [
      'a chain longer than chainMax of much data',
      'read',
      () => arena(20, 4096),
      { row: 7, strategy: 'chain', wrs: 20 },
      { maxReadSge: 1 },
    ],
    [
      'more than one message',
      'read',
      () => [blocks[0]!.bytes],
      { row: 7, strategy: 'chain', wrs: 4, sges: 4 },
      { maxMessage: 1024 },
    ],
    [
      'foreign memory up to bounceMax',
      'read',
      () => [foreign(64 * KiB)],
      { row: 10, strategy: 'bounce', bytesCopied: 64 * KiB, registers: 0 },
    ],
    [
      'foreign memory up to bounceMax beside arena memory',
      'write',
      () => [foreign(64 * KiB), ...arena(1)],
      { row: 10, strategy: 'bounce', sges: 2, bytesCopied: 64 * KiB, registers: 0 },
    ],
    [
      'only the foreign part is copied',
      'write',
      () => [...arena(1), foreign(100), foreign(200), ...arena(2).slice(1)],
      { row: 10, strategy: 'bounce', sges: 3, bytesCopied: 300 },
    ],
    [
      'everything is copied when the foreign part alone does not help',
      'send',
      () => [...arena(4), foreign(100)],
      { row: 10, strategy: 'bounce', sges: 1, bytesCopied: 4100 },
    ],
    [
      'foreign memory above bounceMax',
      'recv',
      () => [foreign(64 * KiB + 1)],
      { row: 12, strategy: 'transientMr', wrs: 1, sges: 1, bytesCopied: 0, registers: 1 },
    ],
    [
      'a header beside a large body',
      'send',
      () => [foreign(4095), foreign(100 * KiB), Buffer.from('pool')],
      { row: 12, strategy: 'transientMr', sges: 3, bytesCopied: 4099, registers: 1 },
    ],
    [
      'foreign memory in more pieces than SGEs, splittable',
      'write',
      () => Array.from({ length: 5 }, () => foreign(64 * KiB)),
      { row: 12, strategy: 'transientMr', wrs: 2, sges: 5, registers: 5 },
    ],
  ];
  it.each(cases)('%s: %s', (_name, op, fragments, plan, caps) => {
    expect(builder(caps).plan(op, fragments())).toMatchObject(plan);
  });

  it('says why, with the numbers', () => {
    const reason = (
      op: DmaOp,
      fragments: Fragment[],
      caps: Partial<RwQp['caps']> = {},
      options: SgeBuilderOptions = {},
    ) => builder(caps, options).plan(op, fragments).reason;
    expect(reason('send', [foreign(40)])).toBe('send of 40 bytes fits in maxInlineData 64');
    expect(reason('read', arena(1))).toBe(
      'one piece of arena memory, 1000 bytes: one SGE with the local key',
    );
    expect(reason('write', arena(3))).toBe('3 pieces of arena memory fit in the 4 SGEs of one write');
    expect(reason('write', arena(5))).toBe('5 pieces of arena memory exceed the 4 SGEs of one write');
    expect(reason('read', [blocks[0]!], { maxMessage: 1024 })).toBe(
      '4096 bytes exceed a message of 1024 bytes',
    );
    expect(reason('read', [foreign(100), ...arena(1)])).toBe(
      '100 of 1100 bytes are foreign, at most bounceMax 65536: copied, not registered',
    );
    expect(reason('send', arena(5))).toMatch(
      /5 pieces need more than the 4 SGEs of one send, and 5000 bytes/,
    );
    expect(reason('write', arena(5), {}, { chainMax: 1 })).toMatch(/more than chainMax 1 work requests/);
    expect(reason('read', [foreign(70_000)])).toBe(
      '70000 of 70000 bytes are foreign, more than bounceMax 65536: registered for this transfer',
    );
    expect(reason('read', arena(1), {}, { force: 'bounce' })).toBe('forced: bounce');
  });

  it('is inline up to inlineMax, which forcing passes over', () => {
    const inline = (bytes: number, force?: 'inline') =>
      builder({}, { inlineMax: 16 }).plan('send', [foreign(bytes)], { force }).strategy;
    expect([inline(16), inline(17), inline(64, 'inline')]).toEqual(['inline', 'bounce', 'inline']);
  });

  it('never registers a pool slice, whatever bounceMax is', () => {
    const plan = builder({}, { bounceMax: 0 }).plan('read', [Buffer.from('a slice of the pool')]);
    expect(plan).toMatchObject({ row: 12, registers: 0, bytesCopied: 19 });
  });

  it('fails with EMSGSIZE and the numbers when nothing serves', () => {
    const many = Array.from({ length: 5 }, () => foreign(64 * KiB));
    expect(() => builder().plan('send', many)).toThrow(
      /no strategy serves this send: 5 pieces, 327680 bytes.*exceed the limit of 4 SGEs.*bounceMax \(now 65536\)/,
    );
    expect(() => builder().plan('recv', many)).toThrow(
      expect.objectContaining({ code: 'EMSGSIZE', errno: -90 }),
    );
    expect(() => builder({ maxMessage: 100_000 }).plan('send', many.slice(0, 2))).toThrow(
      /131072 bytes exceed a message of 100000 bytes/,
    );
    expect(() => builder({ maxSendWr: 2, maxReadSge: 1 }).plan('read', many)).toThrow(
      /it needs 5 work requests and the send queue has 2/,
    );
  });
});

describe('a forced strategy', () => {
  const plan = (op: DmaOp, force: SgeBuilderOptions['force'], fragments: Fragment[], caps = {}) =>
    builder(caps).plan(op, fragments, { force });

  it('is taken where the table would choose another', () => {
    for (const op of ops) {
      expect(plan(op, 'single', arena(1))).toMatchObject({ row: 5, sges: 1, bytesCopied: 0 });
      expect(plan(op, 'multi', arena(2))).toMatchObject({ row: 6, wrs: 1, sges: 2 });
      expect(plan(op, 'bounce', arena(2))).toMatchObject({ row: 10, wrs: 1, sges: 1, bytesCopied: 2000 });
      expect(plan(op, 'transientMr', [...arena(1), foreign(8)])).toMatchObject({
        row: 12,
        sges: 2,
        bytesCopied: 0,
        registers: 2,
      });
    }
    expect(plan('write', 'chain', arena(2))).toMatchObject({ row: 7, wrs: 2, sges: 2 });
    expect(plan('read', 'chain', arena(3))).toMatchObject({ row: 7, wrs: 3 });
    expect(plan('send', 'inline', arena(2, 8))).toMatchObject({ row: 1, wrs: 1 });
    expect(plan('write', 'bounce', [foreign(1024 * KiB)])).toMatchObject({ bytesCopied: 1024 * KiB });
    expect(plan('write', 'bounce', [new ArrayBuffer(65 * 1024 * KiB)])).toMatchObject({ wrs: 9, sges: 9 });
    expect(plan('send', 'linear', arena(3, 4096))).toMatchObject({ row: 8, wrs: 1, sges: 1, registers: 1 });
    expect(plan('recv', 'cachedMr', [foreign(8)])).toMatchObject({ row: 11, sges: 1, registers: 1 });
    const mixed = [...arena(1), foreign(8), Buffer.from('pool')];
    expect(plan('send', 'cachedMr', mixed)).toMatchObject({ sges: 3, registers: 1, bytesCopied: 4 });
  });

  it('does not apply to an empty transfer', () => {
    for (const op of ops) expect(plan(op, 'chain', [])).toMatchObject({ row: 0, strategy: 'empty' });
  });

  const refusals: [force: SgeBuilderOptions['force'], op: DmaOp, fragments: () => Fragment[], why: RegExp][] =
    [
      ['inline', 'read', () => arena(1, 8), /only send and write can be inline, not read/],
      ['inline', 'recv', () => arena(1, 8), /not recv/],
      ['inline', 'send', () => arena(1, 65), /65 bytes exceed maxInlineData 64/],
      ['single', 'write', () => arena(2), /there are 2 pieces, not one/],
      ['single', 'write', () => [foreign(10)], /fragment 0 is foreign memory, not arena memory/],
      ['multi', 'write', () => arena(1), /there is one piece/],
      ['multi', 'write', () => arena(5), /5 pieces exceed the limit of 4 SGEs for write/],
      ['multi', 'send', () => [...arena(1), Buffer.from('x')], /fragment 1 is pool memory/],
      ['chain', 'send', () => arena(5), /send must be one work request/],
      ['chain', 'recv', () => arena(5), /recv must be one work request/],
      ['chain', 'read', () => arena(1), /a chain needs at least two work requests/],
      ['chain', 'read', () => [...arena(1), foreign(10)], /fragment 1 is foreign/],
      ['bounce', 'send', () => [new ArrayBuffer(65 * 1024 * KiB)], /send must be one work request/],
      ['linear', 'write', () => [...arena(1), foreign(10)], /fragment 1 is foreign memory/],
      ['linear', 'write', () => arena(2), /fragment 0 ends 1000 bytes into a page, and fragment 1 follows/],
      ['indirectMkey', 'write', () => arena(2), /this device has no indirect memory keys/],
      ['cachedMr', 'write', () => arena(2), /there is no foreign memory to keep registered/],
      ['transientMr', 'write', () => [Buffer.from('x')], /fragment 0 is a slice of a shared pool/],
      ['transientMr', 'send', () => arena(5), /5 pieces exceed the limit of 4 SGEs/],
    ];
  it.each(refusals)('%s is refused for %s', (force, op, fragments, why) => {
    const call = () => plan(op, force, fragments());
    expect(call).toThrow(why);
    expect(call).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }));
  });

  it('chain is refused for more pieces than the send queue has slots', () => {
    expect(() => plan('write', 'chain', arena(5), { maxSendWr: 4 })).toThrow(
      /needs 5 work requests, one for each SGE, and the send queue has 4/,
    );
    expect(plan('write', 'chain', arena(4), { maxSendWr: 4 })).toMatchObject({ wrs: 4 });
  });

  it('must be a strategy', () => {
    for (const force of ['empty', 'quick']) {
      expect(() => plan('read', force as 'single', arena(1))).toThrow(
        /force must be one of inline, single, multi, chain, linear, indirectMkey, bounce, cachedMr, transientMr/,
      );
    }
  });
});

describe('iWARP', () => {
  it('siw: one SGE per READ, by local key', () => {
    const siw = new FakePd('siw', 'iwarp');
    const b = new SgeBuilder(new FakeQp(siw, siw), { bounceMax: 64 * KiB });
    const reads = [foreign(40_000), foreign(40_000)];
    expect(b.plan('read', reads)).toMatchObject({ row: 12, wrs: 2, sges: 2, registers: 2 });
    expect(b.plan('write', reads)).toMatchObject({ row: 12, wrs: 1, sges: 2 });
  });

  it('hardware: a READ sink never has the arena key', async () => {
    const nic = new FakePd('cxgb4', 'iwarp');
    const { bytes } = await Arena.for(nic).alloc(100);
    const b = new SgeBuilder(new FakeQp(nic, nic));
    expect(b.plan('read', [bytes])).toMatchObject({ row: 4, strategy: 'transientMr', registers: 1, sges: 1 });
    expect(b.plan('read', [bytes, foreign(10), Buffer.from('pool')])).toMatchObject({
      row: 4,
      wrs: 3,
      registers: 3,
      bytesCopied: 4,
    });
    expect(b.plan('write', [bytes])).toMatchObject({ row: 5 });
    for (const force of ['single', 'bounce'] as const) {
      expect(() => b.plan('read', [bytes], { force })).toThrow(/READ sink goes on the wire/);
    }
    expect(b.plan('read', [bytes], { force: 'transientMr' })).toMatchObject({ registers: 1 });
    expect(() => b.plan('read', [foreign(10)], { force: 'cachedMr' })).toThrow(/READ sink goes on the wire/);
    expect(() => b.plan('read', [foreign(10)], { force: 'linear' })).toThrow(/READ sink goes on the wire/);
    const many = Array.from({ length: 17 }, () => foreign(10));
    expect(() => b.plan('read', many)).toThrow(/it needs 17 work requests and the send queue has 16/);
    // Nothing else serves, so what could not be registered is not copied.
    nic.failWith = new RdmaError('ENOMEM', 'fake: RLIMIT_MEMLOCK');
    await expect(b.map('read', [bytes])).rejects.toThrow(
      /fragment 0 \(100 bytes\) could not be mapped: fake/,
    );
    nic.failWith = undefined;
    const mapping = await b.map('read', [bytes]);
    expect(mapping.retire(WcStatus.SUCCESS)).toBeUndefined();
  });
});

describe('limits of a READ', () => {
  it('are those that the user wants, where the device likes fewer SGEs', () => {
    const wrs = (readSgeSoftLimit: number) => builder({}, { readSgeSoftLimit }).plan('read', arena(4)).wrs;
    expect([wrs(4), wrs(2), wrs(9)]).toEqual([1, 2, 1]);
    expect(() => builder({}, { readSgeSoftLimit: 0 })).toThrow(/readSgeSoftLimit must be an integer from 1/);
  });

  it('siw: a peer that is not trusted gets no key but that of a region of its own', async () => {
    const siw = new FakePd('siw', 'iwarp');
    const { bytes } = await Arena.for(siw).alloc(100);
    const row = (untrustedPeer: boolean) =>
      new SgeBuilder(new FakeQp(siw), { untrustedPeer }).plan('read', bytes).row;
    expect([row(false), row(true)]).toEqual([5, 4]);
  });
});

it('the table is in the order of its rows', () => {
  const numbers = table.map((row) => row.row);
  expect(numbers).toEqual([...numbers].sort((a, b) => a - b));
});
