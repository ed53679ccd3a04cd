import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { defineConfig } from 'vitest/config';

/**
 * Devices, both ends of every connection and C programs share the processors of emulated machines: what the scheduler does to
 * the other end is not the test's. The report shows who needed it: "(retry x1)".
 */
const RETRIES = 1;

export default defineConfig({
  // Not in node_modules: suites also run where the package is read-only.
  cacheDir: join(tmpdir(), 'node-rdma-vitest'),
  test: {
    projects: [
      {
        extends: true,
        test: {
          name: 'host',
          include: ['test/unit/**/*.test.ts', 'test/softrdma/**/*.test.ts'],
          pool: 'forks',
          retry: RETRIES,
          testTimeout: 60_000,
          hookTimeout: 60_000,
        },
      },
      {
        extends: true,
        test: {
          // Needs RDMA devices: runs inside softrdma, or on a machine that has some.
          name: 'device',
          include: ['test/device/**/*.test.ts', 'test/conformance/**/*.test.ts'],
          pool: 'forks',
          fileParallelism: false,
          execArgv: ['--expose-gc'],
          retry: RETRIES,
          testTimeout: 60_000,
          hookTimeout: 60_000,
        },
      },
    ],
  },
});
