/**
 * Work requests written straight into the ring that the addon reads, and posted together: no object is made for one, neither
 * when it is posted nor when it completes.
 */
import { inspect } from 'node:util';
import { RdmaError } from '../errors.ts';
import type { OnRetired, WorkRing } from '../ring/work-ring.ts';
import { Opcode, SendFlags } from './constants.ts';
import { checkRoom } from './post-room.ts';
import type { SlotContext } from './work-request-slot.ts';

const { SEND, SEND_WITH_IMM, RDMA_WRITE, RDMA_WRITE_WITH_IMM, RDMA_READ } = Opcode;
const { SIGNALED } = SendFlags;

/** Posts the next [count] slots. */
type Post = (count: number, onRetired: OnRetired | null) => void;

/** What a batch is of. @internal */
export interface BatchQueue {
  readonly ring: WorkRing;
  readonly context: SlotContext;
  readonly syscall: 'ibv_post_send' | 'ibv_post_recv';
  readonly post: Post;
}

/** What send and receive batches share. */
abstract class Batch {
  /** @internal */
  protected readonly _ring: WorkRing;
  readonly #queue: BatchQueue;

  /** @internal */
  constructor(queue: BatchQueue) {
    this.#queue = queue;
    this._ring = queue.ring;
  }

  /** Work requests that have been added since the latest {@link post}. */
  get length(): number {
    return this._ring.added;
  }

  /** Work requests that can be added now. */
  get free(): number {
    return this._ring.free - this._ring.added;
  }

  /** Slots of the ring: a power of two, at least the work requests that the queue takes. */
  get slots(): number {
    return this._ring.limits.capacity;
  }

  /**
   * Posts what has been added with one native call.
   *
   * @param onRetired called once for every work request, when it is retired; best the same function every time
   * @returns how many there were
   * @throws RdmaError as {@link QueuePair.postSend}; the batch is empty then
   */
  post(onRetired: OnRetired | null = null): number {
    const ring = this._ring;
    const count = ring.added;
    if (count === 0) return 0;
    ring.drop();
    this.#queue.post(count, onRetired);
    return count;
  }

  /** Drops what has been added. */
  clear(): void {
    this._ring.drop();
  }

  /** Says why a work request could not be added. @internal */
  protected _refuse(words: Record<string, unknown>, addresses: Record<string, unknown>): never {
    const { ring, syscall, context } = this.#queue;
    checkRoom(ring, 1, syscall, context.qpNum);
    const wrIndex = ring.added;
    const isAddress = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) >= 0;
    const [name, value] =
      Object.entries(words).find(([, word]) => (word as number) >>> 0 !== word) ??
      Object.entries(addresses).find(([, addr]) => !isAddress(addr))!;
    const range = name in words ? '0 … 2^32 - 1' : '0 … 2^53 - 1';
    throw new RdmaError(
      typeof value === 'number' ? 'ERR_OUT_OF_RANGE' : 'ERR_INVALID_ARG_TYPE',
      `work request ${wrIndex}: ${name} is ${inspect(value)}: give a number in ${range}`,
      { syscall, wrIndex, posted: 0, qpNum: context.qpNum },
    );
  }
}

/**
 * The sends of a queue pair, one SGE each; {@link QueuePair.sendBatch}. For work requests with more SGEs, bytes that lie in no
 * region, and the other opcodes there is {@link QueuePair.postSend}.
 *
 * Every method takes the local piece as `addr`, `length` (bytes) and `lkey`, and returns the slot of the work request, an
 * index below {@link slots}; `onRetired` gets the same number. The addon checks keys and ranges when it is posted.
 */
export class SendBatch extends Batch {
  /** SEND. [flags] are of {@link SendFlags}; without SIGNALED a later work request's completion retires it. */
  send(addr: number, length: number, lkey: number, flags = 0): number {
    const slot = this._ring.add(SEND, flags, 0, 0, 0, addr, length, lkey);
    return slot >= 0 ? slot : this._refuse({ flags, length, lkey }, { addr });
  }

  /** SEND_WITH_IMM. */
  sendWithImm(immData: number, addr: number, length: number, lkey: number, flags = 0): number {
    const slot = this._ring.add(SEND_WITH_IMM, flags, immData, 0, 0, addr, length, lkey);
    return slot >= 0 ? slot : this._refuse({ flags, immData, length, lkey }, { addr });
  }

  /** RDMA_WRITE to [remoteAddr] in the peer's region of [rkey]. */
  write(addr: number, length: number, lkey: number, remoteAddr: number, rkey: number, flags = 0): number {
    const slot = this._ring.add(RDMA_WRITE, flags, 0, remoteAddr, rkey, addr, length, lkey);
    return slot >= 0 ? slot : this._refuse({ flags, rkey, length, lkey }, { addr, remoteAddr });
  }

  /** RDMA_WRITE_WITH_IMM. */
  writeWithImm(
    immData: number,
    addr: number,
    length: number,
    lkey: number,
    remoteAddr: number,
    rkey: number,
    flags = 0,
  ): number {
    const slot = this._ring.add(RDMA_WRITE_WITH_IMM, flags, immData, remoteAddr, rkey, addr, length, lkey);
    return slot >= 0 ? slot : this._refuse({ flags, immData, rkey, length, lkey }, { addr, remoteAddr });
  }

  /** RDMA_READ of [remoteAddr] in the peer's region of [rkey]. */
  read(addr: number, length: number, lkey: number, remoteAddr: number, rkey: number, flags = 0): number {
    const slot = this._ring.add(RDMA_READ, flags, 0, remoteAddr, rkey, addr, length, lkey);
    return slot >= 0 ? slot : this._refuse({ flags, rkey, length, lkey }, { addr, remoteAddr });
  }
}

/** The receives of a queue pair, one SGE each; {@link QueuePair.recvBatch}. */
export class RecvBatch extends Batch {
  /** A receive into [length] bytes at [addr]; returns its slot, an index below {@link slots}. */
  recv(addr: number, length: number, lkey: number): number {
    const slot = this._ring.add(0, SIGNALED, 0, 0, 0, addr, length, lkey);
    return slot >= 0 ? slot : this._refuse({ length, lkey }, { addr });
  }
}
