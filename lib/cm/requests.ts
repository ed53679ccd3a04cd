/** Connection requests of a listener that are fetched one by one. */
import { closedError, RdmaError } from '../errors.ts';
import type { CmId } from './cm-id.ts';
import { type AwaitOptions, checkAwait, Waiter } from './pending.ts';

/** Requests that wait for {@link CmId.nextRequest}, and calls of it that wait for a request. @internal */
export class RequestQueue {
  readonly #waiters: Waiter<CmId>[] = [];
  readonly #requests: CmId[] = [];
  #wanted = false;

  /** Whether requests are fetched rather than listened for. */
  get wanted(): boolean {
    return this.#wanted;
  }

  /** @returns whether there was room for [id] */
  offer(id: CmId, room: number): boolean {
    const waiter = this.#waiters.shift();
    if (waiter !== undefined) {
      waiter.done(id);
      return true;
    }
    if (!this.#wanted || this.#requests.length >= room) return false;
    this.#requests.push(id);
    return true;
  }

  async next(options: AwaitOptions): Promise<CmId> {
    const timeoutMs = checkAwait(options, Number.POSITIVE_INFINITY);
    this.#wanted = true;
    for (let id = this.#requests.shift(); id !== undefined; id = this.#requests.shift()) {
      if (!id.closed) return id;
    }
    const text = () => 'next request ETIMEDOUT';
    const waiter = new Waiter<CmId>(timeoutMs, options.signal, 'rdma_get_request', text);
    this.#waiters.push(waiter);
    try {
      return await waiter.promise;
    } finally {
      const index = this.#waiters.indexOf(waiter);
      if (index >= 0) this.#waiters.splice(index, 1);
    }
  }

  /** The listener hears no more requests. */
  end(reason: 'closed' | 'removed'): void {
    const error =
      reason === 'closed'
        ? closedError('connection id')
        : new RdmaError('ENODEV', 'the RDMA device has been removed', { event: 'DEVICE_REMOVAL' });
    for (const waiter of this.#waiters.splice(0)) waiter.fail(error);
    for (const id of this.#requests.splice(0)) id.close();
  }
}
