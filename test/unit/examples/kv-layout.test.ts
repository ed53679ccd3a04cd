import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Extents, GRANULE } from '../../../examples/kv/extents.ts';
import {
  BUCKET_BYTES,
  BUCKET_SLOTS,
  blockBytes,
  changeBucket,
  checkBucket,
  clearBlock,
  findSlots,
  formatBucket,
  isFree,
  nextVersion,
  readBlock,
  type Slot,
  writeBlock,
  writeSlot,
} from '../../../examples/kv/layout.ts';

const bytes = (maxLength: number) => fc.uint8Array({ maxLength }).map((array) => Buffer.from(array));
const u32 = fc.nat({ max: 0xffff_ffff });
const versions = fc.nat({ max: Number.MAX_SAFE_INTEGER - 1 }).map(nextVersion);
const slots: fc.Arbitrary<Slot> = fc.record({
  hash: u32,
  segment: u32,
  offset: u32,
  length: fc.integer({ min: 20, max: 0xffff_ffff }),
  version: versions,
  checksum: u32,
});

function slotOf(block: Buffer, checksum: number, version: number): Slot {
  return { hash: 1, segment: 0, offset: 0, length: block.length, version, checksum };
}

/** What a READ brings that sees the pieces before [cut] as they were and the others as they are, or the other way. */
function torn(before: Buffer, after: Buffer, cut: number, oldFirst: boolean): Buffer {
  const [first, second] = oldFirst ? [before, after] : [after, before];
  return Buffer.concat([first.subarray(0, cut), second.subarray(cut)]);
}

describe('blocks', () => {
  it('give back what was written, to the key only', () => {
    fc.assert(
      fc.property(bytes(255), bytes(2000), versions, bytes(255), (key, value, version, other) => {
        const block = Buffer.alloc(blockBytes(key.length, value.length), 0xee);
        const slot = slotOf(block, writeBlock(block, key, value, version), version);
        expect(readBlock(block, slot, key)).toEqual(value);
        if (!key.equals(other)) expect(readBlock(block, slot, other)).toBe('otherKey');
        clearBlock(block);
        expect(readBlock(block, slot, key)).toBe('torn');
      }),
    );
  });

  it('cut anywhere while they are replaced are torn', () => {
    fc.assert(
      fc.property(bytes(40), bytes(200), bytes(40), versions, fc.nat(), fc.boolean(), (...args) => {
        const [key, value, otherKey, version, at, oldFirst] = args;
        const before = Buffer.alloc(blockBytes(key.length, value.length));
        const slot = slotOf(before, writeBlock(before, key, value, version), version);
        const after = Buffer.from(before);
        const keep = Math.min(otherKey.length, before.length - 20);
        writeBlock(
          after,
          otherKey.subarray(0, keep),
          Buffer.alloc(before.length - 20 - keep, 1),
          nextVersion(version),
        );
        const cut = 1 + (at % (before.length - 1));
        const read = torn(before, after, cut, oldFirst);
        expect(readBlock(read, slot, key)).toEqual(read.equals(before) ? value : 'torn');
      }),
    );
  });

  it('damaged in any one byte are torn', () => {
    fc.assert(
      fc.property(
        bytes(20),
        bytes(100),
        fc.nat(),
        fc.integer({ min: 1, max: 255 }),
        (key, value, at, flip) => {
          const block = Buffer.alloc(blockBytes(key.length, value.length));
          const slot = slotOf(block, writeBlock(block, key, value, 7), 7);
          block[at % block.length]! ^= flip;
          expect(readBlock(block, slot, key)).toBe('torn');
        },
      ),
    );
  });

  it('never have the stamp of an invalid one', () => {
    expect(nextVersion(2 ** 32 - 1)).toBe(2 ** 32 + 1);
    expect(nextVersion(0)).toBe(1);
  });
});

