import { addon } from '../addon.ts';

/** Whether registered memory survives fork(2). */
export type ForkStatus = 'disabled' | 'enabled' | 'unneeded';

/**
 * How libibverbs protects registered memory from copy-on-write after fork(2) (ibv_is_fork_initialized(3)).
 *
 * - `unneeded`: the kernel copies pinned pages when a process forks (Linux 5.12 and later, as the device's driver says);
 * - `enabled`: libibverbs keeps registered pages out of children (RDMAV_FORK_SAFE in the environment);
 * - `disabled`: what the parent writes to registered memory after a fork may miss the device, until the child has called
 *   exec or ended. Node.js calls exec at once, so that only a write in that moment is in danger. Set RDMAV_FORK_SAFE=1.
 */
export function forkStatus(): ForkStatus {
  return (['disabled', 'enabled', 'unneeded'] as const)[addon.forkStatus() as 0 | 1 | 2] ?? 'disabled';
}
