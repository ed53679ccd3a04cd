import { describe, expect, it } from 'vitest';
import { crossingOf, undisturbed } from '../../bench/dma-thresholds.ts';

const samples = (...cheaper: readonly (1 | 2)[]) =>
  cheaper.map((way, i) => ({ size: 2 ** i, first: way === 1 ? 1 : 2, second: way === 1 ? 2 : 1 }));

describe('the crossing of two ways', () => {
  it('is the largest size at which the first is the cheaper one', () => {
    expect(crossingOf(samples(1, 1, 1, 2, 2))).toBe(4);
    expect(crossingOf(samples(1, 1))).toBe(2);
    expect(crossingOf(samples(2, 2))).toBe(0);
    expect(crossingOf([])).toBe(0);
  });

  it('passes over an outlier', () => {
    expect(crossingOf(samples(1, 2, 1, 1, 2, 2, 2))).toBe(8);
    expect(crossingOf(samples(1, 1, 2, 2, 1, 2))).toBe(2);
  });

  it('is taken from the times of operations that nothing disturbed', () => {
    expect(undisturbed([3, 100, 1])).toBe(1);
    expect(undisturbed([...Array(20).keys()].reverse())).toBe(2);
  });
});
