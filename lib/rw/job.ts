// One operation of a read/write context, from its mapping to its last completion.

import type { Mapped } from '../dma/mapping.ts';
import { RdmaError, WcStatus, wcError } from '../errors.ts';
import { WcOpcode } from '../verbs/constants.ts';
import type { WrHeader } from './header.ts';
import type { RwQp, RwResult } from './types.ts';

/** Flags of completions (enum ibv_wc_flags). */
const WC_WITH_IMM = 2;
const WC_WITH_INV = 8;

/** What a job tells its queue. @internal */
export interface JobOwner {
  readonly qp: RwQp;
  /** A work request failed: the queue pair is of no use any more. */
  failed(): void;
  /** Slots have come back. */
  retired(count: number): void;
}

/** @internal */
export class Job {
  /** Undefined while registrations or arena growth are under way. */
  mapping: Mapped | undefined;
  /** Counts the context's calls. */
  readonly order: number;
  /** What its work requests say. */
  readonly header: WrHeader;
  readonly signal: AbortSignal | undefined;
  next: Job | undefined;
  /** Given to the queue pair for every work request of the job. */
  readonly onRetired: (status: number, byteLen: number, wc: number) => void;
  readonly #owner: JobOwner;
  readonly #resolve: (result: RwResult) => void;
  readonly #reject: (error: unknown) => void;
  #outstanding = 0;
  #status: number = WcStatus.SUCCESS;
  #vendorErr = 0;
  #byteLen = 0;
  #arrival: Partial<RwResult> | undefined;
  /** Set when the rest of the job could not be posted. */
  #postError: unknown;

  constructor(
    owner: JobOwner,
    order: number,
    header: WrHeader,
    signal: AbortSignal | undefined,
    resolve: (result: RwResult) => void,
    reject: (error: unknown) => void,
  ) {
    this.#owner = owner;
    this.order = order;
    this.header = header;
    this.signal = signal;
    this.#resolve = resolve;
    this.#reject = reject;
    this.onRetired = (status, byteLen, wc) => this.#onRetired(status, byteLen, wc);
  }

  /** [count] work requests of it are on their way. */
  posted(count: number): void {
    this.#outstanding = count;
  }

  /** Only the first [posted] work requests went: the job ends with [error] when they have come back. */
  cut(posted: number, error: unknown): void {
    this.#postError = this.#refusal(error, posted);
    this.#outstanding = posted;
  }

  /** Ends a job of which nothing is posted, because one of its work requests was refused. */
  refusePost(error: unknown): void {
    this.refuse(this.#refusal(error, (error as RdmaError).wrIndex ?? 0));
  }

  /** Ends a job of which nothing is posted. */
  refuse(error: unknown): void {
    this.mapping?.retire(WcStatus.WR_FLUSH_ERR);
    this.#reject(error);
  }

  /** Ends a job of which nothing is posted because the queue pair is in the error state. */
  flush(): void {
    this.refuse(this.#wcError(WcStatus.WR_FLUSH_ERR, this.mapping!));
  }

  #onRetired(status: number, byteLen: number, wc: number): void {
    this.#outstanding--;
    if (status !== WcStatus.SUCCESS) this.#noteFailure(status, wc);
    else if (this.mapping!.op === 'recv') this.#noteArrival(byteLen, wc);
    if (this.#outstanding === 0) this.#settle();
    this.#owner.retired(1);
  }

  /** [error], which speaks of a list that its user has not seen, as the error of the operation. */
  #refusal(error: unknown, index: number): unknown {
    if (!(error instanceof RdmaError)) return error;
    const head = this.mapping!;
    const behind = index - head.wrs.length;
    const fragment =
      behind < 0
        ? head.fragmentAt(head.wrs[index]!.offset)
        : head.tail!.fragmentAt(head.tail!.wrs[behind]!.offset);
    const { code, message, errno, syscall, qpNum, posted } = error;
    const details = { errno, syscall, qpNum, posted, wrIndex: index, fragment, cause: error };
    return new RdmaError(code, `${operationOf(head)}: ${message}`, details);
  }

  #noteArrival(byteLen: number, wc: number): void {
    const { ring } = this.#owner.qp.recvCq;
    const flags = ring.flags(wc);
    const written = ring.opcode(wc) === WcOpcode.RECV_RDMA_WITH_IMM;
    if (!written) this.#byteLen = byteLen;
    if ((flags & (WC_WITH_IMM | WC_WITH_INV)) === 0) return;
    const value = ring.immData(wc);
    this.#arrival = {
      ...((flags & WC_WITH_IMM) === 0 ? undefined : { immData: value }),
      ...((flags & WC_WITH_INV) === 0 ? undefined : { invalidatedRkey: value }),
      ...(written ? { writtenBytes: byteLen } : undefined),
    };
  }

  /** Keeps the first status that is not a flush: that one is the cause, flushes are what follows from it. */
  #noteFailure(status: number, wc: number): void {
    const first = this.#status === WcStatus.SUCCESS || this.#status === WcStatus.WR_FLUSH_ERR;
    if (!first) return;
    this.#status = status;
    const { op } = this.mapping!;
    const { recvCq, sendCq } = this.#owner.qp;
    if (wc >= 0) this.#vendorErr = (op === 'recv' ? recvCq : sendCq).ring.vendorErr(wc);
    this.#owner.failed();
  }

  #settle(): void {
    const mapping = this.mapping!;
    const status = this.#status;
    const bytes = mapping.op === 'recv' ? this.#byteLen : mapping.total;
    const failure = mapping.retire(status, bytes);
    if (this.#postError !== undefined) this.#reject(this.#postError);
    else if (status !== WcStatus.SUCCESS) this.#reject(this.#wcError(status, mapping));
    else if (failure !== undefined) this.#reject(failure);
    else this.#resolve({ bytes, strategy: mapping.strategy, ...this.#arrival });
  }

  #wcError(status: number, mapping: Mapped): Error {
    const { qp } = this.#owner;
    return wcError(status, {
      operation: operationOf(mapping),
      vendorErr: this.#vendorErr,
      qpNum: qp.qpNum,
      device: qp.pd.device.name,
    });
  }
}

function operationOf({ op, total, strategy }: Mapped): string {
  return `${op} of ${total} bytes (${strategy})`;
}
