/** One queue of a host on one connection: receives capsules, has them carried out, sends data and responses. */
import {
  type ArenaBuffer,
  type CmId,
  type CompletionQueue,
  RdmaError,
  RwContext,
  WcStatus,
} from '../../lib/index.ts';
import { executeAdmin } from './admin.ts';
import type { Controller } from './controller.ts';
import { executeFabrics } from './fabrics.ts';
import { executeIo } from './io.ts';
import type { DeviceMemory } from './memory.ts';
import type { HostQueue, Reply } from './request.ts';
import { IN_PLACE, Slot } from './slot.ts';
import type { Registry } from './subsystem.ts';
import { encodeCompletion, FABRICS_OPCODE, IoOpcode, type KeyedSgl, SQE_BYTES } from './wire/command.ts';
import { encodeQueueReject, encodeQueueReply, type QueueRequest, RejectReason } from './wire/rdma.ts';
import { DO_NOT_RETRY, NvmeError, Status } from './wire/status.ts';

/** Send-queue slots for each command: a READ of its data, or a WRITE and the response. */
const SENDS_PER_COMMAND = 2;
/** What every queue has besides: a transfer that crosses from one piece of memory to the next needs several. */
const SPARE_SENDS = 8;
const NO_FLOW_CONTROL = 0xffff;

export interface QueueOptions {
  readonly id: CmId;
  readonly request: QueueRequest;
  readonly registry: Registry;
  readonly memory: DeviceMemory;
  /** Invalidate the host's keys where it asks for that; otherwise the host does so itself. */
  readonly remoteInvalidate: boolean;
  /** Told of what is wrong with this side. */
  readonly onError: (error: Error) => void;
  readonly onClose: (queue: Queue) => void;
}

export class Queue implements HostQueue {
  readonly qid: number;
  readonly host: string;
  readonly #options: QueueOptions;
  readonly #entries: number;
  readonly #blocks: ArenaBuffer[] = [];
  #controller: Controller | undefined;
  #cq: CompletionQueue | undefined;
  #rw: RwContext | undefined;
  /** Entries of the submission queue, and how far the host may think it is used up. */
  #sqEntries: number;
  #sqHead = 0;
  #flowControl = true;
  #closed = false;

  private constructor(options: QueueOptions) {
    this.#options = options;
    this.qid = options.request.qid;
    this.host = options.id.peerAddress?.host ?? '';
    // The host counts its send queue from 0.
    this.#entries = options.request.hsqSize + 1;
    this.#sqEntries = this.#entries;
  }

  /**
   * Accepts the connection.
   *
   * @returns undefined when it has ended meanwhile
   * @throws RdmaError when the device has no room for the queue
   */
  static async accept(options: QueueOptions): Promise<Queue | undefined> {
    const queue = new Queue(options);
    try {
      await queue.#open();
      return queue.#closed ? undefined : queue;
    } catch (error) {
      if (queue.#closed) return undefined;
      if (options.id.state === 'requested') options.id.reject(encodeQueueReject(RejectReason.NO_RESOURCES));
      queue.close();
      throw error;
    }
  }

  get controller(): Controller | undefined {
    return this.#controller;
  }

  async #open(): Promise<void> {
    const { id, memory, registry } = this.#options;
    const entries = this.#entries;
    const maxSendWr = entries * SENDS_PER_COMMAND + SPARE_SENDS;
    const cq = memory.device.createCq({ cqe: entries + maxSendWr });
    this.#cq = cq;
    const qp = id.createQp({
      pd: memory.pd,
      sendCq: cq,
      maxSendWr,
      maxRecvWr: entries,
      maxRecvSge: 2,
      maxInlineData: 64,
    });
    const rw = new RwContext(qp, { arena: memory.arena, cache: memory.cache });
    this.#rw = rw;
    id.on('disconnected', () => this.close());
    id.on('close', () => this.close());
    const slots = await this.#slots(rw, this.qid === 0 ? 0 : registry.limits.inCapsule);
    qp.postRecv(
      slots,
      slots.map((slot) => (status, bytes) => this.#received(slot, status, bytes)),
    );
    await id.accept({ privateData: encodeQueueReply(entries), rnrRetryCount: 7 });
  }

  async #slots(rw: RwContext, inCapsule: number): Promise<Slot[]> {
    const { memory } = this.#options;
    const commands = await this.#keep(this.#entries * SQE_BYTES);
    const data = inCapsule === 0 ? undefined : await this.#keep(this.#entries * inCapsule);
    return Array.from({ length: this.#entries }, (_, index) => {
      const command = commands.subarray(index * SQE_BYTES, (index + 1) * SQE_BYTES);
      const own = data?.subarray(index * inCapsule, (index + 1) * inCapsule) ?? new Uint8Array(0);
      return new Slot(this, rw, memory, command, own);
    });
  }

