/** What the addon exports for completion queues. Handles are 31-bit numbers that name native objects of this thread. */

/** @internal */
export interface CompletionQueueAddon {
  createCq(
    device: number,
    cqe: number,
    ring: Uint32Array,
    callback: (count: number) => void,
  ): [number, number];
  pollCq(cq: number): number;
  refCq(cq: number, ref: boolean): void;
}
