import { describe, expect, it } from 'vitest';
import { layout } from '../../../lib/layout.ts';
import { type OnRetired, WorkRing } from '../../../lib/ring/work-ring.ts';

const CAPACITY = 8;
const FLUSHED = 5;

function makeRing(): WorkRing {
  return new WorkRing({
    maxWr: CAPACITY,
    capacity: CAPACITY,
    maxSge: 1,
    maxSgeRead: 1,
    maxInline: 0,
    maxMessage: 4096,
    ringBytes: CAPACITY * (layout.workRequest.words + layout.sge.words) * 4,
    type: 2,
    signalAll: false,
  });
}

/** A callback that writes down what it is told, after its name. */
function teller(told: string[], name: string): OnRetired {
  return (status, byteLen, wc, slot) => told.push(`${name} ${slot}: ${status} ${byteLen} ${wc}`);
}

describe('the ring of work requests', () => {
  it('retires what a completion implies before it, in order', () => {
    const ring = makeRing();
    const told: string[] = [];
    ring.postedBatch(3, teller(told, 'a'));
    expect(ring.outstanding).toBe(3);
    ring.complete(2, 0, 7, 4, 2, 3);
    expect(told).toEqual(['a 0: 0 0 -1', 'a 1: 0 0 -1', 'a 2: 0 7 4']);
    expect(ring.outstanding).toBe(0);
  });

  it('keeps the place of one that is late, and tells nobody twice', () => {
    const ring = makeRing();
    const told: string[] = [];
    ring.postedBatch(4, teller(told, 'a'));
    ring.complete(2, 0, 0, 0, 1, 0);
    expect(told).toEqual(['a 1: 0 0 -1', 'a 2: 0 0 0']);
    expect(ring.free).toBe(CAPACITY - 4);
    ring.complete(0, 0, 0, 1, 0, 3);
    expect(ring.outstanding).toBe(1);
    ring.retireAll(FLUSHED);
    expect(told.slice(2)).toEqual(['a 0: 0 0 1', `a 3: ${FLUSHED} 0 -1`]);
  });

  it('flushes all but those that came early', () => {
    const ring = makeRing();
    const told: string[] = [];
    ring.posted(3, teller(told, 'a'));
    ring.complete(1, 0, 0, 0, 0, 0);
    ring.retireAll(FLUSHED);
    expect(told).toEqual(['a 1: 0 0 0', `a 0: ${FLUSHED} 0 -1`, `a 2: ${FLUSHED} 0 -1`]);
  });

  it('tells each of its own callback, when batches differ and slots are used again', () => {
    const ring = makeRing();
    const told: string[] = [];
    const [a, b] = [teller(told, 'a'), teller(told, 'b')];
    const expected: string[] = [];
    let seq = 0;
    for (let round = 0; round < 20; round += 1) {
      ring.postedBatch(2, a);
      ring.postedBatch(1, null);
      ring.postedBatch(2, b);
      ring.posted(1, a);
      for (const name of ['a', 'a', null, 'b', 'b', 'a']) {
        if (name !== null) expected.push(`${name} ${seq % CAPACITY}: 0 0 0`);
        seq += 1;
        ring.complete(seq - 1, 0, 0, 0, 0, seq);
      }
    }
    expect(told).toEqual(expected);
  });

  it('makes room for what a callback posts', () => {
    const ring = makeRing();
    let posted = CAPACITY;
    const again: OnRetired = () => {
      if (posted === 3 * CAPACITY) return;
      expect(ring.free).toBeGreaterThan(0);
      ring.postedBatch(1, again);
      posted += 1;
    };
    ring.postedBatch(CAPACITY, again);
    for (let seq = CAPACITY - 1; seq < 3 * CAPACITY; seq += CAPACITY) {
      ring.complete(seq, 0, 0, 0, CAPACITY - 1, seq + 1);
    }
    expect(posted).toBe(3 * CAPACITY);
    expect(ring.outstanding).toBe(0);
  });
});
