/** What the addon exports for completion queues. Handles are 31-bit numbers that name native objects of this thread. */

/** @internal */
export interface CompletionQueueAddon {
  createChannel(device: number): number;
  /** Returns its handle, the entries that the device granted, and the channel's descriptor. */
  createCq(
    device: number,
    cqe: number,
    channel: number,
    compVector: number,
    flags: number,
    ring: Uint32Array,
    callback: (count: number) => void,
  ): [handle: number, cqe: number, fd: number];
  resizeCq(cq: number, cqe: number): number;
  moderateCq(cq: number, count: number, period: number): void;
  cqReserved(cq: number): number;
  pollCq(cq: number, microseconds: number): number;
  setBusyPoll(cq: number, microseconds: number): void;
  refCq(cq: number, ref: boolean): void;
}
