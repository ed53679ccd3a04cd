// From stretches of keyed memory to the SGE lists of work requests.

import { bytesToPageEnd, PAGE_BYTES, type Quirks } from './quirks.ts';
import type { DmaOp, Sge } from './types.ts';

/** Keyed memory in transfer order. While planning, memory without an address yet stands at address 0. */
export interface Extent {
  addr: number;
  length: number;
  lkey: number;
}

/** The SGEs of one work request. */
export interface MappedWr {
  readonly sges: Sge[];
  /** Where it starts in the transfer, bytes; for READ and WRITE, what to add to the remote address. */
  readonly offset: number;
  /** Bytes. */
  readonly length: number;
  /** The device needs this one signalled even when it is not the last. */
  readonly signal: boolean;
}

/** Bounds of {@link layout}. */
export interface LayoutRules {
  readonly op: DmaOp;
  /** Most SGEs of a work request. */
  readonly maxSges: number;
  /** Every SGE gets a work request of its own. */
  readonly spread?: boolean;
  /** Most bytes of a work request. */
  readonly maxBytes: number;
  readonly quirks: Quirks;
  /** Remote address of the transfer's first byte (READ, WRITE); 0 when not known. */
  readonly remoteAddr: number;
}

/** An SGE's length is a u32 and siw counts in int: pieces stay below 2^31. @see kernel-side `struct siw_sge` */
export const MAX_SGE_BYTES = 2 ** 31 - PAGE_BYTES;

/** An SGE of no bytes: legal only alone. Ahead of another it makes siw read through a null pointer. */
const EMPTY_SGE: Sge = { addr: 0, length: 0, lkey: 0 };

/**
 * Fills work requests in order, each up to its most SGEs and bytes. A stretch longer than a work request may carry is
 * continued in the next. Whether several work requests are allowed is the caller's question. No bytes are one work request
 * with an empty SGE: a RECV on siw needs one.
 */
export function layout(extents: readonly Extent[], rules: LayoutRules): MappedWr[] {
  const { quirks } = rules;
  const maxSges = rules.spread === true ? 1 : rules.maxSges;
  const maxBytes = Math.min(rules.maxBytes, MAX_SGE_BYTES);
  const wrs: MappedWr[] = [];
  let sges: Sge[] = [];
  let start = 0;
  let bytes = 0;
  for (const extent of extents) {
    let done = 0;
    while (done < extent.length) {
      if (sges.length === maxSges || bytes === maxBytes) {
        finish(wrs, sges, start, bytes, rules);
        start += bytes;
        sges = [];
        bytes = 0;
      }
      const length = Math.min(extent.length - done, maxBytes - bytes);
      sges.push({ addr: extent.addr + done, length, lkey: extent.lkey });
      done += length;
      bytes += length;
    }
  }
  if (sges.length === 0) return [{ sges: [EMPTY_SGE], offset: 0, length: 0, signal: false }];
  finish(wrs, sges, start, bytes, rules);
  if (quirks.tinyBytes > 0) for (const wr of wrs) separateTinySge(wr, rules);
  return wrs;
}

function finish(wrs: MappedWr[], sges: Sge[], offset: number, length: number, rules: LayoutRules): void {
  const { quirks } = rules;
  const head = length <= quirks.tinyBytes ? tinyCut(sges, offset, length, rules) : length;
  if (head < length) {
    // Devices on which this happens take one SGE per READ.
    const [first, second] = split(sges[0]!, head);
    wrs.push({ sges: [first], offset, length: head, signal: false });
    wrs.push({ sges: [second], offset: offset + head, length: length - head, signal: false });
    return;
  }
  wrs.push({ sges, offset, length, signal: length >= quirks.signalFrom });
}

/** Bytes of a tiny work request that may go together; all of them unless the page end that hurts is inside. */
function tinyCut(sges: readonly Sge[], offset: number, length: number, rules: LayoutRules): number {
  if (rules.op === 'read') return bytesToPageEnd(rules.remoteAddr + offset, length);
  // Two SGEs do as well, where there may be two.
  if (rules.op === 'write' && rules.maxSges === 1) return bytesToPageEnd(sges[0]!.addr, length);
  return length;
}

/** [sge] cut at byte [at]. */
function split({ addr, length, lkey }: Sge, at: number): [Sge, Sge] {
  return [
    { addr, length: at, lkey },
    { addr: addr + at, length: length - at, lkey },
  ];
}

/** Cuts the only SGE of a tiny SEND or WRITE in two: at the page end inside it, otherwise in the middle. */
function separateTinySge(wr: MappedWr, rules: LayoutRules): void {
  const [sge] = wr.sges;
  if (rules.op !== 'send' && rules.op !== 'write') return;
  if (sge === undefined || wr.sges.length !== 1 || sge.length > rules.quirks.tinyBytes || rules.maxSges < 2)
    return;
  const toPageEnd = bytesToPageEnd(sge.addr, sge.length);
  const head = toPageEnd < sge.length ? toPageEnd : sge.length >> 1;
  if (head > 0) wr.sges.splice(0, 1, ...split(sge, head));
}
