import { describe, expect, it } from 'vitest';
import { devices } from '../helpers/devices.ts';
import { HANG_MS, runProgram } from './run.ts';

/** Runs the program, which ends itself as [how] says while RDMA traffic flows. */
const run = (how: string, device: string, host: string) => runProgram('program', [how, device, host]);

describe.each(devices)(
  'a process with RDMA traffic on $name',
  { timeout: HANG_MS + 5000 },
  ({ name, host }) => {
    it.each([
      ['natural', 0],
      ['close', 0],
      ['exit', 7],
      ['worker-exit', 0],
      ['worker-terminate', 0],
    ])('ends well: %s', async (how, code) => {
      const result = await run(how, name, host);
      expect(result).toMatchObject({ code, signal: null, err: '' });
      expect(result.out).toContain('traffic');
    });

    it('ends with code 1 by an uncaught error', async () => {
      const result = await run('throw', name, host);
      expect(result).toMatchObject({ code: 1, signal: null });
      expect(result.err).toContain('Error: thrown in a completion callback');
    });

    it('warns of what is collected without close, and closes it', async () => {
      const result = await run('collect', name, host);
      expect(result).toMatchObject({ code: 0, signal: null });
      expect(result.err).toMatch(/RDMA_LEAK.*a memory region was garbage-collected without close/);
      expect(result.out).toContain('objects left: 0');
    });
  },
);
