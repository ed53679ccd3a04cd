// The user-space counterpart of the kernel's rdma_rw_ctx: memory and an operation in, a promise out, nothing to unmap.

import { DmaBatch } from '../dma/batch.ts';
import type { Fragments } from '../dma/fragments.ts';
import { chained, type Mapped, slotsOf } from '../dma/mapping.ts';
import { type MapOptions, SgeBuilder, type SgeBuilderOptions } from '../dma/sge-builder.ts';
import type { DmaOp } from '../dma/types.ts';
import { invalidArgument, RdmaError, WcStatus } from '../errors.ts';
import { Opcode } from '../verbs/constants.ts';
import type { RecvWr, SendWr } from '../verbs/work-request.ts';
import { atomicHeader, fillSend, headerOf, pagePlace, type WrHeader } from './header.ts';
import { Job } from './job.ts';
import { type RwLoad, rwSizing, type SizedDevice } from './sizing.ts';
import type { RemoteMemory, RwOptions, RwQp, RwResult } from './types.ts';
import { WorkQueue } from './work-queue.ts';

/** Options of {@link RwContext}: those of its {@link SgeBuilder}, or a builder to share. */
export interface RwContextOptions extends SgeBuilderOptions {
  readonly builder?: SgeBuilder;
}

const noOptions: RwOptions = {};

/**
 * Moves any memory over a queue pair. Every operation maps its fragments (see {@link SgeBuilder}), waits in order for
 * send-queue slots, posts with one signalled work request, and unmaps when the last of its work requests has come back:
 * on success, on error, and when it could not be posted.
 *
 * Operations start in the order they were called, also when one has to wait for a registration; a full queue makes them
 * wait and is never an error. The memory belongs to the operation until its promise settles.
 *
 * Errors of arguments are thrown synchronously: ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE, ERR_OUT_OF_RANGE,
 * ERR_INVALID_STATE, EMSGSIZE; see {@link SgeBuilder.map}. A failed work request rejects with `ERR_RDMA_WC_…`, and moves
 * the queue pair to the error state, which ends all other operations on it with ERR_RDMA_WC_WR_FLUSH_ERR.
 */
export class RwContext {
  readonly qp: RwQp;
  readonly builder: SgeBuilder;
  readonly #send: WorkQueue<SendWr>;
  readonly #recv: WorkQueue<RecvWr>;
  readonly #mapping = new Set<Promise<void>>();
  #calls = 0;
  #failed = false;

  /**
   * Work requests that the send queue of a queue pair must have for [load]; {@link rwSizing} tells the rest.
   *
   * @throws RdmaError as {@link rwSizing}
   */
  static maxSendWr(device: SizedDevice, load: RwLoad): number {
    return rwSizing(device, load).qp.maxSendWr;
  }

