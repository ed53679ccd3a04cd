/** A step of a connection that waits for its event. */
import { RdmaError } from '../errors.ts';
import type { CmEvent } from './event-channel.ts';
import type { CmEventName } from './events.ts';

/** What ends a step. @internal */
export interface Pending {
  readonly what: string;
  readonly expects: readonly CmEventName[];
  /** Starts the step once more when the kernel's time for it is up before the caller's is. */
  readonly again: ((handle: number) => void) | undefined;
  done(event: CmEvent): void;
  fail(error: unknown): void;
}

/** A step with its time limit and its AbortSignal; whatever comes first settles it, and the others are taken away. @internal */
export class PendingStep implements Pending {
  readonly what: string;
  readonly expects: readonly CmEventName[];
  readonly again: ((handle: number) => void) | undefined;
  readonly promise: Promise<CmEvent>;
  readonly #timer: NodeJS.Timeout;
  readonly #signal: AbortSignal | undefined;
  readonly #onAbort: () => void;
  #resolve!: (event: CmEvent) => void;
  #reject!: (error: unknown) => void;

  constructor(
    what: string,
    expects: readonly CmEventName[],
    timeoutMs: number,
    signal: AbortSignal | undefined,
    peer: () => string,
    again?: (handle: number) => void,
  ) {
    this.what = what;
    this.expects = expects;
    this.again = again;
    this.promise = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.#timer = setTimeout(() => {
      this.fail(
        new RdmaError('ETIMEDOUT', `${what} ETIMEDOUT ${peer()}: no answer in ${timeoutMs} ms`, {
          syscall: `rdma_${what.replaceAll(' ', '_')}`,
        }),
      );
    }, timeoutMs);
    this.#signal = signal;
    this.#onAbort = () => this.fail(signal?.reason);
    signal?.addEventListener('abort', this.#onAbort, { once: true });
  }

  done(event: CmEvent): void {
    this.#end();
    this.#resolve(event);
  }

  fail(error: unknown): void {
    this.#end();
    this.#reject(error);
  }

  #end(): void {
    clearTimeout(this.#timer);
    this.#signal?.removeEventListener('abort', this.#onAbort);
  }
}
