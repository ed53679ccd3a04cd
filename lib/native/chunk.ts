/** What the addon exports for chunks of memory that are used again. */

/** @internal */
export interface ChunkAddon {
  /** 64 KiB of whatever was there before, which are used again when the result has been collected; undefined when all are out. */
  takeChunk(): ArrayBuffer | undefined;
}
