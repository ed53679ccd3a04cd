/** The tests of native/core alone (test/native), on the devices, plain and with sanitizers. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { devices } from '../helpers/devices.ts';

const names = devices.map(({ name, host }) => `${name}=${host}`).join(' ');
const environment = {
  ...process.env,
  NODE_RDMA_TEST_DEVICES: names,
  UBSAN_OPTIONS: 'print_stacktrace=1',
  TSAN_OPTIONS: 'halt_on_error=1',
};

/** Runs the program; its output is the reason when it fails. */
async function run(program: string): Promise<string> {
  try {
    const { stdout, stderr } = await promisify(execFile)(program, { env: environment, timeout: 110_000 });
    return stdout + stderr;
  } catch (error) {
    const { code, signal, stdout, stderr } = error as Record<'code' | 'signal' | 'stdout' | 'stderr', string>;
    throw new Error(`it ended with ${signal ?? code}:\n${stdout}${stderr}`);
  }
}

describe('the core without Node.js', { timeout: 120_000 }, () => {
  it.each([
    { build: 'plain', sanitizer: 'none', how: 'as it is' },
    {
      build: 'address',
      sanitizer: 'address',
      how: 'with AddressSanitizer and UndefinedBehaviorSanitizer, without a leak',
    },
    { build: 'thread', sanitizer: 'thread', how: 'with ThreadSanitizer' },
  ])('passes its own tests $how', async ({ build, sanitizer }) => {
    const program = fileURLToPath(new URL(`../../../build/native/${build}/core-tests`, import.meta.url));
    expect(existsSync(program), `${program} is built by npm test and npm run test:sanitize`).toBe(true);
    const said = await run(program);
    expect(said).toContain(`sanitizer: ${sanitizer}\n`);
    expect(said).toMatch(/test cases: +(\d+) \| +\1 passed \| 0 failed \| 0 skipped/);
    expect(said).toContain('Status: SUCCESS!');
  });
});
