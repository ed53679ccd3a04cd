import { describe, expect, it } from 'vitest';
import { BuddyAllocator, blockSize } from '../../../lib/dma/buddy.ts';

/** A small deterministic generator (mulberry32), so that a failure can be repeated. */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

describe('BuddyAllocator', () => {
  it('rounds to the next power of two from 64 bytes', () => {
    expect([1, 64, 65, 128, 4096, 4097, 2 ** 24].map(blockSize)).toEqual([
      64,
      64,
      128,
      128,
      4096,
      8192,
      2 ** 24,
    ]);
  });

  it('refuses sizes that are not a power of two in range', () => {
    for (const size of [0, 63, 96, 2 ** 31, 1.5, Number.NaN]) {
      expect(() => new BuddyAllocator(size), String(size)).toThrow(/power of two/);
    }
  });

  it('never overlaps, aligns every block to its size, and coalesces back to one block', () => {
    for (let seed = 1; seed <= 5; seed++) {
      const next = random(seed);
      const size = 2 ** 20;
      const buddy = new BuddyAllocator(size);
      const owner = new Int32Array(size / 64);
      const live: { id: number; offset: number; bytes: number }[] = [];
      let used = 0;
      for (let id = 1; id <= 4000; id++) {
        if (next() < 0.55) {
          const bytes = 1 + Math.floor(2 ** (next() * 16));
          const offset = buddy.alloc(bytes);
          const block = blockSize(bytes);
          if (offset < 0) {
            expect(buddy.largestFree).toBeLessThan(block);
            continue;
          }
          expect(offset % block).toBe(0);
          expect(offset + block).toBeLessThanOrEqual(size);
          if (block <= 4096) expect(Math.floor(offset / 4096)).toBe(Math.floor((offset + block - 1) / 4096));
          const units = owner.subarray(offset / 64, (offset + block) / 64);
          expect(units.every((unit) => unit === 0)).toBe(true);
          units.fill(id);
          live.push({ id, offset, bytes });
          used += block;
        } else if (live.length > 0) {
          const [gone] = live.splice(Math.floor(next() * live.length), 1);
          const block = blockSize(gone!.bytes);
          const units = owner.subarray(gone!.offset / 64, (gone!.offset + block) / 64);
          expect(units.every((unit) => unit === gone!.id)).toBe(true);
          units.fill(0);
          buddy.free(gone!.offset);
          used -= block;
        }
        expect(buddy.used).toBe(used);
        expect(buddy.blocks).toBe(live.length);
      }
      for (const { offset } of live) buddy.free(offset);
      expect(buddy.used).toBe(0);
      expect(buddy.largestFree).toBe(size);
      expect(buddy.alloc(size)).toBe(0);
    }
  });

  it('hands out every byte of a full slab', () => {
    const buddy = new BuddyAllocator(2 ** 16);
    const offsets = new Set<number>();
    for (let i = 0; i < 1024; i++) offsets.add(buddy.alloc(64));
    expect(offsets.size).toBe(1024);
    expect(offsets.has(-1)).toBe(false);
    expect(buddy.alloc(1)).toBe(-1);
    expect(buddy.largestFree).toBe(0);
  });

  it('rejects a double free and a free of what is not a block', () => {
    const buddy = new BuddyAllocator(4096);
    const offset = buddy.alloc(256);
    expect(() => buddy.free(offset + 64)).toThrow(/no allocated block/);
    expect(() => buddy.free(4096)).toThrow(/no allocated block/);
    expect(() => buddy.free(0.5)).toThrow(/no allocated block/);
    buddy.free(offset);
    expect(() => buddy.free(offset)).toThrow(/freed twice/);
    expect(buddy.used).toBe(0);
  });

  it('keeps a held block until its last release', () => {
    const buddy = new BuddyAllocator(4096);
    const offset = buddy.alloc(4096);
    expect(buddy.hold(offset + 100, 50)).toBe(true);
    expect(buddy.hold(offset, 4096)).toBe(true);
    buddy.free(offset);
    expect(() => buddy.free(offset)).toThrow(/freed twice/);
    expect(buddy.alloc(64)).toBe(-1);
    expect(buddy.hold(offset, 1)).toBe(false);
    buddy.release(offset + 100, 50);
    expect(buddy.alloc(64)).toBe(-1);
    buddy.release(offset, 4096);
    expect(buddy.alloc(4096)).toBe(offset);
  });

  it('holds all blocks of a range or none', () => {
    const buddy = new BuddyAllocator(4096);
    const [a, b, c] = [buddy.alloc(1024), buddy.alloc(1024), buddy.alloc(1024)];
    buddy.free(b);
    expect([a, b, c]).toEqual([0, 1024, 2048]);
    expect(buddy.hold(0, 3072)).toBe(false);
    buddy.free(a);
    expect(buddy.alloc(2048)).toBe(0);
    expect(buddy.hold(1500, 1500)).toBe(true);
    buddy.free(0);
    buddy.free(c);
    expect(buddy.used).toBe(3072);
    buddy.release(1500, 1500);
    expect(buddy.used).toBe(0);
    expect(buddy.largestFree).toBe(4096);
  });
});
