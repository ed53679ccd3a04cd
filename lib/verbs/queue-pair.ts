import { addon, postStatus } from '../addon.ts';
import { invalidArgument, RdmaError, WcStatus, wcError } from '../errors.ts';
import { postError } from '../ring/post-error.ts';
import { type OnRetired, WorkRing } from '../ring/work-ring.ts';
import { checkInteger } from './check.ts';
import type { CompletionQueue, CompletionSink } from './completion-queue.ts';
import { Opcode, type QpState, qpStates, SendFlags } from './constants.ts';
import { Owned } from './owned.ts';
import type { ProtectionDomain } from './protection-domain.ts';

const TWO_32 = 0x1_0000_0000;
const WC_WITH_IMM = 2;
/** How long a device may take to flush a queue pair in the error state; siw never flushes what was posted after it. */
const FLUSH_MS = 1000;
const opcodeNames = Object.fromEntries(Object.entries(Opcode).map(([name, value]) => [value, name]));

/** A piece of registered memory (struct ibv_sge). */
export interface Sge {
  /** Address of the first byte. */
  readonly addr: number;
  /** Bytes. */
  readonly length: number;
  /** Local key of the memory region that holds all of it. */
  readonly lkey: number;
}

/** A work request of the send queue (struct ibv_send_wr). */
export interface SendWr {
  /** One of {@link Opcode}. */
  readonly opcode: number;
  readonly sges: readonly Sge[];
  /** Bytes that are copied now and sent inline; instead of SGEs. */
  readonly inline?: Uint8Array;
  /** Of {@link SendFlags}. */
  readonly flags?: number;
  /** For RDMA READ and WRITE. */
  readonly remoteAddr?: number | bigint;
  /** For RDMA READ and WRITE. */
  readonly rkey?: number;
  /** 32 bits, for the opcodes WITH_IMM. */
  readonly immData?: number;
}

/** A work request of the receive queue (struct ibv_recv_wr). */
export interface RecvWr {
  readonly sges: readonly Sge[];
}

/** A successful completion. */
export interface WorkCompletion {
  /** Bytes received, for a receive. */
  readonly byteLen: number;
  /** Immediate data that came with the message. */
  readonly immData?: number;
}

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

/** A created queue pair, from the addon. @internal */
export type NativeQp = ReturnType<typeof addon.createQp>;

type Retired = OnRetired | readonly (OnRetired | null)[] | undefined;

function retiredAt(retired: Retired, index: number): OnRetired | null {
  if (retired === undefined) return null;
  return typeof retired === 'function' ? retired : (retired[index] ?? null);
}

/** A reliable connected queue pair; made by {@link CmId.createQp}. */
export class QueuePair extends Owned implements CompletionSink {
  readonly pd: ProtectionDomain;
  readonly sendCq: CompletionQueue;
  readonly recvCq: CompletionQueue;
  readonly qpNum: number;
  readonly caps: QueuePairCaps;
  readonly #send: WorkRing;
  readonly #recv: WorkRing;
  readonly #key: number;
  readonly #signalReads: boolean;
  #failed = false;
  #flushTimer: NodeJS.Timeout | undefined;

