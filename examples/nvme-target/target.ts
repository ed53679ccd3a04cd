/** The target: listens, accepts queues, and keeps the subsystems. */
import { CmId, type Device } from '../../lib/index.ts';
import { Counters } from './counters.ts';
import { DeviceMemory } from './memory.ts';
import { Queue } from './queue.ts';
import { ADMIN_DEPTH, type Port, Registry, type Subsystem, type SubsystemOptions } from './subsystem.ts';
import { decodeQueueRequest, encodeQueueReject, type QueueRequest, RejectReason } from './wire/rdma.ts';

/** Where NVMe over RDMA listens unless told otherwise. */
export const DEFAULT_PORT = 4420;
const MiB = 1024 * 1024;

export interface TargetOptions {
  /** Entries of an I/O queue, 2 to 1024; 128 by default. */
  readonly depth?: number;
  /** I/O queues of a controller; 16 by default. */
  readonly ioQueues?: number;
  /** Bytes of data that a command may carry itself, a multiple of 16 up to 65536; 4096 by default. */
  readonly inCapsule?: number;
  /** Bytes of data in flight on one device, beyond which commands wait; 128 MiB by default. */
  readonly dataBytes?: number;
  /** Invalidate the keys of hosts that ask for it; true by default. */
  readonly remoteInvalidate?: boolean;
  /** Told of what is wrong with this side; the target goes on. */
  readonly onError?: (error: Error) => void;
}

function checkRange(name: string, value: number, least: number, most: number): void {
  if (!Number.isInteger(value) || value < least || value > most) {
    throw new RangeError(`${name} must be an integer from ${least} to ${most}, not ${value}`);
  }
}

/** An NVMe over Fabrics target on RDMA. */
export class Target {
  readonly counters = new Counters();
  readonly registry: Registry;
  readonly #options: Required<TargetOptions>;
  readonly #listeners: CmId[] = [];
  readonly #memories = new Map<string, DeviceMemory>();
  readonly #queues = new Set<Queue>();
  readonly #opening = new Set<Promise<void>>();
  #closed = false;

  /** @throws RangeError for options out of range */
  constructor(options: TargetOptions = {}) {
    const {
      depth = 128,
      ioQueues = 16,
      inCapsule = 4096,
      dataBytes = 128 * MiB,
      remoteInvalidate = true,
      onError = () => {},
    } = options;
    checkRange('depth', depth, 2, 1024);
    checkRange('ioQueues', ioQueues, 1, 1024);
    checkRange('inCapsule', inCapsule, 0, 65_536);
    checkRange('dataBytes', dataBytes, MiB, Number.MAX_SAFE_INTEGER);
    if (inCapsule % 16 !== 0) throw new RangeError(`inCapsule must be a multiple of 16, not ${inCapsule}`);
    this.#options = { depth, ioQueues, inCapsule, dataBytes, remoteInvalidate, onError };
    this.registry = new Registry({ depth, ioQueues, inCapsule }, this.counters);
  }

  addSubsystem(options: SubsystemOptions): Subsystem {
    return this.registry.addSubsystem(options);
  }

  /** Listens on the address of an RDMA device. @throws RdmaError EADDRNOTAVAIL, EADDRINUSE, ENODEV */
  listen(host: string, port = DEFAULT_PORT): Port {
    const listener = new CmId();
    try {
      listener.bind({ host, port });
      listener.on('connectRequest', (id) => this.#connect(id));
      listener.listen();
    } catch (error) {
      listener.close();
      throw error;
    }
    this.#listeners.push(listener);
    const iwarp = listener.device?.transport === 'iwarp';
    const at = { host, port: listener.localAddress?.port ?? port, iwarp };
    this.registry.addPort(at);
    return at;
  }

  #connect(id: CmId): void {
    const request = this.#wanted(id);
    if (typeof request === 'number') {
      id.reject(encodeQueueReject(request));
      return;
    }
    const opening = this.#open(id, request)
      .catch(this.#options.onError)
      .finally(() => this.#opening.delete(opening));
    this.#opening.add(opening);
  }

  /** What a connection is asked for; a reason to reject it. */
  #wanted(id: CmId): QueueRequest | number {
    const request = decodeQueueRequest(id.request?.privateData ?? new Uint8Array(0));
    if (typeof request === 'number') return request;
    const { qid, hsqSize, hrqSize } = request;
    const { depth, ioQueues } = this.#options;
    if (this.#closed) return RejectReason.NO_RESOURCES;
    if (qid > ioQueues) return RejectReason.INVALID_QID;
    if (hsqSize === 0 || hsqSize >= (qid === 0 ? ADMIN_DEPTH : depth)) return RejectReason.INVALID_HSQSIZE;
    if (hrqSize === 0) return RejectReason.INVALID_HRQSIZE;
    return request;
  }

  async #open(id: CmId, request: QueueRequest): Promise<void> {
    const { remoteInvalidate, onError } = this.#options;
    const { registry, counters } = this;
    const queue = await Queue.accept({
      id,
      request,
      registry,
      memory: this.#memoryOf(id.device!),
      remoteInvalidate,
      onError,
      onClose: (closed) => {
        if (this.#queues.delete(closed)) counters.queues--;
      },
    });
    if (queue === undefined) return;
    this.#queues.add(queue);
    counters.queues++;
    if (this.#closed) queue.close();
  }

  #memoryOf(device: Device): DeviceMemory {
    let memory = this.#memories.get(device.name);
    if (memory === undefined || memory.device.closed) {
      memory = new DeviceMemory(device, this.#options.dataBytes);
      this.#memories.set(device.name, memory);
    }
    return memory;
  }

  /** Ends all connections and closes the backends. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const listener of this.#listeners.splice(0)) listener.close();
    for (const queue of [...this.#queues]) queue.close();
    await Promise.allSettled(this.#opening);
    for (const memory of this.#memories.values()) await memory.close();
    for (const { namespaces } of this.registry.subsystems.values()) {
      for (const { backend } of namespaces.values()) await backend.close();
    }
  }
}
