import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { devices } from '../helpers/devices.ts';

const program = fileURLToPath(new URL('../../../dist/test/device/lifetime/program.js', import.meta.url));

/** Runs the program, which ends itself as [how] says while RDMA traffic flows. */
function run(
  how: string,
  device: string,
  host: string,
): Promise<{ code: number | null; signal: string | null; err: string; out: string }> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, ['--expose-gc', program, how, device, host], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let out = '';
    let err = '';
    child.stdout.on('data', (data) => {
      out += data;
    });
    child.stderr.on('data', (data) => {
      err += data;
    });
    child.on('close', (code, signal) => resolve({ code, signal, out, err }));
  });
}

describe.each(devices)('a process with RDMA traffic on $name', ({ name, host }) => {
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
});
