/** What goes wrong in the store, by code. */

/** How a request ended, on the wire and as the code of {@link KvError}. */
export const Status = {
  OK: 0,
  NOT_FOUND: 1,
  SINK: 2,
  FULL: 3,
  INVALID: 4,
  LOG: 5,
  BUSY: 6,
  PROTOCOL: 7,
} as const;

/** Codes of {@link KvError}. */
export type KvErrorCode =
  /** The memory for values has no room. */
  | 'ERR_KV_FULL'
  /** A key, a value or a setting is out of its range. */
  | 'ERR_KV_INVALID'
  /** The log could not be written, or is damaged. */
  | 'ERR_KV_LOG'
  /** The server takes no more clients, or is closing. */
  | 'ERR_KV_BUSY'
  /** The peer broke the protocol. */
  | 'ERR_KV_PROTOCOL'
  /** The connection ended. Of a PUT or DELETE that was on its way: nobody knows whether it was done. */
  | 'ERR_KV_LOST'
  /** No connection in the time given. */
  | 'ERR_KV_TIMEOUT';

const codes: Readonly<Record<number, KvErrorCode>> = {
  [Status.FULL]: 'ERR_KV_FULL',
  [Status.INVALID]: 'ERR_KV_INVALID',
  [Status.LOG]: 'ERR_KV_LOG',
  [Status.BUSY]: 'ERR_KV_BUSY',
  [Status.PROTOCOL]: 'ERR_KV_PROTOCOL',
};

/** Every error of the store. */
export class KvError extends Error {
  override readonly name = 'KvError';
  readonly code: KvErrorCode;

  constructor(code: KvErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** The status that tells a peer of an error. */
export function statusOf(error: unknown): number {
  const { code } = error as KvError;
  const entry = Object.entries(codes).find(([, name]) => name === code);
  return entry === undefined ? Status.PROTOCOL : Number(entry[0]);
}

/** The error that a peer has told of. */
export function errorOf(status: number, message: string): KvError {
  return new KvError(codes[status] ?? 'ERR_KV_PROTOCOL', message);
}
