import { addon, type NativeQpAttr } from '../addon.ts';
import { RdmaError, WcStatus, wcError } from '../errors.ts';
import type { OnRetired } from '../ring/work-ring.ts';
import type { AsyncEvent } from './async-event.ts';
import { type BatchQueue, RecvBatch, SendBatch } from './batch.ts';
import { checkInteger } from './check.ts';
import type { CompletionQueue, CompletionSink } from './completion-queue.ts';
import { Opcode, type QpState, qpStates, SendFlags } from './constants.ts';
import type { MemoryWindow } from './memory-window.ts';
import { PostQueue, type Retired } from './post-queue.ts';
import type { ProtectionDomain } from './protection-domain.ts';
import { type NativeQp, QueuePairControl } from './qp-control.ts';
import type { SharedReceiveQueue } from './shared-receive-queue.ts';
import { type WorkCompletion, workCompletion } from './work-completion.ts';
import type { MwBindInfo, RecvWr, SendWr } from './work-request.ts';
import { fillRecv, fillSend, type SlotContext } from './work-request-slot.ts';

/** How long a device may take to flush a queue pair in the error state; siw never flushes what was posted after it. */
const FLUSH_MS = 1000;
const opcodeNames = Object.fromEntries(Object.entries(Opcode).map(([name, value]) => [value, name]));

/** What a queue pair can take. */
export interface QueuePairCaps {
  readonly maxSendWr: number;
  readonly maxRecvWr: number;
  readonly maxSendSge: number;
  readonly maxRecvSge: number;
  /** SGEs of an RDMA READ's sink. */
  readonly maxReadSge: number;
  /** Bytes. */
  readonly maxInlineData: number;
  /** Longest message, in bytes. */
  readonly maxMessage: number;
}

/** Events after which a queue pair is in the error state, or never works again. */
const fatalEvents: ReadonlySet<string> = new Set([
  'QP_FATAL',
  'QP_REQ_ERR',
  'QP_ACCESS_ERR',
  'DEVICE_FATAL',
  'DEVICE_REMOVED',
]);

/** A queue pair; made by {@link ProtectionDomain.createQp} or {@link CmId.createQp}. */
export class QueuePair extends QueuePairControl implements CompletionSink {
  readonly sendCq: CompletionQueue;
  readonly recvCq: CompletionQueue;
  /** Where it takes its receives from, instead of a queue of its own. */
  readonly srq: SharedReceiveQueue | undefined;
  readonly caps: QueuePairCaps;
  readonly #send: PostQueue;
  readonly #recv: PostQueue;
  readonly #key: number;
  readonly #slots: SlotContext;
  #sendBatch: SendBatch | undefined;
  #recvBatch: RecvBatch | undefined;
  /** In the error state, for good unless it is reset. */
  #failed = false;
  /** Its sends have failed, its receives go on (UC, UD); back to RTS by modify. */
  #sendFailed = false;
  #resetting = false;
  #flushTimer: NodeJS.Timeout | undefined;

