/** Waiting, with a time limit and an AbortSignal. */
import { inspect } from 'node:util';
import { invalidArgument, RdmaError } from '../errors.ts';
import { checkInteger } from '../verbs/check.ts';
import type { CmEventName, RawCmEvent } from './events.ts';

/** How long a step may take, and what else ends it. */
export interface AwaitOptions {
  /** Milliseconds; 10 s by default. */
  readonly timeoutMs?: number;
  /** Ends the step; it rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

const DEFAULT_TIMEOUT_MS = 10_000;

/** Checks [options]; throws the signal's reason when it is aborted already. @returns the time limit @internal */
export function checkAwait(options: AwaitOptions, defaultMs = DEFAULT_TIMEOUT_MS): number {
  const { timeoutMs = defaultMs, signal } = options;
  if (timeoutMs !== Number.POSITIVE_INFINITY) checkInteger('timeoutMs', timeoutMs, 1, 0x7fff_ffff);
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    throw invalidArgument(
      'ERR_INVALID_ARG_TYPE',
      `signal must be an AbortSignal, not ${inspect(signal, { depth: 0 })}`,
    );
  }
  signal?.throwIfAborted();
  return timeoutMs;
}

/** A promise that whatever comes first settles: its owner, the time limit, the signal. @internal */
export class Waiter<T> {
  readonly promise: Promise<T>;
  #settled = false;
  readonly #timer: NodeJS.Timeout | undefined;
  readonly #signal: AbortSignal | undefined;
  readonly #onAbort: () => void;
  #resolve!: (value: T) => void;
  #reject!: (error: unknown) => void;

  /** @param text what ran out of time, for the error's message */
  constructor(timeoutMs: number, signal: AbortSignal | undefined, syscall: string, text: () => string) {
    this.promise = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    if (timeoutMs !== Number.POSITIVE_INFINITY) {
      this.#timer = setTimeout(() => {
        this.fail(new RdmaError('ETIMEDOUT', `${text()}: no answer in ${timeoutMs} ms`, { syscall }));
      }, timeoutMs);
    }
    this.#signal = signal;
    this.#onAbort = () => this.fail(signal?.reason);
    signal?.addEventListener('abort', this.#onAbort, { once: true });
  }

  get settled(): boolean {
    return this.#settled;
  }

  done(value: T): void {
    this.#end();
    this.#resolve(value);
  }

  fail(error: unknown): void {
    this.#end();
    this.#reject(error);
  }

  #end(): void {
    this.#settled = true;
    clearTimeout(this.#timer);
    this.#signal?.removeEventListener('abort', this.#onAbort);
  }
}

/** A step of an id that waits for its event. @internal */
export interface Pending {
  readonly what: string;
  readonly expects: readonly CmEventName[];
  readonly waiter: Waiter<RawCmEvent>;
  /** Starts the step once more when the kernel's time for it is up before the caller's is. */
  readonly again: ((handle: number) => void) | undefined;
}
