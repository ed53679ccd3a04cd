import { describe, expect, it } from 'vitest';
import { Arena } from '../../../lib/dma/arena.ts';
import { type Fragments, toPieces } from '../../../lib/dma/fragments.ts';
import { detach, foreign } from './bytes.ts';
import { FakePd } from './fake-memory.ts';

const pd = new FakePd();
const shape = (fragments: Fragments) =>
  toPieces(fragments, pd).pieces.map(({ kind, index, position, length }) => ({
    kind,
    index,
    position,
    length,
  }));

describe('toPieces', () => {
  it('takes every kind of memory, alone or in any iterable', async () => {
    const arena = new Arena(pd, { slabBytes: 4096 });
    const block = await arena.alloc(10);
    const all = [
      foreign(3),
      new Float64Array(2),
      new DataView(new ArrayBuffer(5)),
      new ArrayBuffer(6),
      new SharedArrayBuffer(7),
      Buffer.alloc(100_000),
      block,
      block.bytes.subarray(2, 4),
    ];
    const lengths = [3, 16, 5, 6, 7, 100_000, 10, 2];
    expect(toPieces(all, pd).pieces.map((piece) => piece.length)).toEqual(lengths);
    expect(toPieces(new Set(all), pd).total).toBe(lengths.reduce((a, b) => a + b));
    all.forEach((fragment, i) => {
      expect(toPieces(fragment, pd).total).toBe(lengths[i]);
    });
    function* generate() {
      yield all[0]!;
      yield all[1]!;
    }
    expect(shape(generate())).toEqual([
      { kind: 'foreign', index: 0, position: 0, length: 3 },
      { kind: 'foreign', index: 1, position: 3, length: 16 },
    ]);
  });

  it('drops empty fragments and keeps the indices of the others', () => {
    expect(shape([foreign(0), foreign(2), new Uint8Array(new ArrayBuffer(8), 8), foreign(1)])).toEqual([
      { kind: 'foreign', index: 1, position: 0, length: 2 },
      { kind: 'foreign', index: 3, position: 2, length: 1 },
    ]);
    expect(shape([])).toEqual([]);
  });

  it('merges neighbours in the same memory, and only those', async () => {
    const arena = new Arena(pd, { slabBytes: 4096 });
    const { bytes } = await arena.alloc(100);
    expect(shape([bytes.subarray(0, 10), bytes.subarray(10, 30), bytes.subarray(31, 40)])).toEqual([
      { kind: 'arena', index: 0, position: 0, length: 30 },
      { kind: 'arena', index: 2, position: 30, length: 9 },
    ]);
    expect(shape([bytes.subarray(10, 30), bytes.subarray(0, 10)])).toHaveLength(2);
    const large = foreign(200_000);
    expect(shape([large.subarray(0, 100_000), foreign(200_000).subarray(100_000)])).toHaveLength(2);
    expect(shape([large.subarray(0, 100_000), foreign(0), large.subarray(100_000)])).toEqual([
      { kind: 'foreign', index: 0, position: 0, length: 200_000 },
    ]);
  });

  it('tells a slice of a small shared buffer from memory of its own', () => {
    const pooled = Buffer.from('a slice of the pool');
    expect(pooled.buffer.byteLength).not.toBe(pooled.byteLength);
    expect(shape(pooled)[0]!.kind).toBe('pool');
    expect(shape(foreign(8))[0]!.kind).toBe('foreign');
    expect(shape(foreign(64 * 1024).subarray(1))[0]!.kind).toBe('pool');
    expect(shape(foreign(64 * 1024 + 1).subarray(1))[0]!.kind).toBe('foreign');
  });

  it('takes arena memory of another protection domain for foreign', async () => {
    const other = await new Arena(new FakePd(), { slabBytes: 4096 }).alloc(10);
    expect(shape(other)[0]!.kind).toBe('foreign');
  });

  it('does not change its input', () => {
    const list = [foreign(0), foreign(4)];
    const copy = [...list];
    toPieces(list, pd);
    expect(list).toEqual(copy);
  });

  it('rejects detached memory by index', () => {
    const gone = foreign(100);
    detach(gone);
    expect(() => toPieces([foreign(1), gone], pd)).toThrow(/fragment 1 is detached/);
    expect(() => toPieces(gone.buffer, pd)).toThrow(/fragment 0 is detached/);
  });

  it('rejects resizable and growable memory by index', () => {
    type Make = new (length: number, options: { maxByteLength: number }) => ArrayBuffer;
    const resizable = new (ArrayBuffer as unknown as Make)(8, { maxByteLength: 16 });
    const growable = new (SharedArrayBuffer as unknown as Make)(8, { maxByteLength: 16 });
    expect(() => toPieces([foreign(1), foreign(1), new Uint8Array(resizable)], pd)).toThrow(
      /fragment 2 is a view of a resizable ArrayBuffer/,
    );
    expect(() => toPieces(growable, pd)).toThrow(/fragment 0 is a view of a growable SharedArrayBuffer/);
  });

  it('rejects freed arena memory and slabs that are gone', async () => {
    const arena = new Arena(pd, { slabBytes: 4096 });
    const freed = await arena.alloc(8);
    const kept = await arena.alloc(8);
    freed.free();
    expect(() => toPieces([freed], pd)).toThrow(/fragment 0 is an ArenaBuffer that was freed/);
    const view = kept.bytes;
    detach(view);
    expect(() => toPieces([foreign(1), view], pd)).toThrow(
      /fragment 1 lies in an arena slab that was detached/,
    );
    expect(() => toPieces(kept, pd)).toThrow(/detached/);
  });

  it('rejects what is not memory', () => {
    const wrong: unknown[] = ['text', 7, null, undefined, {}, () => 0];
    for (const value of wrong) {
      expect(() => toPieces(value as Fragments, pd), String(value)).toThrow(/fragments must be a Buffer/);
    }
    expect(() => toPieces([foreign(1), 'text'] as unknown as Fragments, pd)).toThrow(
      /fragments\[1\] must be.*got string/,
    );
    expect(() => toPieces([[foreign(1)]] as unknown as Fragments, pd)).toThrow(/got Array/);
  });
});
