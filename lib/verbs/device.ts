import { readFileSync } from 'node:fs';
import { addon } from '../addon.ts';
import { invalidArgument } from '../errors.ts';
import { type AsyncEvent, AsyncEventTarget, asyncEvent, asyncEventType } from './async-event.ts';
import { checkInteger, checkText } from './check.ts';
import { CompletionChannel } from './completion-channel.ts';
import { CompletionQueue, type CqOptions } from './completion-queue.ts';
import { atomicCaps, type DeviceAttr, type DeviceAttrEx } from './device-attr.ts';
import { DeviceCaps } from './device-caps.ts';
import { type Counters, type PortCounters, readCounters } from './device-counters.ts';
import { DeviceMemory, type DmOptions } from './device-memory.ts';
import { objectByHandle, openObjects } from './owned.ts';
import { type GidEntry, gidEntry, type PortAttr, portAttr } from './port.ts';
import { ProtectionDomain } from './protection-domain.ts';
import type { Quirk } from './quirks.ts';
import { ThreadDomain } from './thread-domain.ts';
import { XrcDomain, type XrcDomainOptions } from './xrc-domain.ts';

const SYSFS = '/sys/class/infiniband';

/** Transport of a device: InfiniBand and RoCE are 'ib'. */
export type Transport = 'ib' | 'iwarp' | 'unknown';

/** A device that can be opened. */
export interface DeviceInfo {
  readonly name: string;
  /** Node GUID. */
  readonly guid: bigint;
  readonly transport: Transport;
}

const removalHooks: ((name: string) => void)[] = [];

/** Calls [hook] when a device that this thread has open is being removed, after its listeners. @internal */
export function onDeviceRemoved(hook: (name: string) => void): void {
  removalHooks.push(hook);
}

/**
 * An open device; made by {@link openDevice}. Its asynchronous events come as 'event', and named by their type; those of a
 * queue pair, completion queue or shared receive queue come to that object first.
 */
export class Device extends AsyncEventTarget<AsyncEvent> {
  readonly name: string;
  /** 'rxe' and 'siw' have rules of their own here; everything else is 'other'. */
  readonly provider: 'rxe' | 'siw' | 'other';
  readonly transport: Transport;
  readonly attr: DeviceAttr;
  /** What ibv_query_device_ex(3) adds. */
  readonly attrEx: DeviceAttrEx;
  /** What it can do. Ask here, not for its name. */
  readonly caps: DeviceCaps;

  /** @internal */
  constructor(name: string) {
    let self: WeakRef<Device> | undefined;
    const handle = addon.openDevice(name, (type, port, object) => {
      const device = self?.deref();
      if (device !== undefined) device.#dispatch(type, port, object);
    });
    super('device', handle);
    self = new WeakRef(this);
    const native = addon.queryDevice(handle);
    this.name = native.name;
    this.provider = native.provider as Device['provider'];
    this.transport = native.transport as Transport;
    const { atomicCap } = native.attr as { atomicCap: number };
    this.attr = { ...native.attr, atomicCap: atomicCaps[atomicCap] ?? 'none' } as unknown as DeviceAttr;
    this.attrEx = native.attrEx as unknown as DeviceAttrEx;
    this.caps = new DeviceCaps(this);
  }

  /** Itself. */
  get device(): this {
    return this;
  }

  /** The vendor's name for the board, from sysfs; undefined where it has none. */
  get boardId(): string | undefined {
    return this.#sysfs('board_id');
  }

  /** What the administrator or the driver calls this node, from sysfs. */
  get nodeDesc(): string | undefined {
    return this.#sysfs('node_desc');
  }

  /**
   * A port (ibv_query_port(3)).
   *
   * @param port from 1
   * @throws RdmaError ERR_OUT_OF_RANGE for a port that the device does not have
   */
  queryPort(port = 1): PortAttr {
    this.#checkPort(port);
    return portAttr(addon.queryPort(this._handle, port));
  }

  /** The occupied entries of the GID tables, of all ports or of one (ibv_query_gid_table(3)). */
  queryGidTable(port?: number): GidEntry[] {
    if (port !== undefined) this.#checkPort(port);
    const entries = addon.queryGids(this._handle).map(gidEntry);
    return port === undefined ? entries : entries.filter((entry) => entry.port === port);
  }

  /**
   * An entry of a port's GID table (ibv_query_gid_ex(3)); undefined when it is empty.
   *
   * @throws RdmaError ERR_OUT_OF_RANGE for a port or an index that the device does not have
   */
  queryGid(port: number, index: number): GidEntry | undefined {
    this.#checkIndex(index, this.queryPort(port).gidTblLen, 'GID', port);
    const native = addon.queryGid(this._handle, port, index);
    return native === undefined ? undefined : gidEntry(native);
  }

  /**
   * A partition key (ibv_query_pkey(3)), 16 bits, of which the highest says full membership; 0 for an empty entry.
   *
   * @throws RdmaError ERR_OUT_OF_RANGE for a port or an index that the device does not have; iWARP has no partition keys
   */
  queryPkey(port: number, index: number): number {
    this.#checkIndex(index, this.queryPort(port).pkeyTblLen, 'partition key', port);
    return addon.queryPkey(this._handle, port, index);
  }

