/** Advice about ON_DEMAND memory (ibv_advise_mr(3)). */
import { addon } from '../addon.ts';
import { invalidArgument } from '../errors.ts';
import { checkInteger } from './check.ts';
import type { ProtectionDomain } from './protection-domain.ts';

/** Advice for {@link ProtectionDomain.adviseMr} (enum ib_uverbs_advise_mr_advice). */
export const Advice = { PREFETCH: 0, PREFETCH_WRITE: 1, PREFETCH_NO_FAULT: 2 } as const;

/** How the advice is carried out. */
export interface AdviseOptions {
  /** Resolve when it has been carried out, not when it has been taken note of (IBV_ADVISE_MR_FLAG_FLUSH). Default: false */
  readonly flush?: boolean;
}

/** A part of a region. */
export interface AdviseRange {
  /** As the region is addressed. */
  readonly addr: number;
  /** Bytes, less than 2^32. */
  readonly length: number;
  readonly lkey: number;
}

const FLUSH = 1;

/** @internal */
export async function adviseMr(
  pd: ProtectionDomain,
  advice: number,
  ranges: readonly AdviseRange[],
  options: AdviseOptions,
): Promise<void> {
  checkInteger('advice', advice, 0, Advice.PREFETCH_NO_FAULT);
  if (!Array.isArray(ranges) || ranges.length === 0) {
    throw invalidArgument(
      'ERR_INVALID_ARG_TYPE',
      'ranges must be an array of {addr, length, lkey}, not empty',
    );
  }
  const numbers = ranges.flatMap(({ addr, length, lkey }, i) => {
    checkInteger(`ranges[${i}].addr`, addr, 0, Number.MAX_SAFE_INTEGER);
    checkInteger(`ranges[${i}].length`, length, 1, 0xffff_ffff);
    checkInteger(`ranges[${i}].lkey`, lkey, 0, 0xffff_ffff);
    return [lkey, addr, length];
  });
  await addon.adviseMr(pd._handle, advice, options.flush === true ? FLUSH : 0, numbers);
}
