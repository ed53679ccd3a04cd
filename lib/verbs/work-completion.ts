/** What a promise of a work request resolves with. */
import type { CompletionRing } from '../ring/completion-ring.ts';

const WC_WITH_IMM = 2;

/** A successful completion. */
export interface WorkCompletion {
  /** Bytes received, for a receive. */
  readonly byteLen: number;
  /** Immediate data that came with the message. */
  readonly immData?: number;
}

/** The completion at index [wc] of [ring]; -1 when there was none. @internal */
export function workCompletion(ring: CompletionRing, wc: number, byteLen: number): WorkCompletion {
  const withImm = wc >= 0 && (ring.flags(wc) & WC_WITH_IMM) !== 0;
  return withImm ? { byteLen, immData: ring.immData(wc) } : { byteLen };
}
