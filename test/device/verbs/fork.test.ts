import { expect, it } from 'vitest';
import { forkStatus } from '../../../lib/index.ts';

it('knows that the kernel copies pinned pages at fork(2)', () => {
  expect(forkStatus()).toBe('unneeded');
});