  /** The partition keys of a port, by index; none on iWARP. */
  queryPkeyTable(port = 1): number[] {
    const length = this.queryPort(port).pkeyTblLen;
    return Array.from({ length }, (_, index) => addon.queryPkey(this._handle, port, index));
  }

  /**
   * The device's clock now, in cycles of {@link DeviceAttrEx.hcaCoreClock} (ibv_query_rt_values_ex(3)): what completion
   * timestamps are to be compared with.
   *
   * @throws RdmaError EOPNOTSUPP where {@link DeviceCaps.deviceClock} is false
   */
  queryRawClock(): bigint {
    return addon.queryRawClock(this._handle);
  }

  /** The counters of a port, read from sysfs without blocking the event loop; empty where the driver has none. */
  async counters(port = 1): Promise<PortCounters> {
    this.#checkPort(port);
    const directory = `${SYSFS}/${this.name}/ports/${port}`;
    const [counters, hwCounters] = await Promise.all([
      readCounters(`${directory}/counters`),
      readCounters(`${directory}/hw_counters`),
    ]);
    return { counters, hwCounters };
  }

  /** The driver's counters of the whole device, from sysfs; empty where it has none. */
  deviceCounters(): Promise<Counters> {
    return readCounters(`${SYSFS}/${this.name}/hw_counters`);
  }

  /** What this device's provider does otherwise than the manual pages say, and what is done about it. */
  get quirks(): readonly Quirk[] {
    return addon.deviceQuirks(this._handle);
  }

  /** A protection domain: memory regions and queue pairs of one domain can be used together (ibv_alloc_pd(3)). */
  allocPd(): ProtectionDomain {
    return new ProtectionDomain(this, addon.allocPd(this._handle));
  }

  /**
   * Memory of the device itself (ibv_alloc_dm(3)).
   *
   * @param length bytes, at most `attrEx.maxDmSize`
   * @throws RdmaError EOPNOTSUPP when it has none ({@link DeviceCaps.deviceMemory}), EINVAL beyond its limit, ENOMEM
   */
  allocDm(length: number, options?: DmOptions): DeviceMemory {
    return new DeviceMemory(this, length, options);
  }

  /** A thread domain (ibv_alloc_td(3)). @throws RdmaError EOPNOTSUPP when the device's library has none */
  allocTd(): ThreadDomain {
    return new ThreadDomain(this);
  }

  /**
   * A domain of extended reliable connections (ibv_open_xrcd(3)).
   *
   * @throws RdmaError EOPNOTSUPP when the device has none ({@link DeviceCaps.qpType}), EEXIST, ENOENT
   */
  openXrcd(options?: XrcDomainOptions): XrcDomain {
    return new XrcDomain(this, options);
  }

  /**
   * A completion queue, with a channel of its own unless it is given one (ibv_create_cq(3)).
   *
   * @throws RdmaError EOPNOTSUPP for timestamps, or events of solicited messages only, where the device has none
   */
  createCq(options?: CqOptions): CompletionQueue {
    return new CompletionQueue(this, options);
  }

  /** A channel for several completion queues: `createCq({ channel })` (ibv_create_comp_channel(3)). */
  createCompletionChannel(): CompletionChannel {
    return new CompletionChannel(this);
  }

  #emitAndClose(event: AsyncEvent): void {
    try {
      this._emit(event);
    } finally {
      if (event.type === 'DEVICE_REMOVED') this.#letGo();
    }
  }

  /** The kernel finishes a removal only when nothing of the device is open. */
  #letGo(): void {
    for (const hook of removalHooks) hook(this.name);
    this.close();
  }

  #sysfs(name: string): string | undefined {
    try {
      return readFileSync(`${SYSFS}/${this.name}/${name}`, 'utf8').trim();
    } catch {
      return undefined;
    }
  }

  #checkPort(port: unknown): asserts port is number {
    checkInteger(`port of ${this.name}`, port, 1, this.attrEx.physPortCntEx || this.attr.physPortCnt);
  }

  #checkIndex(index: unknown, length: number, what: string, port: number): void {
    if (length === 0) {
      throw invalidArgument('ERR_OUT_OF_RANGE', `port ${port} of ${this.name} has no ${what}s`);
    }
    checkInteger(`${what} index of port ${port} of ${this.name}`, index, 0, length - 1);
  }

  #dispatch(number: number, port: number, handle: number): void {
    const type = asyncEventType(number);
    if (type === undefined) return;
    const object = handle === 0 ? undefined : objectByHandle(handle);
    const event = asyncEvent(this, type, port, object);
    if (event === undefined) return;
    if (object instanceof AsyncEventTarget) {
      object._react(event);
    } else {
      for (const target of openObjects()) {
        if (target instanceof AsyncEventTarget && target.device === this) target._react(event);
      }
    }
    try {
      if (object instanceof AsyncEventTarget) object._emit(event);
    } finally {
      this.#emitAndClose(event);
    }
  }
}

/** The RDMA devices of this machine (ibv_get_device_list(3)). */
export function listDevices(): DeviceInfo[] {
  return addon.listDevices() as DeviceInfo[];
}

/**
 * Opens a device (ibv_open_device(3)).
 *
 * @throws RdmaError ENODEV when there is no such device; the message lists those there are
 */
export function openDevice(name: string): Device {
  checkText('name', name);
  return new Device(name);
}
