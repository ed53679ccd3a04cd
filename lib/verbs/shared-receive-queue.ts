import { addon, postStatus } from '../addon.ts';
import { invalidArgument, RdmaError, WcStatus, wcError } from '../errors.ts';
import { postError } from '../ring/post-error.ts';
import { SlotRing } from '../ring/slot-ring.ts';
import { type AsyncEvent, AsyncEventTarget, type SharedReceiveQueueEvent } from './async-event.ts';
import { checkInteger } from './check.ts';
import { CompletionQueue } from './completion-queue.ts';
import type { Device } from './device.ts';
import type { ProtectionDomain } from './protection-domain.ts';
import type { QueuePair } from './queue-pair.ts';
import { type WorkCompletion, workCompletion } from './work-completion.ts';
import type { RecvWr } from './work-request.ts';
import { fillRecvSges, type SgeContext } from './work-request-slot.ts';
import { XrcDomain } from './xrc-domain.ts';

/** Receives of one shared receive queue: the number of slots that a work request's name can hold. */
const MAX_WR = 1 << 20;

/** What a shared receive queue is made with (ibv_create_srq(3)). */
export interface SrqOptions {
  /** Receives; 256 by default. */
  readonly maxWr?: number;
  /** SGEs of one receive; 1 by default. */
  readonly maxSge?: number;
  /**
   * SRQ_LIMIT_REACHED is emitted once, when fewer receives than this are left for the queue pairs; 0, the default, for
   * never.
   */
  readonly limit?: number;
  /**
   * Makes an XRC queue (ibv_create_srq_ex(3)): the XRC_RECV queue pairs of this domain feed it, and peers name it by its
   * srqNum. Needs `cq`.
   */
  readonly xrcd?: XrcDomain;
  /** Where the receives of an XRC queue complete. Those of others complete where their queue pairs say. */
  readonly cq?: CompletionQueue;
}

/** Attributes by ibv_query_srq(3). */
export interface SrqAttr {
  /** What the device granted, which may be more than was asked for. */
  readonly maxWr: number;
  readonly maxSge: number;
  /** 0 after the limit was reached. */
  readonly limit: number;
}

/**
 * Called once for every receive of a shared receive queue, when it is retired.
 *
 * @param status one of WcStatus
 * @param byteLen bytes of the message, for a success
 * @param wc index of the completion in `cq.ring`, valid during the call; -1 when the queue was closed
 * @param cq the completion queue that it came through; undefined when the queue was closed
 */
export type OnReceived = (
  status: number,
  byteLen: number,
  wc: number,
  cq: CompletionQueue | undefined,
) => void;

function checkXrc(xrcd: unknown, cq: unknown): void {
  if (xrcd === undefined && cq === undefined) return;
  if (xrcd === undefined) {
    throw invalidArgument(
      'ERR_INVALID_ARG_VALUE',
      'cq is only for an XRC queue, with xrcd: other receives complete where their queue pair says',
    );
  }
  if (!(xrcd instanceof XrcDomain)) {
    throw invalidArgument('ERR_INVALID_ARG_TYPE', 'xrcd must be an XrcDomain, made by device.openXrcd()');
  }
  if (!(cq instanceof CompletionQueue)) {
    throw invalidArgument(
      'ERR_INVALID_ARG_TYPE',
      'an XRC queue needs cq, a CompletionQueue, for its receives to complete',
    );
  }
}

/** A receive of no queue pair in particular. */
const SHARED: SgeContext = { qpNum: undefined };

/**
 * Receives that several queue pairs share; made by {@link ProtectionDomain.createSrq} and given to queue pairs with
 * `createQp({ srq })`. A message takes the oldest receive and completes through the receive completion queue of its queue
 * pair; completions come in any order, and `qpNum` says for whom.
 *
 * A queue pair that ends in the middle of a message may take a receive with it. The device does not say which, so its memory
 * stays pinned, and its place taken, until the queue is closed.
 */