  /** @internal */
  constructor(
    native: NativeQp,
    pd: ProtectionDomain,
    sendCq: CompletionQueue,
    recvCq: CompletionQueue,
    srq?: SharedReceiveQueue,
  ) {
    super(native, pd);
    this.#key = native.handle;
    this.sendCq = sendCq;
    this.recvCq = recvCq;
    this.srq = srq;
    this.caps = {
      maxSendWr: native.send.maxWr,
      maxRecvWr: native.recv.maxWr,
      maxSendSge: native.send.maxSge,
      maxRecvSge: native.recv.maxSge,
      maxReadSge: native.send.maxSgeRead,
      maxInlineData: native.send.maxInline,
      maxMessage: native.send.maxMessage,
    };
    this.#slots = { qpNum: native.qpNum, type: this.type, pd };
    this.#send = new PostQueue(native.send, false, native.qpNum);
    this.#recv = new PostQueue(native.recv, true, native.qpNum);
    addon.attachRings(native.handle, this.#send.ring.memory, this.#recv.ring.memory);
    sendCq._attach(native.handle, this);
    recvCq._attach(native.handle, this);
    srq?._attachQp(this, recvCq);
    this._onGone(() => this.#settle());
  }

  /** Work requests that the send queue can take now. */
  get sendFree(): number {
    return this.#send.ring.free;
  }

  /** Work requests that the receive queue can take now. */
  get recvFree(): number {
    return this.#recv.ring.free;
  }

  /** State by ibv_query_qp(3), which siw does not keep up to date after errors; 'ERR' once it has failed or is closed. */
  get state(): QpState {
    if (this.#failed || this.closed) return 'ERR';
    return qpStates[addon.queryQpState(this._handle)] ?? 'UNKNOWN';
  }

  /**
   * Posts a list of work requests with one native call (ibv_post_send(3)).
   *
   * Everything that SGEs name must stay as it is until its work request is retired; a region that is closed meanwhile
   * keeps its registration until then. Without SIGNALED a work request is retired by a later one that has it: signal at
   * least one in every maxSendWr, or the queue stays full.
   *
   * @param onRetired one callback for all, or one for each (null: none)
   * @throws RdmaError before anything is posted when a work request is wrong (`wrIndex` says which); ENOBUFS when the
   *   queue has no room; with `posted` > 0 when the provider refused a later one of the list
   */
  postSend(wrs: SendWr | readonly SendWr[], onRetired?: OnRetired | readonly (OnRetired | null)[]): void {
    const list = Array.isArray(wrs) ? (wrs as readonly SendWr[]) : [wrs as SendWr];
    if (list.length === 0) return;
    this.#send.checkRoom(list.length);
    const { ring } = this.#send;
    for (let i = 0; i < list.length; i += 1) {
      fillSend(ring, (ring.tail + i) | 0, list[i] as SendWr, i, this.#slots);
    }
    this.#post(this.#send, list.length, onRetired);
  }

  /**
   * Posts a list of receives with one native call (ibv_post_recv(3)).
   *
   * @param onRetired one callback for all, or one for each (null: none); its byteLen is the length of the message
   * @throws RdmaError as {@link postSend}
   */
  postRecv(wrs: RecvWr | readonly RecvWr[], onRetired?: OnRetired | readonly (OnRetired | null)[]): void {
    const list = Array.isArray(wrs) ? (wrs as readonly RecvWr[]) : [wrs as RecvWr];
    if (list.length === 0) return;
    this.#checkOwnReceives();
    this.#recv.checkRoom(list.length);
    const { ring } = this.#recv;
    for (let i = 0; i < list.length; i += 1) {
      fillRecv(ring, (ring.tail + i) | 0, list[i] as RecvWr, i, this.#slots);
    }
    this.#post(this.#recv, list.length, onRetired);
  }

  /**
   * Adds sends to the ring without an object for any of them, and posts them together: the cheapest way. There is one for the
   * queue pair; {@link postSend} waits until what it holds is posted.
   *
   * @throws RdmaError EINVAL for UD, RAW_PACKET and XRC queue pairs, whose sends have more to say
   */
  get sendBatch(): SendBatch {
    this.#sendBatch ??= this.#makeSendBatch();
    return this.#sendBatch;
  }

  /**
   * The same for receives.
   *
   * @throws RdmaError EINVAL for a queue pair with a shared receive queue
   */
  get recvBatch(): RecvBatch {
    this.#recvBatch ??= this.#makeRecvBatch();
    return this.#recvBatch;
  }

  /**
   * Posts one signalled work request.
   *
   * @throws RdmaError at once for a bad work request; rejects with ERR_RDMA_WC_… when it fails
   */
  send(wr: SendWr): Promise<WorkCompletion> {
    return new Promise((resolve, reject) => {
      this.#send.checkRoom(1);
      const { ring } = this.#send;
      fillSend(ring, ring.tail, wr, 0, this.#slots, SendFlags.SIGNALED);
      const { opcode } = wr;
      this.#post(this.#send, 1, (status, byteLen, wc) => {
        this.#conclude(this.sendCq, opcode, status, byteLen, wc, resolve, reject);
      });
    });
  }

  /**
   * Binds a memory window (ibv_bind_mw(3) for type 1, ibv_post_send(3) with BIND_MW for type 2).
   *
   * @returns its new rkey, when the bind has completed
   * @throws RdmaError as {@link send}
   */
  async bindMw(mw: MemoryWindow, bindInfo: MwBindInfo): Promise<number> {
    await this.send({ opcode: Opcode.BIND_MW, mw, bindInfo });
    return mw.rkey;
  }

  /**
   * Posts one receive.
   *
   * @throws RdmaError as {@link send}
   */
  recv(wr: RecvWr): Promise<WorkCompletion> {
    return new Promise((resolve, reject) => {
      this.postRecv(wr, (status, byteLen, wc) => {
        this.#conclude(this.recvCq, undefined, status, byteLen, wc, resolve, reject);
      });
    });
  }

  /**
   * Moves the queue pair to the error state (ibv_modify_qp(3)), from which only RESET leads back. Everything in flight is
   * retired with WR_FLUSH_ERR, and so is what is posted from now on. The first error of a completion and the end of the
   * connection do the same.
   *
   * Devices differ: siw flushes nothing before it is told and never what was posted too late; rxe may keep receives. So
   * what has not come back after a second is settled by destroying the queue pair.
   */
  toError(): void {
    const handle = this._handle;
    if (this.#failed) return;
    addon.qpToError(handle);
    this.#failed = true;
    this.#flushTimer = setTimeout(() => {
      if (this.#send.atDevice + this.#recv.atDevice > 0) this.close();
    }, FLUSH_MS);
    if (this.#send.atDevice + this.#recv.atDevice === 0) this.#flushTimer.unref();
  }

  /**
   * Sets how long a peer waits after "receiver not ready" (IBV_QP_MIN_RNR_TIMER, ibv_modify_qp(3)): 0 = 655 ms,
   * 1 = 0.01 ms … 12 = 0.64 ms … 31 = 491 ms.
   */
  setMinRnrTimer(timer: number): void {
    checkInteger('timer', timer, 0, 31);
    addon.setMinRnrTimer(this._handle, timer);
  }

  /** @internal */
  override _react(event: AsyncEvent): void {
    if (!fatalEvents.has(event.type) || this.closed) return;
    try {
      this.toError();
    } catch {
      // The device has gone, and the kernel's queue pair with it: destroying ours settles what was in flight.
      this.close();
    }
  }

  /** @internal */
  _complete(
    receive: boolean,
    seq: number,
    status: number,
    byteLen: number,
    wc: number,
    implied: number,
    head: number,
  ): void {
    if (status !== WcStatus.SUCCESS && !this.closed && !this.#resetting) this.#onError(receive);
    const { ring } = receive ? this.#recv : this.#send;
    ring.complete(seq, status, byteLen, wc, implied, head);
  }

  /**
   * A failed send leaves a UC or UD queue pair in SQE, where it still receives and from where RTS can be asked for
   * (InfiniBand Architecture Specification 10.3.1.6); rxe moves it to ERR instead. Any other error is the end.
   */
  #onError(receive: boolean): void {
    if (this.#failed || this.#sendFailed) return;
    if (!receive && (this.type === 'UC' || this.type === 'UD')) {
      const state = qpStates[addon.queryQpState(this._handle)];
      if (state === 'SQE') this.#sendFailed = true;
      if (state !== 'ERR') return;
    }
    this.toError();
  }

  /** @internal */
  protected override _returnToRts(): void {
    this.#sendFailed = false;
  }

  /** @internal */
  protected override _reset(handle: number, attr: NativeQpAttr, mask: number): void {
    const queues = new Set([this.sendCq, this.recvCq]);
    if ([...queues].some((cq) => cq._dispatching)) {
      throw new RdmaError(
        'ERR_RDMA_STATE',
        'ibv_modify_qp: to RESET can not be asked for within a callback of a completion: some of the batch would be lost; do it in setImmediate()',
        { syscall: 'ibv_modify_qp', qpNum: this.qpNum },
      );
    }
    this.#resetting = true;
    try {
      // rxe refuses all but ERR until the send queue is drained (kernel sw/rxe/rxe_qp.c __qp_chk_state).
      if (this.state === 'SQD') addon.qpToError(handle);
      addon.modifyQp(handle, attr, mask);
      // What had completed before is told first; the device adds nothing any more.
      for (const cq of queues) {
        for (let left = cq.cqe; left > 0 && !cq.closed; ) {
          const count = cq.poll();
          left = count === 0 ? 0 : left - count;
        }
      }
      if (this.closed) return;
      clearTimeout(this.#flushTimer);
      addon.retireQp(handle);
      this.#send.ring.retireAll(WcStatus.WR_FLUSH_ERR);
      this.#recv.ring.retireAll(WcStatus.WR_FLUSH_ERR);
      this.#failed = false;
      this.#sendFailed = false;
    } finally {
      this.#resetting = false;
    }
  }

  #settle(): void {
    clearTimeout(this.#flushTimer);
    this.sendCq._detach(this.#key);
    this.recvCq._detach(this.#key);
    this.srq?._detachQp(this);
    this.#send.ring.retireAll(WcStatus.WR_FLUSH_ERR);
    this.#recv.ring.retireAll(WcStatus.WR_FLUSH_ERR);
  }

  #makeSendBatch(): SendBatch {
    if (this.type !== 'RC' && this.type !== 'UC') {
      throw new RdmaError(
        'EINVAL',
        `sendBatch: the sends of ${this.type} queue pairs name a target each: use postSend`,
        { qpNum: this.qpNum },
      );
    }
    return new SendBatch(this.#batchQueue(this.#send));
  }

  #makeRecvBatch(): RecvBatch {
    this.#checkOwnReceives();
    return new RecvBatch(this.#batchQueue(this.#recv));
  }

  #batchQueue(queue: PostQueue): BatchQueue {
    return {
      ring: queue.ring,
      context: this.#slots,
      syscall: queue.syscall,
      post: (count, onRetired) => {
        if (this.#takesPosts(queue)) queue.postBatch(this._handle, count, onRetired);
        else this.#flush(queue, count, onRetired);
      },
    };
  }

  #checkOwnReceives(): void {
    if (this.srq === undefined) return;
    throw new RdmaError(
      'EINVAL',
      'ibv_post_recv: this queue pair takes its receives from a shared receive queue: post them to its srq',
      { syscall: 'ibv_post_recv', posted: 0, qpNum: this.qpNum },
    );
  }

  #post(queue: PostQueue, count: number, onRetired: Retired): void {
    if (this.#takesPosts(queue)) queue.post(this._handle, count, onRetired);
    else this.#flush(queue, count, onRetired);
  }

  /** False in the error state. */
  #takesPosts({ syscall }: PostQueue): boolean {
    if (!this.#resetting) return !this.#failed;
    throw new RdmaError('ERR_RDMA_STATE', `${syscall}: the queue pair is being reset`, {
      syscall,
      qpNum: this.qpNum,
    });
  }

  #flush(queue: PostQueue, count: number, onRetired: Retired): void {
    queue.flush(this._handle, count, onRetired, () => this.closed);
  }

  #conclude(
    cq: CompletionQueue,
    opcode: number | undefined,
    status: number,
    byteLen: number,
    wc: number,
    resolve: (completion: WorkCompletion) => void,
    reject: (error: RdmaError) => void,
  ): void {
    if (status === WcStatus.SUCCESS) {
      resolve(workCompletion(cq.ring, wc, byteLen));
      return;
    }
    const operation = opcode === undefined ? 'RECV' : (opcodeNames[opcode] ?? 'work request');
    const vendorErr = wc >= 0 ? cq.ring.vendorErr(wc) : 0;
    reject(wcError(status, { operation, vendorErr, qpNum: this.qpNum, device: this.pd.device.name }));
  }
}
