// The user-space counterpart of the kernel's rdma_rw_ctx: memory and an operation in, a promise out, nothing to unmap.

import { DmaBatch } from '../dma/batch.ts';
import type { Fragments } from '../dma/fragments.ts';
import { chained, type Mapped, slotsOf } from '../dma/mapping.ts';
import { SgeBuilder, type SgeBuilderOptions } from '../dma/sge-builder.ts';
import type { ForceStrategy } from '../dma/transfer.ts';
import type { DmaOp } from '../dma/types.ts';
import { invalidArgument, RdmaError, WcStatus } from '../errors.ts';
import { Opcode, SendFlags } from '../verbs/constants.ts';
import type { RecvWr, SendWr } from '../verbs/work-request.ts';
import { Job } from './job.ts';
import type { RemoteMemory, RwQp, RwResult } from './types.ts';
import { WorkQueue } from './work-queue.ts';

/** Options of {@link RwContext}: those of its {@link SgeBuilder}, or a builder to share. */
export interface RwContextOptions extends SgeBuilderOptions {
  readonly builder?: SgeBuilder;
}

/** Options of one operation. */
export interface RwOptions {
  /** Take this strategy; throws where it is impossible. */
  readonly force?: ForceStrategy;
  /** The memory will be used again: register foreign buffers to stay, already the first time. */
  readonly reuse?: boolean;
  /**
   * Of a write: a message that is sent behind it, in the same list of work requests. The peer has all of the bytes when
   * it receives the message; the write resolves when the message has gone.
   */
  readonly message?: Fragments;
  /**
   * Gives up an operation that still waits for its turn; noticed when the turn comes. What has been posted cannot be
   * taken back from the device.
   */
  readonly signal?: AbortSignal;
}

const opcodes = { send: Opcode.SEND, write: Opcode.RDMA_WRITE, read: Opcode.RDMA_READ } as const;
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
      fill: (job, wrs) => this.#fillSend(job, wrs),
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
    fragments: Fragments | DmaBatch | DmaBatch,
    remote: RemoteMemory,
    options: RwOptions = noOptions,
  ): Promise<RwResult> {
    return this.#submit('read', fragments, remote, options);
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
    return this.#submit('write', fragments, remote, options);
  }

  /** SEND: one message of [fragments], into the receive that the peer posted first. */
  send(fragments: Fragments | DmaBatch, options: RwOptions = noOptions): Promise<RwResult> {
    return this.#submit('send', fragments, undefined, options);
  }

  /**
   * RECV: one message into [fragments], in order; resolves with its length. A longer message fails the queue pair.
   *
   * A receive into foreign memory may have to be registered first and is posted a little later (see {@link ready});
   * what this context sends after it waits for that.
   */
  recv(fragments: Fragments | DmaBatch, options: RwOptions = noOptions): Promise<RwResult> {
    return this.#submit('recv', fragments, undefined, options);
  }

  /**
   * Resolves when no operation called so far waits for a registration or for the arena to grow: then every receive that
   * has a slot is posted. Await it before telling a peer to send into receives of foreign memory; receives into arena
   * memory are posted by the time {@link recv} returns.
   */
  async ready(): Promise<void> {
    await Promise.all(this.#mapping);
  }

  #submit(
    op: DmaOp,
    fragments: Fragments | DmaBatch,
    remote: RemoteMemory | undefined,
    options: RwOptions,
  ): Promise<RwResult> {
    const { signal } = options;
    const remoteAddr = remote === undefined ? 0 : checkAddr(remote.addr);
    const rkey = remote === undefined ? 0 : checkKey(remote.rkey);
    signal?.throwIfAborted();
    const mapping = this.#mapAll(op, fragments, remoteAddr, options);
    const queue = op === 'recv' ? this.#recv : this.#send;
    return new Promise((resolve, reject) => {
      const job = new Job(queue, this.#calls++, remoteAddr, rkey, signal, resolve, reject);
      if (!(mapping instanceof Promise)) {
        job.mapping = mapping;
        queue.push(job);
        return;
      }
      queue.push(job);
      const settled = mapping
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
    remoteAddr: number,
    options: RwOptions,
  ): Mapped | Promise<Mapped> {
    const head = this.#map(op, fragments, remoteAddr, options);
    const { message } = options;
    if (message === undefined) return head;
    let tail: Mapped | Promise<Mapped>;
    try {
      if (op !== 'write')
        throw invalidArgument('ERR_INVALID_ARG_VALUE', `options.message is for a write, not for a ${op}`);
      tail = this.#map('send', message, 0, {});
    } catch (error) {
      undo(head);
      throw error;
    }
    if (!(head instanceof Promise) && !(tail instanceof Promise)) return this.#fitting(chained(head, tail));
    return Promise.allSettled([head, tail]).then(([first, second]) => {
      if (first.status === 'rejected' || second.status === 'rejected') {
        for (const one of [first, second]) if (one.status === 'fulfilled') undo(one.value);
        throw first.status === 'rejected' ? first.reason : (second as PromiseRejectedResult).reason;
      }
      return this.#fitting(chained(first.value, second.value));
    });
  }

  /** A chain longer than the send queue could never be posted. */
  #fitting(mapping: Mapped): Mapped {
    const slots = slotsOf(mapping);
    if (slots <= this.builder.limits.sendSlots) return mapping;
    undo(mapping);
    throw new RdmaError(
      'EMSGSIZE',
      `the write and its message need ${slots} work requests and the send queue has ${this.builder.limits.sendSlots}`,
      { errno: -90 },
    );
  }

  #map(
    op: DmaOp,
    fragments: Fragments | DmaBatch,
    remoteAddr: number,
    { force, reuse }: RwOptions,
  ): Mapped | Promise<Mapped> {
    if (!(fragments instanceof DmaBatch)) {
      return this.builder.mapOrWait(op, fragments, { remoteAddr, force, reuse });
    }
    if (fragments.builder.pd !== this.builder.pd) {
      throw invalidArgument('ERR_INVALID_ARG_VALUE', 'the batch was mapped for another protection domain');
    }
    return fragments._map(op, remoteAddr);
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

  #fillSend(job: Job, wrs: SendWr[]): void {
    const mapping = job.mapping!;
    fill(mapping, job.remoteAddr, job.rkey, mapping.tail === undefined, wrs);
    if (mapping.tail !== undefined) fill(mapping.tail, 0, 0, true, wrs);
  }
}

