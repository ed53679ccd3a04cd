// Memory keys that name other memory keys: the interface only. No device of a soft driver has them.

import type { Extent } from './layout.ts';

/**
 * What a device with indirect memory keys offers: one key over a list of extents of any alignment (mlx5:
 * mlx5dv_create_mkey(3), mlx5dv_wr_mr_list(3)). Give one to {@link SgeBuilderOptions.indirect} to have row 9 of the table.
 */
export interface IndirectMkeys {
  /** Most extents under one key. */
  readonly maxExtents: number;
  /** Makes a key with [access] over [extents], in order. */
  build(
    extents: readonly Extent[],
    access: number,
  ): Promise<{
    readonly addr: number;
    readonly lkey: number;
    /** Invalidates the key. Called once, when no work request uses it. */
    release(): Promise<void>;
  }>;
}
