import { describe, expect, it } from 'vitest';
import { layout } from '../../../lib/layout.ts';
import { checks, postError } from '../../../lib/ring/post-error.ts';

const f = layout.postStatus;

function status(values: Partial<Record<keyof typeof f, number>>): Uint32Array {
  const words = new Uint32Array(f.words);
  for (const [name, value] of Object.entries(values)) words[f[name as keyof typeof f]] = value;
  return words;
}

describe('postError', () => {
  it('has words for every reason that the addon knows', () => {
    expect(Object.keys(checks)).toHaveLength(layout.postChecks);
  });

  it('says what the provider refused, and what went before', () => {
    const error = postError('ibv_post_send', 12, status({ posted: 2, wr_index: 2 }), 17);
    expect(error).toMatchObject({ code: 'ENOMEM', errno: -12, wrIndex: 2, posted: 2, qpNum: 17 });
    expect(error.message).toBe(
      'ibv_post_send: work request 2: the provider refused it; 2 before it are on their way',
    );
  });

  it('says when the provider named no work request', () => {
    const check = Object.keys(checks).indexOf('unclear');
    const error = postError('ibv_post_send', 22, status({ posted: 3, wr_index: 3, check }), 17);
    expect(error).toMatchObject({ code: 'EINVAL', posted: 3 });
    expect(error.message).toContain('without naming a work request');
  });

  it('names the offending value and its limit', () => {
    const check = Object.keys(checks).indexOf('atomicAlignment');
    const error = postError('ibv_post_send', 22, status({ check, value: 0x104, limit: 8 }), 17);
    expect(error).toMatchObject({ code: 'ERR_OUT_OF_RANGE', wrIndex: 0, posted: 0 });
    expect(error.message).toContain('0x104 of an atomic must be divisible by 8');
  });
});
