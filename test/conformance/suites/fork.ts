/** fork(2) and registered memory; what a child process does to it is in lifetime.test.ts. */
import { expect } from 'vitest';
import { forkStatus } from '../../../lib/index.ts';
import { implement } from '../harness.ts';

implement('test_fork', 'ForkAPITest', {
  test_is_fork_initialized: () => {
    expect(['enabled', 'unneeded']).toContain(forkStatus());
  },
});