export class SharedReceiveQueue extends AsyncEventTarget<SharedReceiveQueueEvent> {
  readonly pd: ProtectionDomain;
  /** Number by which peers name an XRC queue (ibv_get_srq_num(3)); undefined for others. */
  readonly srqNum: number | undefined;
  readonly #ring: SlotRing<OnReceived>;
  readonly #key: number;
  readonly #cqs = new Set<CompletionQueue>();
  readonly #qps = new Map<number, QueuePair>();

  /** @internal */
  constructor(pd: ProtectionDomain, options: SrqOptions = {}) {
    const { maxWr = 256, maxSge = 1, limit = 0 } = options;
    checkInteger('maxWr', maxWr, 1, MAX_WR);
    checkInteger('maxSge', maxSge, 1, 0x7fff_ffff);
    checkInteger('limit', limit, 0, maxWr);
    const { xrcd, cq } = options;
    checkXrc(xrcd, cq);
    const [handle, srqNum] = addon.createSrq(
      pd._handle,
      maxWr,
      maxSge,
      limit,
      xrcd?._handle ?? 0,
      cq?._handle ?? 0,
    );
    super('shared receive queue', handle);
    this.#key = handle;
    this.pd = pd;
    this.srqNum = xrcd === undefined ? undefined : srqNum;
    this.#ring = new SlotRing(maxWr, maxSge);
    const { memory, batch } = this.#ring.shared;
    addon.attachSrqRing(handle, memory, batch);
    if (cq !== undefined) this.#attachCq(cq);
    this._onGone(() => this.#settle());
  }

  get device(): Device {
    return this.pd.device;
  }

  /** Receives that it takes. */
  get maxWr(): number {
    return this.#ring.limits.maxWr;
  }

  /** SGEs that a receive takes. */
  get maxSge(): number {
    return this.#ring.limits.maxSge;
  }

  /** Receives that can be posted now. */
  get free(): number {
    return this.#ring.free;
  }

  /** Receives that are posted and have not come back. */
  get outstanding(): number {
    return this.#ring.outstanding;
  }

  /**
   * Posts a list of receives with one native call (ibv_post_srq_recv(3)).
   *
   * @param onRetired one callback for all, or one for each (null: none)
   * @throws RdmaError before anything is posted when a receive is wrong (`wrIndex` says which); ENOBUFS when the queue has
   *   no room; with `posted` > 0 when the provider refused a later one of the list
   */
  postRecv(wrs: RecvWr | readonly RecvWr[], onRetired?: OnReceived | readonly (OnReceived | null)[]): void {
    const list = Array.isArray(wrs) ? (wrs as readonly RecvWr[]) : [wrs as RecvWr];
    const handle = this._handle;
    if (list.length === 0) return;
    const ring = this.#ring;
    if (list.length > ring.free) {
      throw new RdmaError(
        'ENOBUFS',
        `ibv_post_srq_recv: ${list.length} receives do not fit: ${ring.outstanding} of ${ring.limits.maxWr} are in flight`,
        { syscall: 'ibv_post_srq_recv', wrIndex: ring.free, posted: 0, device: this.device.name },
      );
    }
    for (let i = 0; i < list.length; i += 1) {
      const slot = ring.slot(i);
      ring.setReceive(slot, fillRecvSges(ring, slot, list[i] as RecvWr, i, SHARED));
    }
    const errno = addon.postSrqRecv(handle, list.length);
    const error = errno === 0 ? undefined : postError('ibv_post_srq_recv', errno, postStatus, undefined);
    const posted = error === undefined ? list.length : (error.posted ?? 0);
    for (let i = 0; i < posted; i += 1) {
      ring.posted(typeof onRetired === 'function' ? onRetired : (onRetired?.[i] ?? null));
    }
    if (error !== undefined) throw error;
  }

  /**
   * Posts one receive; `qpNum` of what it resolves with says which queue pair took it.
   *
   * @throws RdmaError at once for a bad receive; rejects with ERR_RDMA_WC_… when it fails
   */
  recv(wr: RecvWr): Promise<WorkCompletion> {
    return new Promise((resolve, reject) => {
      this.postRecv(wr, (status, byteLen, wc, cq) => {
        if (status === WcStatus.SUCCESS && cq !== undefined) {
          resolve(workCompletion(cq.ring, wc, byteLen));
          return;
        }
        const from = cq === undefined ? {} : { vendorErr: cq.ring.vendorErr(wc), qpNum: cq.ring.qpNum(wc) };
        reject(wcError(status, { operation: 'RECV', device: this.device.name, ...from }));
      });
    });
  }

  /**
   * Changes the number of receives, or sets the limit anew (ibv_modify_srq(3)): a limit that was reached is 0 until then.
   * Given both, the one that may stand in the other's way comes first.
   *
   * @throws RdmaError EBUSY for fewer receives than are in flight, ENOSPC when a completion queue has no room for more,
   *   EOPNOTSUPP where the device can not resize (siw), EIO when the queue was lost over it and has been closed (rxe, when
   *   there is no memory to map)
   */
  modify(attr: { readonly maxWr?: number; readonly limit?: number }): void {
    const { maxWr, limit } = attr;
    const handle = this._handle;
    if (maxWr !== undefined) checkInteger('maxWr', maxWr, 1, MAX_WR);
    if (limit !== undefined) checkInteger('limit', limit, 0, maxWr ?? this.maxWr);
    const shrinks = maxWr !== undefined && maxWr < this.maxWr;
    if (shrinks && limit !== undefined) addon.setSrqLimit(handle, limit);
    if (maxWr !== undefined) {
      const slots = this.#ring.memoryFor(maxWr);
      try {
        addon.resizeSrq(handle, maxWr, slots.capacity, slots.memory, slots.batch);
      } catch (error) {
        if ((error as RdmaError).code === 'EIO') this.close();
        throw error;
      }
      this.#ring.resize(maxWr, slots);
    }
    if (!shrinks && limit !== undefined) addon.setSrqLimit(handle, limit);
  }

  /** @throws RdmaError EOPNOTSUPP where the device can not be asked (siw) (ibv_query_srq(3)) */
  query(): SrqAttr {
    const [maxWr, maxSge, limit] = addon.querySrq(this._handle);
    return { maxWr, maxSge, limit };
  }

  /** Nothing comes back from a queue that has failed: closing it settles what is in flight. @internal */
  override _react(event: AsyncEvent): void {
    if (event.type === 'SRQ_ERR') this.close();
  }

  /** [qp] takes its receives from here and reports them to [cq]. @internal */
  _attachQp(qp: QueuePair, cq: CompletionQueue): void {
    this.#qps.set(qp.qpNum, qp);
    this.#attachCq(cq);
  }

  #attachCq(cq: CompletionQueue): void {
    if (this.#cqs.has(cq)) return;
    for (const known of this.#cqs) if (known.closed) this.#cqs.delete(known);
    this.#cqs.add(cq);
    cq._attach(this.#key, {
      _complete: (_, name, status, byteLen, wc) => this.#complete(cq, name, status, byteLen, wc),
      // A completion queue that fails takes its queue pairs along, not the receives of others.
      close() {},
    });
  }

  /** @internal */
  _detachQp(qp: QueuePair): void {
    if (this.#qps.get(qp.qpNum) === qp) this.#qps.delete(qp.qpNum);
  }

  #complete(cq: CompletionQueue, name: number, status: number, byteLen: number, wc: number): void {
    if (status !== WcStatus.SUCCESS) {
      const qp = this.#qps.get(cq.ring.qpNum(wc));
      if (qp?.closed === false) qp.toError();
    }
    this.#ring.retire(name)?.(status, byteLen, wc, cq);
  }

  #settle(): void {
    for (const cq of this.#cqs) cq._detach(this.#key);
    for (const retired of this.#ring.takeAll()) retired(WcStatus.WR_FLUSH_ERR, 0, -1, undefined);
  }
}
