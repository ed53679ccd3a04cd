/**
 * The conformance suite, in one process: its files would take longer to load than to run. A part of it:
 * `npm run conformance -- -t test_qp`.
 */
import './suites/device.ts';
import './suites/fork.ts';
import './suites/pd.ts';
import './suites/addr.ts';
import './suites/qp.ts';
import './suites/work.ts';
import './suites/queues.ts';
import './suites/memory.ts';
import './suites/odp.ts';
import './suites/rdmacm.ts';
import './suites/absent.ts';
import './suites/completions.ts';
import './suites/connections.ts';
import './suites/lifetime.ts';
import { expect, it } from 'vitest';
import { implemented } from './harness.ts';
import { listCases } from './matrix.ts';

it('has a test for every case of the table', () => {
  const missing = listCases().filter(({ id }) => !implemented.has(id));
  expect(missing.map(({ id }) => id)).toEqual([]);
});
