import { addon } from '../addon.ts';
import { errnoName, invalidArgument, RdmaError } from '../errors.ts';
import { layout, RECEIVE_QUEUE_BIT } from '../layout.ts';
import { CompletionRing } from '../ring/completion-ring.ts';
import { type AsyncEvent, AsyncEventTarget, type CompletionQueueEvent } from './async-event.ts';
import { checkInteger } from './check.ts';
import { CompletionChannel } from './completion-channel.ts';
import type { Device } from './device.ts';

/** Completions that come to JavaScript in one call. */
const RING_CAPACITY = 256;

/** Options of {@link Device.createCq}. */
export interface CqOptions {
  /**
   * Entries: the sum of the send and receive work requests of all queue pairs that will use it, because each can
   * complete with an error. 1 … device.attr.maxCqe; 4096 by default.
   */
  readonly cqe?: number;
  /** Shares the descriptor of this channel with other queues; by default the queue has a channel of its own. */
  readonly channel?: CompletionChannel;
  /** Which completion vector, and so which interrupt, its events use; 0 by default. */
  readonly compVector?: number;
  /** Completions carry the raw clock of the device (ibv_create_cq_ex(3)). */
  readonly timestamps?: boolean;
  /**
   * Only messages that were sent with SOLICITED wake the event loop (ibv_req_notify_cq(3)). Other completions are delivered
   * along with them, or by {@link CompletionQueue.poll}. A device may wake for errors or not (rxe does not).
   */
  readonly solicitedOnly?: boolean;
  /**
   * Microseconds, 0 … 1,000,000, for which the event loop looks for the next completion after one has come, instead of
   * sleeping; 0, the default, is not at all. It is for latency: waking up costs more than many a message takes, and looking
   * costs a processor. It looks only while work is in flight, and for 50 µs at a time, so that timers and sockets have their
   * turn.
   */
  readonly busyPoll?: number;
}

const {
  words: WORDS,
  queue: QUEUE,
  seq: SEQ,
  status: STATUS,
  byte_len: BYTE_LEN,
  implied: IMPLIED,
  head: HEAD,
} = layout.completion;

const MAX_BUSY_POLL = 1_000_000;
const TIMESTAMPS = 1;
const SOLICITED_ONLY = 2;

/** What a completion queue needs of a queue pair or a shared receive queue. @internal */
export interface CompletionSink {
  /** [implied] earlier work requests are retired with it; [head] is the oldest still in flight (native/core/layout.h). */
  _complete(
    receive: boolean,
    seq: number,
    status: number,
    byteLen: number,
    wc: number,
    implied: number,
    head: number,
  ): void;
  close(): void;
}

/**
 * A completion queue; made by {@link Device.createCq}. Completions come through the event loop: the completion channel's
 * descriptor wakes it, a batch is taken with one native call, and every work request's `onRetired` is called.
 */
export class CompletionQueue extends AsyncEventTarget<CompletionQueueEvent> {
  readonly device: Device;
  /** The channel that it shares with others; undefined when it has one of its own. */
  readonly channel: CompletionChannel | undefined;
  /**
   * Descriptor of its channel, readable when there are events. The library reads it: others may wait for it, but not take
   * events from it.
   */
  readonly fd: number;
  /** The batch in hand, for `onRetired` callbacks. */
  readonly ring: CompletionRing;
  readonly #sinks = new Map<number, CompletionSink>();
  /** The latest of {@link #sinks}: completions come in runs. */
  #latestKey = -1;
  #latest: CompletionSink | undefined;
  #cqe: number;
  #busyPoll: number;
  #dispatching = false;

  /** @internal */
  constructor(device: Device, options: CqOptions = {}) {
    const cqe = options.cqe ?? Math.min(4096, device.attr.maxCqe);
    checkInteger('cqe', cqe, 1, device.attr.maxCqe);
    const { channel, compVector = 0, timestamps = false, solicitedOnly = false, busyPoll = 0 } = options;
    checkInteger('compVector', compVector, 0, 0x7fff_ffff);
    checkInteger('busyPoll', busyPoll, 0, MAX_BUSY_POLL);
    if (channel !== undefined && !(channel instanceof CompletionChannel)) {
      throw invalidArgument(
        'ERR_INVALID_ARG_TYPE',
        'channel must be a CompletionChannel, made by device.createCompletionChannel()',
      );
    }
    const ring = new CompletionRing(RING_CAPACITY, timestamps);
    const flags = (timestamps ? TIMESTAMPS : 0) | (solicitedOnly ? SOLICITED_ONLY : 0);
    let self: WeakRef<CompletionQueue> | undefined;
    const wake = (count: number) => {
      const queue = self?.deref();
      if (queue !== undefined) queue.#wake(count);
    };
    const [handle, granted, fd] = addon.createCq(
      device._handle,
      cqe,
      channel?._handle ?? 0,
      compVector,
      flags,
      ring.words,
      wake,
    );
    super('completion queue', handle);
    self = new WeakRef(this);
    this.device = device;
    this.channel = channel;
    this.fd = fd;
    this.#cqe = granted;
    this.ring = ring;
    this.#busyPoll = busyPoll;
    if (busyPoll > 0) addon.setBusyPoll(handle, busyPoll);
  }

  /** {@link CqOptions.busyPoll}; may be set at any time. */
  get busyPoll(): number {
    return this.#busyPoll;
  }

