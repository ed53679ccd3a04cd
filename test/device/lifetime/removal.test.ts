/** A device that is deleted while it carries data. */
import { existsSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { HANG_MS, runProgram } from './run.ts';

// Makes devices of its own, which on a machine that is not ours nobody asked for.
describe.skipIf(!existsSync('/usr/local/bin/softrdma-link'))(
  'a device that is deleted',
  { timeout: HANG_MS + 5000 },
  () => {
    it.each([
      ['rxe', 'siw0'],
      ['siw', 'rxe0'],
    ])('%s: ends what is in flight, lets the device go, and the process goes on', async (kind, neighbour) => {
      const { out, ...end } = await runProgram('removal', [kind, neighbour]);
      expect(end).toEqual({ code: 0, signal: null, err: '' });
      const { traffic, ...report } = JSON.parse(out);
      expect(report).toEqual({
        opening: 'ENODEV',
        connecting: 'ENODEV',
        received: 'ERR_RDMA_WC_WR_FLUSH_ERR',
        again: true,
      });
      expect(traffic.completed).toBeGreaterThan(20);
      expect(traffic.completed + traffic.flushed).toBe(traffic.posted);
      expect(traffic.flushed).toBeGreaterThan(0);
    });
  },
);