/** Lets go of a mapping of which nothing is posted. */
function undo(mapping: Mapped | Promise<Mapped>): void {
  if (mapping instanceof Promise) mapping.then(undo, () => undefined);
  else mapping.retire(WcStatus.WR_FLUSH_ERR);
}

/** Appends the work requests of [mapping]; the last of all is signalled. */
function fill(mapping: Mapped, remoteAddr: number, rkey: number, isLast: boolean, wrs: SendWr[]): void {
  const opcode = opcodes[mapping.op as keyof typeof opcodes];
  const base = mapping.inline ? SendFlags.INLINE : 0;
  const list = mapping.wrs;
  const last = isLast ? list.length - 1 : list.length;
  for (let i = 0; i < list.length; i++) {
    const { sges, offset, signal } = list[i]!;
    const flags = i === last || signal ? base | SendFlags.SIGNALED : base;
    if (mapping.inlineBytes === undefined) {
      wrs.push({ opcode, sges, flags, remoteAddr: remoteAddr + offset, rkey } as SendWr);
    } else {
      wrs.push({ opcode, inline: mapping.inlineBytes, flags, remoteAddr, rkey } as SendWr);
    }
  }
}

function checkAddr(addr: number | bigint): number {
  const value = typeof addr === 'bigint' ? Number(addr) : addr;
  if (!Number.isSafeInteger(value) || value < 0) {
    throw invalidArgument(
      'ERR_OUT_OF_RANGE',
      `remote.addr must be an address from 0 to 2^53 - 1, got ${addr}`,
    );
  }
  return value;
}

function checkKey(rkey: number): number {
  if (!Number.isInteger(rkey) || rkey < 0 || rkey > 0xffffffff) {
    throw invalidArgument(
      'ERR_OUT_OF_RANGE',
      `remote.rkey must be an integer from 0 to 2^32 - 1, got ${rkey}`,
    );
  }
  return rkey;
}
