/** Whether work requests fit into a queue now. */
import { RdmaError } from '../errors.ts';
import type { WorkRing } from '../ring/work-ring.ts';

/** Throws unless [count] work requests fit after those that have been added to the batch. @internal */
export function checkRoom(ring: WorkRing, count: number, syscall: string, qpNum: number | undefined): void {
  if (ring.added + count <= ring.free) return;
  throw new RdmaError(
    'ENOBUFS',
    `${syscall}: ${ring.added + count} work requests do not fit: ${ring.outstanding} of ${ring.limits.maxWr} are in flight`,
    { syscall, wrIndex: ring.free, posted: 0, qpNum },
  );
}

/** Throws when the queue's batch holds work requests, which come first. @internal */
export function checkNoBatch(ring: WorkRing, syscall: string, qpNum: number): void {
  if (ring.added === 0) return;
  throw new RdmaError(
    'ERR_RDMA_STATE',
    `${syscall}: the queue pair's batch holds ${ring.added} work requests that come first: post or clear it`,
    { syscall, posted: 0, qpNum },
  );
}
