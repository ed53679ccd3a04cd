// First in, first out, onto a send or receive queue that may be full.

import { type Mapped, slotsOf } from '../dma/mapping.ts';
import { RdmaError } from '../errors.ts';
import type { OnRetired } from '../ring/work-ring.ts';
import type { Job, JobOwner } from './job.ts';
import type { RwQp } from './types.ts';

/** What differs between a send and a receive queue. @internal */
export interface QueueSide<Wr> {
  /** Slots free now. */
  free(): number;
  /** Jobs called after this one must wait; Infinity when none must. */
  barrier(): number;
  /** A work request failed: the queue pair is of no use any more. */
  failed(): void;
  /** Appends the job's work requests to [wrs]. */
  fill(job: Job, wrs: Wr[]): void;
  /** Posts with one native call. */
  post(wrs: Wr[], onRetired: OnRetired[]): void;
}

/** How often to look for slots that somebody else's work requests hold, ms. */
const RETRY_MS = 1;

/**
 * Posts jobs strictly in the order they came: a job that waits for its mapping or for slots keeps the later ones behind
 * it, so messages keep their order and a large job is not starved by small ones. Jobs that become postable in one turn
 * of the microtask queue share one native call. @internal
 */
export class WorkQueue<Wr> implements JobOwner {
  readonly qp: RwQp;
  readonly #side: QueueSide<Wr>;
  #first: Job | undefined;
  #last: Job | undefined;
  #waiting = 0;
  #unmapped = 0;
  #outstanding = 0;
  #pumpScheduled = false;
  #retry: NodeJS.Timeout | undefined;
  #broken = false;

  constructor(qp: RwQp, side: QueueSide<Wr>) {
    this.qp = qp;
    this.#side = side;
  }

  /** Jobs not posted yet. */
  get waiting(): number {
    return this.#waiting;
  }

  /** Call number of the first job whose mapping is under way; Infinity when there is none. */
  get firstUnmapped(): number {
    if (this.#unmapped === 0) return Number.POSITIVE_INFINITY;
    let job = this.#first;
    while (job!.mapping !== undefined) job = job!.next;
    return job!.order;
  }

  /** Work requests posted and not retired. */
  get outstanding(): number {
    return this.#outstanding;
  }

  push(job: Job): void {
    if (this.#last === undefined) this.#first = job;
    else this.#last.next = job;
    this.#last = job;
    this.#waiting++;
    if (job.mapping === undefined) this.#unmapped++;
    // The first job of a turn goes out at once; those that follow in the same turn go together.
    if (this.#pumpScheduled) return;
    this.pump();
    this.#schedule();
  }

  /** A job that was pushed without its mapping has it now. */
  mapped(job: Job, mapping: Mapped): void {
    job.mapping = mapping;
    this.#unmapped--;
    this.pump();
  }

  /** Takes out a job whose mapping failed. */
  remove(job: Job): void {
    this.#unmapped--;
    let before: Job | undefined;
    for (let at = this.#first; at !== undefined && at !== job; at = at.next) before = at;
    if (before === undefined) this.#first = job.next;
    else before.next = job.next;
    if (this.#last === job) this.#last = before;
    this.#waiting--;
    this.pump();
  }

  /** Posts what can be posted. */
  pump(): void {
    const jobs: Job[] = [];
    let free = this.#broken ? Number.POSITIVE_INFINITY : this.#side.free();
    let job = this.#first;
    const barrier = this.#side.barrier();
    while (job?.mapping !== undefined && job.order < barrier && slotsOf(job.mapping) <= free) {
      this.#shift(job);
      if (this.#broken) {
        job.flush();
      } else if (job.signal?.aborted === true) {
        job.refuse(job.signal.reason);
      } else {
        free -= slotsOf(job.mapping);
        jobs.push(job);
      }
      job = this.#first;
    }
    if (jobs.length > 0) this.#post(jobs);
    // No slot of ours will come back to wake us: the queue is full of somebody else's work requests.
    if (job?.mapping !== undefined && job.order < barrier && this.#outstanding === 0) {
      this.#retry ??= setTimeout(() => {
        this.#retry = undefined;
        this.pump();
      }, RETRY_MS);
    }
  }

  failed(): void {
    this.#side.failed();
  }

  /** From now on nothing is posted: siw never completes what is posted to a queue pair in the error state. */
  breakOff(): void {
    this.#broken = true;
    this.#schedule();
  }

  retired(count: number): void {
    this.#outstanding -= count;
    if (this.#first !== undefined) this.#schedule();
  }

  #schedule(): void {
    if (this.#pumpScheduled) return;
    this.#pumpScheduled = true;
    queueMicrotask(() => {
      this.#pumpScheduled = false;
      if (this.#first !== undefined) this.pump();
    });
  }

  #shift(job: Job): void {
    this.#first = job.next;
    if (this.#first === undefined) this.#last = undefined;
    this.#waiting--;
  }

  #post(jobs: readonly Job[]): void {
    const wrs: Wr[] = [];
    const onRetired: OnRetired[] = [];
    for (const job of jobs) {
      const before = wrs.length;
      this.#side.fill(job, wrs);
      job.posted(wrs.length - before);
      for (let i = before; i < wrs.length; i++) onRetired.push(job.onRetired);
    }
    this.#outstanding += wrs.length;
    try {
      this.#side.post(wrs, onRetired);
    } catch (error) {
      const posted = error instanceof RdmaError ? (error.posted ?? 0) : 0;
      this.#outstanding -= wrs.length - posted;
      this.#postFailed(jobs, posted, error);
    }
  }

  /** Nothing or only the first [posted] work requests of [jobs] went. */
  #postFailed(jobs: readonly Job[], posted: number, error: unknown): void {
    if (posted === 0 && jobs.length > 1) {
      // One of them is at fault; the others must not suffer for it.
      for (const job of jobs) this.#postAlone(job);
      return;
    }
    let left = posted;
    for (const job of jobs) {
      const count = slotsOf(job.mapping!);
      if (left >= count) {
        left -= count;
      } else if (left > 0) {
        // Its work requests on their way are not signalled and may use its memory: only a flush brings them back.
        job.cut(left, error);
        left = 0;
        this.#side.failed();
      } else if (posted === 0) {
        job.refusePost(error);
      } else {
        this.#postAlone(job);
      }
    }
  }

  #postAlone(job: Job): void {
    if (this.#broken) job.flush();
    else this.#post([job]);
  }
}