  set busyPoll(microseconds: number) {
    checkInteger('busyPoll', microseconds, 0, MAX_BUSY_POLL);
    addon.setBusyPoll(this._handle, microseconds);
    this.#busyPoll = microseconds;
  }

  /** Entries that the device granted. */
  get cqe(): number {
    return this.#cqe;
  }

  /** Entries that are set aside: one for every work request of every queue pair that reports here. */
  get reserved(): number {
    return addon.cqReserved(this._handle);
  }

  /**
   * Changes the number of entries (ibv_resize_cq(3)); work may go on meanwhile.
   *
   * @param cqe at least {@link reserved}, at most device.attr.maxCqe; the device may grant more
   * @throws RdmaError EBUSY below what is reserved, EOPNOTSUPP where the device can not resize (siw), EIO when the queue
   *   was lost over it and has been closed (rxe, when there is no memory to map)
   */
  resize(cqe: number): void {
    checkInteger('cqe', cqe, 1, this.device.attr.maxCqe);
    try {
      this.#cqe = addon.resizeCq(this._handle, cqe);
    } catch (error) {
      if ((error as RdmaError).code === 'EIO') this.close();
      throw error;
    }
  }

  /**
   * Moderates the events (ibv_modify_cq(3)): one for `cqCount` completions, or `cqPeriod` microseconds after the first.
   *
   * @throws RdmaError EOPNOTSUPP where the device has no moderation (rxe, siw)
   */
  modify(moderation: { readonly cqCount: number; readonly cqPeriod: number }): void {
    const { cqCount, cqPeriod } = moderation;
    checkInteger('cqCount', cqCount, 0, 0xffff);
    checkInteger('cqPeriod', cqPeriod, 0, 0xffff);
    addon.moderateCq(this._handle, cqCount, cqPeriod);
  }

  /**
   * Takes and dispatches completions now, without waiting for the event loop.
   *
   * @param wait microseconds, 0 … 1,000,000, to look for the first; nothing else runs in this thread meanwhile
   * @returns how many there were; 0 also during a dispatch
   */
  poll(wait = 0): number {
    if (this.#dispatching) return 0;
    if (wait !== 0) checkInteger('wait', wait, 0, MAX_BUSY_POLL);
    const count = addon.pollCq(this._handle, wait);
    if (count > 0) this.#dispatch(count);
    else if (count < 0) throw this.#failure(count);
    return count;
  }

  /** Work in flight keeps the process alive (the default). */
  ref(): this {
    addon.refCq(this._handle, true);
    return this;
  }

  /** Work in flight does not keep the process alive. */
  unref(): this {
    addon.refCq(this._handle, false);
    return this;
  }

  /** Within a callback of a completion. @internal */
  get _dispatching(): boolean {
    return this.#dispatching;
  }

  /** @internal */
  _attach(handle: number, sink: CompletionSink): void {
    this.#sinks.set(handle, sink);
    this.#latestKey = -1;
  }

  /** @internal */
  _detach(handle: number): void {
    this.#sinks.delete(handle);
    this.#latestKey = -1;
  }

  /** Dispatches what has completed until now, so that it is known before something that came later. @internal */
  _catchUp(): void {
    if (this.#dispatching) return;
    for (let left = this.#cqe; left > 0 && !this.closed; ) {
      const count = addon.pollCq(this._handle, 0);
      if (count !== 0) this.#wake(count);
      if (count <= 0) return;
      left -= count;
    }
  }

  #sink(key: number): CompletionSink | undefined {
    if (key !== this.#latestKey) {
      this.#latest = this.#sinks.get(key);
      this.#latestKey = key;
    }
    return this.#latest;
  }

  #wake(count: number): void {
    if (count >= 0) {
      this.#dispatch(count);
      return;
    }
    process.emitWarning(this.#failure(count));
    this.#closeSinks();
  }

  #failure(errno: number): RdmaError {
    return new RdmaError(
      errnoName(errno),
      `ibv_poll_cq ${errnoName(errno)}: the completion queue has failed`,
      {
        errno,
        syscall: 'ibv_poll_cq',
        device: this.device.name,
      },
    );
  }

  /** Completions are lost, so what is in flight can be settled only by destroying the queue pairs. @internal */
  override _react(event: AsyncEvent): void {
    if (event.type === 'CQ_ERR') this.#closeSinks();
  }

  #closeSinks(): void {
    for (const sink of [...this.#sinks.values()]) sink.close();
  }

  #dispatch(count: number): void {
    const words = this.ring._signed;
    this.#dispatching = true;
    let failure: { error: unknown } | undefined;
    for (let i = 0, at = 0; i < count; i += 1, at += WORDS) {
      const queue = words[at + QUEUE] as number;
      const sink = this.#sink(queue & ~RECEIVE_QUEUE_BIT);
      // A queue pair that a callback of this batch has closed is gone: its work has been settled.
      if (sink === undefined) continue;
      try {
        const byteLen = (words[at + BYTE_LEN] as number) >>> 0;
        sink._complete(
          queue < 0,
          words[at + SEQ] as number,
          words[at + STATUS] as number,
          byteLen,
          i,
          words[at + IMPLIED] as number,
          words[at + HEAD] as number,
        );
      } catch (error) {
        // One callback that throws must not lose the completions of the others.
        failure ??= { error };
      }
    }
    this.#dispatching = false;
    if (failure !== undefined) throw failure.error;
  }
}
