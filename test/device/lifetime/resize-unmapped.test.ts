import { expect, it } from 'vitest';
import { runProgram } from './run.ts';

it('resize-unmaps: queues of rxe whose new memory cannot be mapped are closed, and nothing crashes', async () => {
  const { code, signal, out, err } = await runProgram('resize-unmapped', []);
  expect({ code, signal, err }).toEqual({ code: 0, signal: null, err: '' });
  expect(out.trim().split('\n')).toEqual(['EIO ibv_resize_cq true true', 'EIO ibv_modify_srq true', '5,5']);
});
