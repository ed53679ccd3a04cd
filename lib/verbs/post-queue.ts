/** The send or the receive queue of a queue pair: its ring, and the call that posts what the ring holds. */
import { addon, type NativeQueueLimits, postStatus } from '../addon.ts';
import { type RdmaError, WcStatus } from '../errors.ts';
import { postError } from '../ring/post-error.ts';
import { type OnRetired, WorkRing } from '../ring/work-ring.ts';
import { checkNoBatch, checkRoom } from './post-room.ts';

/** Whom to tell when work requests are retired: one callback for all, or one for each. @internal */
export type Retired = OnRetired | readonly (OnRetired | null)[] | null | undefined;

/** Not for users: QueuePair checks what goes in. @internal */
export class PostQueue {
  readonly ring: WorkRing;
  readonly receive: boolean;
  readonly syscall: 'ibv_post_send' | 'ibv_post_recv';
  readonly #qpNum: number;
  /** Work requests that the device has not been given. */
  #skipped = 0;

  constructor(limits: NativeQueueLimits, receive: boolean, qpNum: number) {
    this.ring = new WorkRing(limits);
    this.receive = receive;
    this.syscall = receive ? 'ibv_post_recv' : 'ibv_post_send';
    this.#qpNum = qpNum;
  }

  /** Work requests that the device has and has not given back. */
  get atDevice(): number {
    return this.ring.outstanding - this.#skipped;
  }

  /** @throws RdmaError unless [count] work requests that are not of the batch can be posted now */
  checkRoom(count: number): void {
    checkNoBatch(this.ring, this.syscall, this.#qpNum);
    checkRoom(this.ring, count, this.syscall, this.#qpNum);
  }

  /** Posts the next [count] slots. */
  post(handle: number, count: number, retired: Retired): void {
    const error = this.#call(handle, count);
    this.#note(error?.posted ?? count, retired);
    if (error !== undefined) throw error;
  }

  /** As {@link post}, with a callback that most likely comes again. */
  postBatch(handle: number, count: number, onRetired: OnRetired | null): void {
    const error = this.#call(handle, count);
    this.ring.postedBatch(error?.posted ?? count, onRetired);
    if (error !== undefined) throw error;
  }

  /**
   * Takes the next [count] slots, which a device in the error state might never give back, and retires them in the next turn
   * of the event loop with WR_FLUSH_ERR, unless that has been done by then.
   */
  flush(handle: number, count: number, retired: Retired, isClosed: () => boolean): void {
    const first = this.ring.tail;
    addon.skipPosts(handle, this.receive, count);
    this.#note(count, retired);
    this.#skipped += count;
    setImmediate(() => {
      this.#skipped -= count;
      let failure: { error: unknown } | undefined;
      for (let i = 0; i < count && !isClosed(); i += 1) {
        const seq = (first + i) | 0;
        const head = addon.retireSkipped(handle, this.receive, seq >>> 0);
        if (head === undefined) continue;
        try {
          this.ring.complete(seq, WcStatus.WR_FLUSH_ERR, 0, -1, 0, head | 0);
        } catch (error) {
          // One callback that throws must not lose the others.
          failure ??= { error };
        }
      }
      if (failure !== undefined) throw failure.error;
    });
  }

  #call(handle: number, count: number): RdmaError | undefined {
    const first = this.ring.tail;
    const errno = this.receive ? addon.postRecv(handle, first, count) : addon.postSend(handle, first, count);
    if (errno === 0) return undefined;
    return postError(this.syscall, errno, postStatus, this.#qpNum);
  }

  #note(count: number, retired: Retired): void {
    if (typeof retired === 'function' || retired == null) this.ring.posted(count, retired ?? null);
    else for (let i = 0; i < count; i += 1) this.ring.posted(1, retired[i] ?? null);
  }
}
