/** Worker threads that end with RDMA objects open. */
import { describe, expect, it } from 'vitest';
import { devices } from '../helpers/devices.ts';
import { HANG_MS, runProgram } from './run.ts';

describe.each(devices)('worker threads on $name', { timeout: HANG_MS + 5000 }, ({ name, host }) => {
  it('can be terminated in the middle of every step', async () => {
    const { out, ...end } = await runProgram('workers', ['terminate', name, host]);
    expect(end).toEqual({ code: 0, signal: null, err: '' });
    const { results, before, after, works } = JSON.parse(out);
    expect(Object.keys(results)).toHaveLength(17);
    expect(new Set(Object.values(results))).toEqual(new Set([1]));
    // A descriptor fewer is not a leak: one that the start had open may have been closed since.
    expect(after).toEqual({ ...before, fds: expect.any(Number) });
    expect(after.fds).toBeLessThanOrEqual(before.fds);
    expect(works).toBe(true);
  });

  // A thread and its modules take half a second in a kernel of one processor: `npm run test:lifetime` starts a hundred.
  it('come and go', async () => {
    const { out, ...end } = await runProgram('workers', ['many', name, host, '10']);
    expect(end).toEqual({ code: 0, signal: null, err: '' });
    const { results, before, after, works } = JSON.parse(out);
    expect(results).toEqual({ 'right 0': 10 });
    expect(after).toEqual({ ...before, fds: expect.any(Number) });
    expect(after.fds).toBeLessThanOrEqual(before.fds);
    expect(works).toBe(true);
  });
});
