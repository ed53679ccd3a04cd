import { describe, expect, it } from 'vitest';
import { type Extent, type LayoutRules, layout } from '../../../lib/dma/layout.ts';
import { quirksOf } from '../../../lib/dma/quirks.ts';

const rules = (change: Partial<LayoutRules> = {}): LayoutRules => ({
  op: 'write',
  maxSges: 4,
  maxBytes: 2 ** 23,
  quirks: quirksOf('rxe', 'ib'),
  remoteAddr: 0,
  ...change,
});
const siw = quirksOf('siw', 'iwarp');
const extents = (...list: [addr: number, length: number][]): Extent[] =>
  list.map(([addr, length], i) => ({ addr, length, lkey: i + 1 }));

describe('layout', () => {
  it('fills work requests in order up to their SGEs, with running offsets', () => {
    const wrs = layout(extents([0x1000, 10], [0x2000, 20], [0x3000, 30]), rules({ maxSges: 2 }));
    expect(wrs).toEqual([
      {
        sges: [
          { addr: 0x1000, length: 10, lkey: 1 },
          { addr: 0x2000, length: 20, lkey: 2 },
        ],
        offset: 0,
        length: 30,
        signal: false,
      },
      { sges: [{ addr: 0x3000, length: 30, lkey: 3 }], offset: 30, length: 30, signal: false },
    ]);
  });

  it('continues a stretch longer than a message in the next work request', () => {
    const wrs = layout(extents([0x1000, 250], [0x9000, 60]), rules({ maxBytes: 100 }));
    expect(wrs.map((wr) => [wr.offset, wr.length])).toEqual([
      [0, 100],
      [100, 100],
      [200, 100],
      [300, 10],
    ]);
    expect(wrs[2]!.sges).toEqual([
      { addr: 0x1000 + 200, length: 50, lkey: 1 },
      { addr: 0x9000, length: 50, lkey: 2 },
    ]);
  });

  it('keeps every SGE below 2^31 bytes', () => {
    const wrs = layout(extents([0, 2 ** 32]), rules({ maxBytes: 2 ** 32 - 1 }));
    expect(wrs).toHaveLength(3);
    expect(wrs.flatMap((wr) => wr.sges).every((sge) => sge.length < 2 ** 31)).toBe(true);
    expect(wrs.reduce((sum, wr) => sum + wr.length, 0)).toBe(2 ** 32);
  });

  it('siw: splits a tiny READ where its remote range crosses a page', () => {
    const read = (length: number, remoteAddr: number) =>
      layout(extents([0x1000, length]), rules({ op: 'read', maxSges: 1, quirks: siw, remoteAddr })).map(
        ({ offset, length: bytes, sges }) => [offset, bytes, sges[0]!.addr],
      );
    expect(read(32, 0x5ffa)).toEqual([
      [0, 6, 0x1000],
      [6, 26, 0x1006],
    ]);
    expect(read(33, 0x5ffa)).toHaveLength(1);
    expect(read(32, 0x5fe0)).toHaveLength(1);
    expect(read(2, 0x5fff)).toHaveLength(2);
    // The last of a chain is what crosses here.
    const chain = layout(
      extents([0x1000, 4090], [0x9000, 20]),
      rules({ op: 'read', maxSges: 1, quirks: siw, remoteAddr: 0x5000 }),
    );
    expect(chain.map((wr) => [wr.offset, wr.length])).toEqual([
      [0, 4090],
      [4090, 6],
      [4096, 14],
    ]);
  });

  it('siw: gives a tiny SEND or WRITE that crosses a local page two SGEs', () => {
    for (const op of ['send', 'write'] as const) {
      const [wr] = layout(extents([0x1ffa, 20]), rules({ op, quirks: siw }));
      expect(wr!.sges).toEqual([
        { addr: 0x1ffa, length: 6, lkey: 1 },
        { addr: 0x2000, length: 14, lkey: 1 },
      ]);
    }
    // Also where every SGE has a work request of its own, and as two work requests where there is one SGE.
    expect(layout(extents([0x1ffa, 20]), rules({ quirks: siw, spread: true }))[0]!.sges).toHaveLength(2);
    const single = layout(extents([0x1ffa, 20]), rules({ quirks: siw, maxSges: 1 }));
    expect(single.map((wr) => [wr.offset, wr.length, wr.sges[0]!.addr])).toEqual([
      [0, 6, 0x1ffa],
      [6, 14, 0x2000],
    ]);
    expect(layout(extents([0x1ffa, 33]), rules({ quirks: siw }))[0]!.sges).toHaveLength(1);
    expect(layout(extents([0x1ffa, 20]), rules({ op: 'recv', quirks: siw }))[0]!.sges).toHaveLength(1);
  });

  it('siw: gives any tiny SEND or WRITE two SGEs, but for one byte', () => {
    for (const op of ['send', 'write'] as const) {
      const [wr] = layout(extents([0x1000, 16]), rules({ op, quirks: siw }));
      expect(wr!.sges).toEqual([
        { addr: 0x1000, length: 8, lkey: 1 },
        { addr: 0x1008, length: 8, lkey: 1 },
      ]);
    }
    expect(layout(extents([0x1000, 1]), rules({ quirks: siw }))[0]!.sges).toHaveLength(1);
    expect(layout(extents([0x1000, 33]), rules({ quirks: siw }))[0]!.sges).toHaveLength(1);
    expect(layout(extents([0x1000, 16]), rules({ op: 'recv', quirks: siw }))[0]!.sges).toHaveLength(1);
  });

  it('siw: signals every work request of a page or more; others none', () => {
    const list = extents([0x1000, 4096], [0x9000, 4095]);
    expect(layout(list, rules({ maxSges: 1, quirks: siw })).map((wr) => wr.signal)).toEqual([true, false]);
    expect(layout(list, rules({ maxSges: 1 })).map((wr) => wr.signal)).toEqual([false, false]);
  });

  it('does not cut tiny transfers on other devices', () => {
    const wrs = layout(extents([0x1ffa, 20]), rules({ op: 'read', remoteAddr: 0x5ffa }));
    expect(wrs).toHaveLength(1);
    expect(wrs[0]!.sges).toHaveLength(1);
  });
});
