/** What a namespace keeps its bytes in. */

/** Memory that a range of a backend lives in: data moves between it and the host without a copy. */
export type Views = readonly Uint8Array[];

/**
 * Ranges are in bytes, whole blocks, and within {@link bytes}. A method that returns nothing has done its work; one that
 * returns a promise has when it resolves.
 */
export interface Backend {
  /** What it is, for people. */
  readonly name: string;
  /** Size. */
  readonly bytes: number;
  /** {@link flush} has something to do. */
  readonly volatileCache: boolean;
  /** Deallocated ranges read as zeros. */
  readonly discardsToZeros: boolean;
  /** The memory of a range, where the backend is memory. */
  views?(offset: number, length: number): Views;
  read(offset: number, into: Uint8Array): Promise<void>;
  write(offset: number, from: Uint8Array): Promise<void>;
  zero(offset: number, length: number): void | Promise<void>;
  /** The host does not need the bytes of the range any more. */
  discard(offset: number, length: number): void | Promise<void>;
  /** What has been written survives a loss of power. */
  flush(): void | Promise<void>;
  close(): void | Promise<void>;
}