  /** @internal */
  constructor(native: NativeQp, pd: ProtectionDomain, sendCq: CompletionQueue, recvCq: CompletionQueue) {
    super('queue pair', native.handle);
    this.#key = native.handle;
    this.pd = pd;
    this.sendCq = sendCq;
    this.recvCq = recvCq;
    this.qpNum = native.qpNum;
    this.caps = {
      maxSendWr: native.send.maxWr,
      maxRecvWr: native.recv.maxWr,
      maxSendSge: native.send.maxSge,
      maxRecvSge: native.recv.maxSge,
      maxReadSge: native.send.maxSgeRead,
      maxInlineData: native.send.maxInline,
      maxMessage: native.send.maxMessage,
    };
    this.#signalReads = pd.device.provider === 'siw';
    this.#send = new WorkRing(native.send);
    this.#recv = new WorkRing(native.recv);
    addon.attachRings(native.handle, this.#send.memory, this.#recv.memory);
    sendCq._attach(native.handle, this);
    recvCq._attach(native.handle, this);
    this._onGone(() => this.#settle());
  }

  /** Work requests that the send queue can take now. */
  get sendFree(): number {
    return this.#send.free;
  }

  /** Work requests that the receive queue can take now. */
  get recvFree(): number {
    return this.#recv.free;
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
    const ring = this.#send;
    this.#checkRoom(ring, list.length, 'ibv_post_send');
    for (let i = 0; i < list.length; i += 1) this.#fillSend((ring.tail + i) >>> 0, list[i] as SendWr, i);
    this.#post(ring, addon.postSend, 'ibv_post_send', list.length, onRetired);
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
    const ring = this.#recv;
    this.#checkRoom(ring, list.length, 'ibv_post_recv');
    for (let i = 0; i < list.length; i += 1) {
      const seq = (ring.tail + i) >>> 0;
      const { sges } = list[i] as RecvWr;
      this.#fillSges(ring, seq, sges, i);
      ring.setWorkRequest(seq, 0, SendFlags.SIGNALED, sges.length, 0, 0, 0, 0);
    }
    this.#post(ring, addon.postRecv, 'ibv_post_recv', list.length, onRetired);
  }

  /**
   * Posts one signalled work request.
   *
   * @throws RdmaError at once for a bad work request; rejects with ERR_RDMA_WC_… when it fails
   */
  send(wr: SendWr): Promise<WorkCompletion> {
    return new Promise((resolve, reject) => {
      const operation = opcodeNames[wr.opcode] ?? 'work request';
      this.postSend({ ...wr, flags: (wr.flags ?? 0) | SendFlags.SIGNALED }, (status, byteLen, wc) => {
        this.#conclude(this.sendCq, operation, status, byteLen, wc, resolve, reject);
      });
    });
  }

  /**
   * Posts one receive.
   *
   * @throws RdmaError as {@link send}
   */
  recv(wr: RecvWr): Promise<WorkCompletion> {
    return new Promise((resolve, reject) => {
      this.postRecv(wr, (status, byteLen, wc) => {
        this.#conclude(this.recvCq, 'RECV', status, byteLen, wc, resolve, reject);
      });
    });
  }

  /**
   * Moves the queue pair to the error state (ibv_modify_qp(3)), from which it does not come back. Everything in flight is
   * retired with WR_FLUSH_ERR, and so is what is posted from now on. The first error of a completion and the end of the
   * connection do the same.
   *
   * Devices differ: siw flushes nothing before it is told and never what was posted too late; rxe may keep receives. So
   * what has not come back after a second is settled by destroying the queue pair.
   */
  toError(): void {
    const handle = this._handle;
    if (this.#failed) return;
    this.#failed = true;
    addon.qpToError(handle);
    this.#flushTimer = setTimeout(() => {
      if (this.#send.outstanding + this.#recv.outstanding > 0) this.close();
    }, FLUSH_MS);
    if (this.#send.outstanding + this.#recv.outstanding === 0) this.#flushTimer.unref();
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
  _complete(receive: boolean, seq: number, status: number, byteLen: number, wc: number): void {
    if (status !== WcStatus.SUCCESS && !this.closed) this.toError();
    const ring = receive ? this.#recv : this.#send;
    ring.complete(seq, status, byteLen, wc);
  }

  #settle(): void {
    clearTimeout(this.#flushTimer);
    this.sendCq._detach(this.#key);
    this.recvCq._detach(this.#key);
    this.#send.retireAll(WcStatus.WR_FLUSH_ERR);
    this.#recv.retireAll(WcStatus.WR_FLUSH_ERR);
  }

  #checkRoom(ring: WorkRing, count: number, syscall: string): void {
    if (count <= ring.free) return;
    throw new RdmaError(
      'ENOBUFS',
      `${syscall}: ${count} work requests do not fit: ${ring.outstanding} of ${ring.limits.maxWr} are in flight`,
      { syscall, wrIndex: ring.free, posted: 0, qpNum: this.qpNum },
    );
  }

  #fillSges(ring: WorkRing, seq: number, sges: readonly Sge[], index: number): void {
    if (!Array.isArray(sges)) {
      throw invalidArgument(
        'ERR_INVALID_ARG_TYPE',
        `work request ${index}: sges must be an array of {addr, length, lkey}`,
      );
    }
    if (sges.length > ring.limits.maxSge) {
      throw new RdmaError(
        'ERR_OUT_OF_RANGE',
        `work request ${index}: ${sges.length} SGEs, but this queue takes at most ${ring.limits.maxSge}`,
        { wrIndex: index, posted: 0, qpNum: this.qpNum },
      );
    }
    for (let i = 0; i < sges.length; i += 1) {
      const { addr, length, lkey } = sges[i] as Sge;
      // Written so that NaN, fractions and everything that is not a number fail too.
      if (!(addr >= 0 && addr <= Number.MAX_SAFE_INTEGER && Number.isInteger(addr))) {
        throw invalidArgument(
          'ERR_OUT_OF_RANGE',
          `work request ${index}: SGE ${i}: addr ${addr} is not an address`,
        );
      }
      if (length >>> 0 !== length) {
        throw invalidArgument(
          'ERR_OUT_OF_RANGE',
          `work request ${index}: SGE ${i}: length ${length} is not in 0 … 2^32 - 1`,
        );
      }
      ring.setSge(seq, i, addr, length, lkey);
    }
  }

  #fillSend(seq: number, wr: SendWr, index: number): void {
    const ring = this.#send;
    const remote = wr.remoteAddr ?? 0;
    let lo: number;
    let hi: number;
    if (typeof remote === 'bigint') {
      lo = Number(remote & 0xffff_ffffn);
      hi = Number((remote >> 32n) & 0xffff_ffffn);
    } else {
      if (!(remote >= 0 && Number.isSafeInteger(remote))) {
        throw invalidArgument(
          'ERR_OUT_OF_RANGE',
          `work request ${index}: remoteAddr ${remote} is not an address; above 2^53 - 1 give a bigint`,
        );
      }
      lo = remote >>> 0;
      hi = (remote / TWO_32) >>> 0;
    }
    const { inline } = wr;
    // siw completes what follows a READ before the READ: only a completion of its own tells that a READ is done.
    const flags = this.#signalReads && wr.opcode === Opcode.RDMA_READ ? SendFlags.SIGNALED : 0;
    if (inline === undefined) {
      this.#fillSges(ring, seq, wr.sges, index);
      ring.setWorkRequest(
        seq,
        wr.opcode,
        flags | (wr.flags ?? 0),
        wr.sges.length,
        lo,
        hi,
        wr.rkey ?? 0,
        wr.immData ?? 0,
      );
      return;
    }
    if (inline.length > ring.limits.maxInline) {
      throw new RdmaError(
        'ERR_OUT_OF_RANGE',
        `work request ${index}: ${inline.length} bytes inline, but this queue pair takes at most ${ring.limits.maxInline}`,
        { wrIndex: index, posted: 0, qpNum: this.qpNum },
      );
    }
    ring.setWorkRequest(
      seq,
      wr.opcode,
      (wr.flags ?? 0) | SendFlags.INLINE,
      0,
      lo,
      hi,
      wr.rkey ?? 0,
      wr.immData ?? 0,
    );
    ring.setInline(seq, inline);
  }

  #post(
    ring: WorkRing,
    call: (qp: number, first: number, count: number) => number,
    syscall: string,
    count: number,
    onRetired: Retired,
  ): void {
    const handle = this._handle;
    if (this.#failed) {
      setImmediate(() => {
        for (let i = 0; i < count; i += 1) retiredAt(onRetired, i)?.(WcStatus.WR_FLUSH_ERR, 0, -1);
      });
      return;
    }
    const first = ring.tail;
    const errno = call(handle, first, count);
    const error = errno === 0 ? undefined : postError(syscall, errno, postStatus, this.qpNum);
    const posted = error === undefined ? count : (error.posted ?? 0);
    for (let i = 0; i < posted; i += 1) ring.posted(retiredAt(onRetired, i));
    if (error !== undefined) throw error;
  }

  #conclude(
    cq: CompletionQueue,
    operation: string,
    status: number,
    byteLen: number,
    wc: number,
    resolve: (completion: WorkCompletion) => void,
    reject: (error: RdmaError) => void,
  ): void {
    if (status === WcStatus.SUCCESS) {
      const withImm = wc >= 0 && (cq.ring.flags(wc) & WC_WITH_IMM) !== 0;
      resolve(withImm ? { byteLen, immData: cq.ring.immData(wc) } : { byteLen });
      return;
    }
    const vendorErr = wc >= 0 ? cq.ring.vendorErr(wc) : 0;
    reject(wcError(status, { operation, vendorErr, qpNum: this.qpNum, device: this.pd.device.name }));
  }
}
