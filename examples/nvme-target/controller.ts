/** What a host is connected to: the state of one controller. */
import type { HostQueue, Reply } from './request.ts';
import type { Subsystem } from './subsystem.ts';
import { Cc, Csts, capabilities, Property } from './wire/connect.ts';
import { AsyncEvents, VERSION } from './wire/identify.ts';
import { type ErrorEntry, LogPage } from './wire/logs.ts';
import { NvmeError, Status } from './wire/status.ts';

/** Asynchronous event requests that a controller holds. */
export const ASYNC_EVENT_LIMIT = 4;
export const ERROR_LOG_ENTRIES = 64;
/** A host that is this much late with its Keep Alive is gone. */
const GRACE_MS = 1000;

/** Dword 0 of an event's completion: type, information, log page. */
function notice(information: number, page: number): number {
  return 0x02 | (information << 8) | (page << 16);
}

const notices = {
  namespaces: { enabledBy: AsyncEvents.NAMESPACE, result: notice(0x00, LogPage.CHANGED_NAMESPACES) },
  discovery: { enabledBy: AsyncEvents.DISCOVERY, result: notice(0xf0, LogPage.DISCOVERY) },
} as const;

/** What a host can be told of without asking. */
export type EventName = keyof typeof notices;

export interface ControllerOptions {
  readonly cntlid: number;
  readonly hostNqn: string;
  readonly hostId: string;
  /** Undefined for a discovery controller. */
  readonly subsystem: Subsystem | undefined;
  readonly nqn: string;
  /** Milliseconds; 0 for none. */
  readonly keepAlive: number;
  /** Most entries of an I/O queue. */
  readonly depth: number;
  readonly maxIoQueues: number;
  /** Called once, when it has gone. */
  readonly onClose: (controller: Controller) => void;
}

export class Controller {
  readonly cntlid: number;
  readonly hostNqn: string;
  readonly hostId: string;
  readonly subsystem: Subsystem | undefined;
  readonly nqn: string;
  readonly depth: number;
  readonly maxIoQueues: number;
  readonly queues = new Map<number, HostQueue>();
  /** Newest first. */
  readonly errors: ErrorEntry[] = [];
  readonly changedNamespaces = new Set<number>();
  readonly started = Date.now();
  errorCount = 0;
  /** Of Set Features. */
  asyncEventConfig = 0;
  readonly #onClose: (controller: Controller) => void;
  readonly #eventRequests: { id: number; end: (reply: Reply) => void }[] = [];
  /** Events that nobody has asked for yet, and those reported whose log page has not been read. */
  readonly #pending = new Set<EventName>();
  readonly #reported = new Set<EventName>();
  #keepAlive = 0;
  #timer: NodeJS.Timeout | undefined;
  /** A command has come since the timer last looked: no clock is read for each of them. */
  #active = false;
  #configuration = 0;
  #status = 0;
  #closed = false;

  constructor(options: ControllerOptions) {
    this.cntlid = options.cntlid;
    this.hostNqn = options.hostNqn;
    this.hostId = options.hostId;
    this.subsystem = options.subsystem;
    this.nqn = options.nqn;
    this.depth = options.depth;
    this.maxIoQueues = options.maxIoQueues;
    this.#onClose = options.onClose;
    this.keepAlive = options.keepAlive;
  }

  get ready(): boolean {
    return (this.#status & Csts.READY) !== 0;
  }

  /** Milliseconds without a command after which the host is taken for dead; 0 for never. */
  get keepAlive(): number {
    return this.#keepAlive;
  }

  set keepAlive(ms: number) {
    clearInterval(this.#timer);
    this.#keepAlive = ms;
    this.#active = true;
    if (ms > 0) this.#timer = setInterval(() => this.#check(), ms + GRACE_MS).unref();
  }

  /** The host lives. */
  seen(): void {
    this.#active = true;
  }

  /** Between one and two timeouts after the last command. */
  #check(): void {
    if (!this.#active) this.close();
    this.#active = false;
  }

  /** @throws NvmeError INVALID_FIELD for a property that there is not */
  property(offset: number, bytes: 4 | 8): { low: number; high: number } {
    if (bytes === 8 && offset === Property.CAP) return capabilities(this.depth);
    const values: Record<number, number> = {
      [Property.VS]: VERSION,
      [Property.CC]: this.#configuration,
      [Property.CSTS]: this.#status,
    };
    const low = bytes === 4 ? values[offset] : undefined;
    if (low === undefined) {
      throw new NvmeError(Status.INVALID_FIELD, `property 0x${offset.toString(16)} of ${bytes} bytes`);
    }
    return { low, high: 0 };
  }

  setProperty(offset: number, value: number): void {
    if (offset !== Property.CC) {
      throw new NvmeError(Status.INVALID_FIELD, `property 0x${offset.toString(16)} can not be set`);
    }
    const enable = (value & Cc.ENABLE) !== 0;
    this.#configuration = value;
    this.#status = enable ? this.#status | Csts.READY : 0;
    if ((value & Cc.SHUTDOWN) !== 0) this.#status |= Csts.SHUTDOWN_COMPLETE;
    if (!enable) this.#reset();
  }

  /** Keeps an asynchronous event request until there is something to tell. */
  holdEventRequest(id: number): Promise<Reply> {
    if (this.#eventRequests.length >= ASYNC_EVENT_LIMIT) {
      throw new NvmeError(Status.ASYNC_EVENT_LIMIT, `${ASYNC_EVENT_LIMIT} requests are held already`);
    }
    return new Promise((end) => {
      this.#eventRequests.push({ id, end });
      this.#report();
    });
  }

  /** @returns whether the command was there to be aborted */
  abort(sqid: number, id: number): boolean {
    const index = sqid === 0 ? this.#eventRequests.findIndex((held) => held.id === id) : -1;
    if (index < 0) return false;
    const [held] = this.#eventRequests.splice(index, 1);
    held!.end({ status: Status.ABORT_REQUESTED });
    return true;
  }

  /** Tells the host, if it wants to know. */
  notify(event: EventName): void {
    // Bit 31 makes it negative in JavaScript; zero is all that matters.
    if ((this.asyncEventConfig & notices[event].enabledBy) === 0 || this.#reported.has(event)) return;
    this.#pending.add(event);
    this.#report();
  }

  /** The host has read the log page of an event: the next one is news again. */
  rearm(event: EventName): void {
    this.#reported.delete(event);
  }

  #report(): void {
    for (const event of this.#pending) {
      const held = this.#eventRequests.shift();
      if (held === undefined) return;
      this.#pending.delete(event);
      this.#reported.add(event);
      held.end({ result: notices[event].result });
    }
  }

  noteError(entry: Omit<ErrorEntry, 'count'>): void {
    this.errorCount++;
    this.errors.unshift({ count: this.errorCount, ...entry });
    if (this.errors.length > ERROR_LOG_ENTRIES) this.errors.pop();
  }

  /** A controller that is disabled has no I/O queues. */
  #reset(): void {
    for (const [qid, queue] of this.queues) if (qid !== 0) queue.close();
    this.asyncEventConfig = 0;
    this.#pending.clear();
    this.#reported.clear();
  }

  /** Called by a queue that has ended. */
  queueClosed(queue: HostQueue): void {
    if (this.queues.get(queue.qid) === queue) this.queues.delete(queue.qid);
    if (queue.qid === 0) this.close();
  }

  /** Ends all its connections. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearInterval(this.#timer);
    for (const queue of [...this.queues.values()]) queue.close();
    for (const { end } of this.#eventRequests.splice(0)) end({ status: Status.ABORT_REQUESTED });
    this.#onClose(this);
  }
}
