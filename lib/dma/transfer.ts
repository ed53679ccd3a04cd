// One question to the strategy table, and the words of its answer.

import type { ArenaBuffer } from './arena.ts';
import type { Piece } from './fragments.ts';
import type { Extent } from './layout.ts';
import type { Quirks } from './quirks.ts';
import type { DmaOp } from './types.ts';

/** Names of the rows that map something. */
export type Strategy =
  | 'empty'
  | 'inline'
  | 'single'
  | 'multi'
  | 'chain'
  | 'linear'
  | 'indirectMkey'
  | 'bounce'
  | 'cachedMr'
  | 'transientMr';

/** What `force` may ask for. */
export type ForceStrategy = Exclude<Strategy, 'empty'>;

/** What can be forced, in table order. */
export const forceStrategies: readonly ForceStrategy[] = [
  'inline',
  'single',
  'multi',
  'chain',
  'linear',
  'indirectMkey',
  'bounce',
  'cachedMr',
  'transientMr',
];

/** All strategies, in table order. */
export const strategies: readonly Strategy[] = ['empty', ...forceStrategies];

/** What a queue pair and its device can take. */
export interface Limits {
  readonly maxSendSge: number;
  readonly maxRecvSge: number;
  /** Most SGEs of an RDMA READ. */
  readonly maxReadSge: number;
  readonly maxInlineData: number;
  /** Bytes of the longest message of the port. */
  readonly maxMessage: number;
  /** Slots of the send queue; a transfer that needs more cannot be posted. */
  readonly sendSlots: number;
  /** Most SGEs of a READ that the user wants, where the device likes fewer (kernel max_sgl_rd is not visible here). */
  readonly readSgeSoftLimit?: number | undefined;
}

/** What the device and its protection domain offer besides plain registration. */
export interface Means {
  /** Arena pages can be mapped side by side (row 8). */
  readonly windows: boolean;
  /** The window of these pieces needs no registration of its own (on-demand paging). */
  onDemand(pieces: readonly Piece[]): boolean;
  /** One key reaches all memory (implicit on-demand paging). */
  readonly wholeMemory: boolean;
  /** Memory of other devices can be registered. */
  readonly p2p: boolean;
  /** Most extents of an indirect key; 0 without such keys (row 9). */
  readonly indirectExtents: number;
  /** A region of the whole buffer is at hand. */
  cached(buffer: ArrayBufferLike): boolean;
  /** The buffer has been used before, or the caller says that it will be again: worth a region that stays. */
  reused(buffer: ArrayBufferLike): boolean;
}

/** Where one strategy becomes cheaper than another. */
export interface Thresholds {
  /** Foreign memory up to this many bytes is copied rather than registered for one transfer. */
  readonly bounceMax: number;
  /** Foreign memory that is used again is registered to stay, rather than copied, from this many bytes of a transfer on. */
  readonly keepMin: number;
  /**
   * A transfer of more work requests than this is copied instead, when it is no larger than {@link bounceMax}, nor than
   * 64 KiB.
   */
  readonly chainMax: number;
  /** SEND and WRITE of up to this many bytes are inline, where they can be. */
  readonly inlineMax: number;
}

/** One question to the table. */
export interface Transfer {
  readonly op: DmaOp;
  readonly pieces: readonly Piece[];
  /** Bytes. */
  readonly total: number;
  readonly limits: Limits;
  readonly thresholds: Thresholds;
  readonly quirks: Quirks;
  readonly means: Means;
  /** Remote address of the first byte, 0 when there is none or it is not known. */
  readonly remoteAddr: number;
  /** Its work request cannot carry the bytes itself. */
  readonly noInline: boolean;
}

/** How one piece is reached; bits. 0: by the local key of the slab it lies in. */
export const Treat = {
  /** By the arena's local key. */
  KEY: 0,
  /** Copied to or from an arena block; neighbouring copies share one. */
  COPY: 1,
  /** Through an MR of exactly its range, for this transfer only. With COPY: an MR over the block. */
  REGISTER: 2,
  /** Copied into the work request itself. */
  INLINE: 4,
  /** By the region of its whole buffer, from the cache. */
  CACHE: 8,
  /** Pages of all pieces mapped side by side in a window. */
  LINK: 16,
  /** One indirect key over all pieces. */
  MKEY: 32,
  /** Registered as a dma-buf. */
  DMABUF: 64,
} as const;

/** Chooses {@link Treat} bits for a piece. */
export type Treatment = (piece: Piece) => number;

/** Neighbouring pieces that become one stretch of keyed memory. */
export interface Stretch extends Extent {
  readonly treat: number;
  readonly pieces: Piece[];
  /** The block that its bytes are copied through, while mapped. */
  block: ArenaBuffer | undefined;
  /** It has its address and key. */
  reached: boolean;
}

/** A row of the table. */
export interface Row {
  /** Its number in docs/dma.md. */
  readonly row: number;
  readonly strategy: Strategy;
  /** The first row for which this holds is taken. */
  readonly when: (t: Transfer) => boolean;
  /** Of a row that can be forced: why it cannot serve the transfer even so; undefined when it can. */
  readonly impossible?: (t: Transfer) => string | undefined;
  readonly treat: (t: Transfer) => Treatment;
  /** How pieces are reached when the row is forced, where that differs. */
  readonly forcedTreat?: Treatment;
  /** Why it was taken, with the numbers. */
  readonly reason: (t: Transfer) => string;
  /** Set when a forced row puts every SGE into a work request of its own. */
  readonly spread?: boolean;
}