  /** Memory until the queue closes. */
  async #keep(bytes: number): Promise<Uint8Array> {
    const block = await this.#options.memory.arena.alloc(bytes);
    if (this.#closed) {
      block.free();
      throw new Error('the queue has been closed');
    }
    this.#blocks.push(block);
    return block.bytes;
  }

  install(controller: Controller, entries: number, noFlowControl: boolean): void {
    this.#controller = controller;
    this.#sqEntries = entries;
    this.#flowControl = !noFlowControl;
    controller.queues.set(this.qid, this);
  }

  #received(slot: Slot, status: number, bytes: number): void {
    if (status !== WcStatus.SUCCESS || bytes < SQE_BYTES) {
      this.close();
      return;
    }
    this.#options.registry.counters.commands++;
    this.#sqHead = (this.#sqHead + 1) % this.#sqEntries;
    slot.begin(bytes);
    let reply: Reply | Promise<Reply>;
    try {
      reply = this.#execute(slot);
    } catch (error) {
      reply = this.#failure(slot, error);
    }
    if (!(reply instanceof Promise)) {
      this.#reply(slot, reply);
      return;
    }
    reply
      .catch((error: unknown) => this.#failure(slot, error))
      .then((settled) => this.#reply(slot, settled))
      .catch((error: Error) => this.#broken(error));
  }

  #execute(slot: Slot): Reply | Promise<Reply> {
    const { registry } = this.#options;
    const controller = this.#controller;
    if (slot.command.opcode === FABRICS_OPCODE) return executeFabrics(registry, slot);
    if (controller === undefined) {
      throw new NvmeError(Status.COMMAND_SEQUENCE_ERROR, 'the first command of a queue is Connect');
    }
    controller.seen();
    if (this.qid === 0) return executeAdmin(registry, controller, slot);
    // I/O queues are refused to discovery controllers.
    return executeIo(registry, controller.subsystem!, slot);
  }

  /** How a command ends that [error] has ended. */
  #failure(slot: Slot, error: unknown): Reply {
    const { registry, onError } = this.#options;
    if (this.#closed) return {};
    registry.counters.errors++;
    const known = error instanceof NvmeError;
    // A failed READ has broken the connection: there is no one to tell.
    if (error instanceof RdmaError && error.wcStatus !== undefined) this.close();
    else if (!known) onError(error as Error);
    const status = known ? error.status : Status.INTERNAL | DO_NOT_RETRY;
    const { command } = slot;
    const moves = this.qid !== 0 && (command.opcode === IoOpcode.READ || command.opcode === IoOpcode.WRITE);
    this.#controller?.noteError({
      sqid: this.qid,
      commandId: command.id,
      status,
      nsid: command.nsid,
      lba: moves ? command.slba : 0,
    });
    return { status, result: known ? error.result : 0 };
  }

  #reply(slot: Slot, reply: Reply): void {
    if (this.#closed) {
      reply.release?.();
      return;
    }
    const { target } = slot;
    if (reply.data !== undefined && target === undefined) {
      reply.release?.();
      const error = new NvmeError(Status.SGL_TYPE_INVALID, 'data for the host needs a keyed SGL');
      this.#reply(slot, this.#failure(slot, error));
      return;
    }
    const { status = Status.SUCCESS, result = 0, resultHigh = 0 } = reply;
    const head = this.#flowControl ? this.#sqHead : NO_FLOW_CONTROL;
    const response = encodeCompletion(slot.command.id, this.qid, head, status, result, resultHigh);
    // Ready for the next command before the response lets the host send one.
    this.#rw!.qp.postRecv(slot, (wc, bytes) => this.#received(slot, wc, bytes));
    this.#send(response, reply, target).then(
      () => reply.release?.(),
      (error: Error) => {
        reply.release?.();
        this.#broken(error);
      },
    );
  }

  #send(response: Uint8Array, reply: Reply, target: KeyedSgl | undefined): Promise<unknown> {
    const rw = this.#rw!;
    const { data, inPlace = false } = reply;
    const invalidate =
      target?.invalidate === true && this.#options.remoteInvalidate
        ? { invalidateRkey: target.rkey }
        : undefined;
    if (data === undefined) return rw.send(response, invalidate);
    return rw.write(data, target!, { message: response, ...(inPlace && IN_PLACE), ...invalidate });
  }

  #broken(error: Error): void {
    if (!this.#closed && !(error instanceof RdmaError && error.wcStatus !== undefined)) {
      this.#options.onError(error);
    }
    this.close();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    const cq = this.#cq;
    this.#options.id.close();
    for (const block of this.#blocks.splice(0)) block.free();
    // Perhaps in the middle of a batch of its completions.
    setImmediate(() => cq?.close());
    this.#controller?.queueClosed(this);
    this.#options.onClose(this);
  }
}