  /** Throws as {@link SgeBuilder} does. */
  constructor(qp: RwQp, options: RwContextOptions = {}) {
    this.qp = qp;
    this.builder = options.builder ?? new SgeBuilder(qp, options);
    if (this.builder.qp !== qp) {
      throw invalidArgument('ERR_INVALID_ARG_VALUE', 'options.builder was made for another queue pair');
    }
    this.#send = new WorkQueue(qp, {
      free: () => qp.sendFree,
      // The answer to a request must find the receive that was called before it.
      barrier: () => this.#recv.firstUnmapped,
      failed: () => this.#fail(),
      fill: (job, wrs) => fillSend(job.mapping!, job.header, wrs),
      post: (wrs, onRetired) => qp.postSend(wrs, onRetired),
    });
    this.#recv = new WorkQueue(qp, {
      free: () => qp.recvFree,
      barrier: () => Number.POSITIVE_INFINITY,
      failed: () => this.#fail(),
      fill: (job, wrs) => {
        for (const { sges } of job.mapping!.wrs) wrs.push({ sges });
      },
      post: (wrs, onRetired) => qp.postRecv(wrs, onRetired),
    });
  }

  /** Operations that wait for a mapping or for slots. */
  get waiting(): number {
    return this.#send.waiting + this.#recv.waiting;
  }

  /** Work requests on the device. */
  get outstanding(): number {
    return this.#send.outstanding + this.#recv.outstanding;
  }

  /** RDMA READ: fills [fragments], in order, from the peer's memory. */
  read(
    fragments: Fragments | DmaBatch,
    remote: RemoteMemory,
    options: RwOptions = noOptions,
  ): Promise<RwResult> {
    return this.#start('read', fragments, remote, options);
  }

  /**
   * RDMA WRITE: puts [fragments], in order, into the peer's memory. When it resolves this side may reuse its memory; on
   * iWARP that does not say that the bytes have reached the peer's.
   */
  write(
    fragments: Fragments | DmaBatch,
    remote: RemoteMemory,
    options: RwOptions = noOptions,
  ): Promise<RwResult> {
    return this.#start('write', fragments, remote, options);
  }

  /** SEND: one message of [fragments], into the receive that the peer posted first. */
  send(fragments: Fragments | DmaBatch, options: RwOptions = noOptions): Promise<RwResult> {
    return this.#start('send', fragments, undefined, options);
  }

  /**
   * RECV: one message into [fragments], in order; resolves with its length. A longer message fails the queue pair.
   *
   * A receive into foreign memory may have to be registered first and is posted a little later (see {@link ready});
   * what this context sends after it waits for that.
   */
  recv(fragments: Fragments | DmaBatch, options: RwOptions = noOptions): Promise<RwResult> {
    if (this.qp.srq !== undefined) {
      throw new RdmaError(
        'EINVAL',
        'this queue pair takes its receives from a shared receive queue: post them to its srq',
        { qpNum: this.qp.qpNum },
      );
    }
    return this.#start('recv', fragments, undefined, options);
  }

  /**
   * Adds [add] to the 8 bytes at [remote], in one step (ATOMIC_FETCH_AND_ADD); the sum wraps. Resolves with what was there
   * before. The peer's memory must allow REMOTE_ATOMIC, and its address be divisible by 8.
   *
   * @param add 64 bits; a negative number subtracts
   * @throws RdmaError EOPNOTSUPP where the device has no atomics, as on iWARP
   */
  fetchAdd(
    remote: RemoteMemory,
    add: number | bigint,
    options: Pick<RwOptions, 'signal'> = noOptions,
  ): Promise<bigint> {
    return this.#atomic(atomicHeader(remote, add, undefined, this.builder.pd.device), options);
  }

  /**
   * Puts [replacement] into the 8 bytes at [remote] if [expected] is there, in one step (ATOMIC_CMP_AND_SWP). Resolves with
   * what was there before: the swap was made if it equals [expected].
   *
   * @throws RdmaError as {@link fetchAdd}
   */
  compareAndSwap(
    remote: RemoteMemory,
    expected: number | bigint,
    replacement: number | bigint,
    options: Pick<RwOptions, 'signal'> = noOptions,
  ): Promise<bigint> {
    return this.#atomic(atomicHeader(remote, expected, replacement, this.builder.pd.device), options);
  }

  /**
   * Resolves when no operation called so far waits for a registration or for the arena to grow: then every receive that
   * has a slot is posted. Await it before telling a peer to send into receives of foreign memory; receives into arena
   * memory are posted by the time {@link recv} returns.
   */
  async ready(): Promise<void> {
    await Promise.all(this.#mapping);
  }

  #start(
    op: Exclude<DmaOp, 'atomic'>,
    fragments: Fragments | DmaBatch,
    remote: RemoteMemory | undefined,
    options: RwOptions,
  ): Promise<RwResult> {
    const { signal } = options;
    const header = headerOf(op, remote, options, this.builder.pd.device);
    signal?.throwIfAborted();
    return this.#submit(op, header, this.#mapAll(op, fragments, header, options), signal);
  }

  /** The device puts the old value into an arena slot: the bounce block of these 8 bytes. */
  #atomic(header: WrHeader, { signal }: Pick<RwOptions, 'signal'>): Promise<bigint> {
    signal?.throwIfAborted();
    const old = new BigUint64Array(1);
    const mapping = this.builder.mapOrWait('atomic', old, { force: 'bounce' });
    return this.#submit('atomic', header, mapping, signal).then(() => old[0]!);
  }

  #submit(
    op: DmaOp,
    header: WrHeader,
    mapping: Mapped | Promise<Mapped>,
    signal: AbortSignal | undefined,
  ): Promise<RwResult> {
    const queue = op === 'recv' ? this.#recv : this.#send;
    const now = mapping instanceof Promise ? undefined : this.#fitting(mapping);
    return new Promise((resolve, reject) => {
      const job = new Job(queue, this.#calls++, header, signal, resolve, reject);
      job.mapping = now;
      queue.push(job);
      if (!(mapping instanceof Promise)) return;
      const settled = mapping
        .then((ready) => this.#fitting(ready))
        .then(
          (ready) => queue.mapped(job, ready),
          (error) => {
            queue.remove(job);
            reject(error);
          },
        )
        .finally(() => {
          this.#mapping.delete(settled);
          if (queue === this.#recv) this.#send.pump();
        });
      this.#mapping.add(settled);
    });
  }

  /** Maps the operation and the message behind it; both or neither. */
  #mapAll(
    op: DmaOp,
    fragments: Fragments | DmaBatch,
    header: WrHeader,
    options: RwOptions,
  ): Mapped | Promise<Mapped> {
    const remoteAddr = pagePlace(header.remoteAddr);
    // Some devices wedge on an inline SEND_WITH_INV.
    const noInline = header.opcode === Opcode.SEND_WITH_INV && this.builder.quirks.plainInline;
    const { message } = options;
    if (message === undefined) return this.#map(op, fragments, { remoteAddr, noInline, ...options });
    const head = this.#map(op, fragments, { remoteAddr, ...options });
    let tail: Mapped | Promise<Mapped>;
    try {
      tail = this.#map('send', message, { remoteAddr: 0, noInline });
    } catch (error) {
      undo(head);
      throw error;
    }
    if (!(head instanceof Promise) && !(tail instanceof Promise)) return chained(head, tail);
    return Promise.allSettled([head, tail]).then(([first, second]) => {
      if (first.status === 'rejected' || second.status === 'rejected') {
        for (const one of [first, second]) if (one.status === 'fulfilled') undo(one.value);
        throw first.status === 'rejected' ? first.reason : (second as PromiseRejectedResult).reason;
      }
      return chained(first.value, second.value);
    });
  }

  /** A list longer than the send queue could never be posted: it would wait for ever. */
  #fitting(mapping: Mapped): Mapped {
    const slots = slotsOf(mapping);
    const { sendSlots } = this.builder.limits;
    if (mapping.op === 'recv' || slots <= sendSlots) return mapping;
    undo(mapping);
    const what = mapping.tail === undefined ? mapping.op : 'write and its message';
    throw new RdmaError(
      'EMSGSIZE',
      `the ${what} needs ${slots} work requests and the send queue has ${sendSlots}`,
      { errno: -90 },
    );
  }

  #map(
    op: DmaOp,
    fragments: Fragments | DmaBatch,
    options: MapOptions & { readonly remoteAddr: number },
  ): Mapped | Promise<Mapped> {
    if (!(fragments instanceof DmaBatch)) return this.builder.mapOrWait(op, fragments, options);
    if (fragments.builder.pd !== this.builder.pd) {
      throw invalidArgument('ERR_INVALID_ARG_VALUE', 'the batch was mapped for another protection domain');
    }
    return fragments._map(op, options.remoteAddr, this.builder);
  }

  #fail(): void {
    if (this.#failed) return;
    this.#failed = true;
    this.#send.breakOff();
    this.#recv.breakOff();
    try {
      // Some devices flush the rest of the queue only when asked to.
      this.qp.toError();
    } catch {
      // Closed meanwhile: everything has been flushed then.
    }
  }
}

/** Lets go of a mapping of which nothing is posted. */
function undo(mapping: Mapped | Promise<Mapped>): void {
  if (mapping instanceof Promise) mapping.then(undo, () => undefined);
  else mapping.retire(WcStatus.WR_FLUSH_ERR);
}