describe('buckets', () => {
  it('give back their slots', () => {
    fc.assert(
      fc.property(fc.array(slots, { maxLength: BUCKET_SLOTS }), u32, u32, (list, index, generation) => {
        const bucket = Buffer.alloc(BUCKET_BYTES, 0xee);
        formatBucket(bucket, index, generation);
        for (const [position, slot] of list.entries()) {
          expect(isFree(bucket, position)).toBe(true);
          changeBucket(bucket, () => writeSlot(bucket, position, slot));
        }
        expect(checkBucket(bucket, index, generation)).toBe('whole');
        expect(checkBucket(bucket, index ^ 1, generation)).toBe('other');
        expect(checkBucket(bucket, index, generation ^ 1)).toBe('other');
        for (const { hash } of list) {
          expect(findSlots(bucket, hash)).toEqual(list.filter((slot) => slot.hash === hash));
        }
      }),
    );
  });

  it('cut anywhere while they are changed are torn', () => {
    fc.assert(
      fc.property(slots, slots, fc.integer({ min: 1, max: BUCKET_BYTES - 1 }), fc.boolean(), (...args) => {
        const [one, other, cut, oldFirst] = args;
        const bucket = Buffer.alloc(BUCKET_BYTES);
        formatBucket(bucket, 3, 1);
        changeBucket(bucket, () => writeSlot(bucket, 0, one));
        const before = Buffer.from(bucket);
        changeBucket(bucket, () => writeSlot(bucket, 0, other));
        const read = torn(before, bucket, cut, oldFirst);
        const whole = read.equals(before) || read.equals(bucket);
        expect(checkBucket(read, 3, 1)).toBe(whole ? 'whole' : 'torn');
      }),
    );
  });

  it('are torn for as long as they are being changed', () => {
    const bucket = Buffer.alloc(BUCKET_BYTES);
    formatBucket(bucket, 0, 1);
    changeBucket(bucket, () => expect(checkBucket(bucket, 0, 1)).toBe('torn'));
    expect(checkBucket(bucket, 0, 1)).toBe('whole');
  });
});

describe('extents', () => {
  it('never overlap, join again, and are found whenever there is one', () => {
    const command = fc.record({
      take: fc.boolean(),
      bytes: fc.integer({ min: 1, max: 5000 }),
      pick: fc.nat(),
    });
    fc.assert(
      fc.property(fc.array(command, { maxLength: 200 }), (commands) => {
        const total = 64 * 1024;
        const extents = new Extents(total);
        const taken: { at: number; bytes: number }[] = [];
        const round = (size: number) => Math.ceil(size / GRANULE) * GRANULE;
        for (const { take, bytes: size, pick } of commands) {
          if (take) {
            const at = extents.alloc(size);
            const gaps = gapsOf(taken, total, round);
            if (at < 0) expect(Math.max(0, ...gaps)).toBeLessThan(round(size));
            else taken.push({ at, bytes: size });
          } else if (taken.length > 0) {
            const [one] = taken.splice(pick % taken.length, 1);
            extents.release(one!.at, one!.bytes);
          }
          // Throws when two overlap.
          gapsOf(taken, total, round);
          expect(extents.free).toBe(total - taken.reduce((sum, one) => sum + round(one.bytes), 0));
        }
        for (const { at, bytes: size } of taken) extents.release(at, size);
        expect(extents.alloc(total)).toBe(0);
      }),
    );
  });
});

/** Lengths of what is free between what is taken. */
function gapsOf(
  taken: readonly { at: number; bytes: number }[],
  total: number,
  round: (size: number) => number,
): number[] {
  const gaps: number[] = [];
  let end = 0;
  for (const { at, bytes: size } of [...taken].sort((a, b) => a.at - b.at)) {
    if (at < end || at % GRANULE !== 0 || at + size > total) throw new Error(`${at} … ${at + size} overlaps`);
    gaps.push(at - end);
    end = at + round(size);
  }
  gaps.push(total - end);
  return gaps;
}
