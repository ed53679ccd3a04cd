/** What a provider does otherwise than the manual pages say. */

/** A rule of a provider; all are in native/core/providers, one file each. */
export interface Quirk {
  /** 'read-fence' */
  readonly name: string;
  /** What the provider does, and what the library does about it. */
  readonly reason: string;
  /** File and function where it can be seen. */
  readonly source: string;
}
