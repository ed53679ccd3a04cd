// What the builders did, per strategy: for the one builder, and summed per device.

import { type Strategy, strategies } from './transfer.ts';

/** Totals of one strategy. */
export interface StrategyCount {
  /** Transfers mapped. */
  ops: number;
  /** Bytes of these transfers. */
  bytes: number;
  /** Work requests they became. */
  wrs: number;
}

/** Totals since the start; plain data, ready for `console.table(counters.strategies)`. */
export interface DmaCounters {
  readonly strategies: Record<Strategy, StrategyCount>;
  /** Bytes copied while mapping and retiring: to and from bounce blocks, and into inline work requests. */
  bytesCopied: number;
  /** Regions registered for one transfer. */
  registrations: number;
  /** Transfers for which no strategy, or not the forced one, could serve. */
  refused: number;
  /** Transfers retired with success. */
  completed: number;
  /** Transfers retired with an error. */
  failed: number;
  /** Transfers mapped and not yet retired. */
  inFlight: number;
}

const byDevice = new Map<string, DmaCounters>();

/** Counters at zero. */
export function newCounters(): DmaCounters {
  const entries = strategies.map((name) => [name, { ops: 0, bytes: 0, wrs: 0 }] as const);
  return {
    strategies: Object.fromEntries(entries) as Record<Strategy, StrategyCount>,
    bytesCopied: 0,
    registrations: 0,
    refused: 0,
    completed: 0,
    failed: 0,
    inFlight: 0,
  };
}

/** The live totals of all builders on [device] in this thread. @internal */
export function deviceTotals(device: string): DmaCounters {
  const totals = byDevice.get(device) ?? newCounters();
  byDevice.set(device, totals);
  return totals;
}

/** A copy of the totals of every device used in this thread, by device name. */
export function dmaCounters(): Record<string, DmaCounters> {
  return Object.fromEntries([...byDevice].map(([device, totals]) => [device, structuredClone(totals)]));
}
