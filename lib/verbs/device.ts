import { addon } from '../addon.ts';
import { type AsyncEvent, AsyncEventTarget, asyncEvent, asyncEventTypes } from './async-event.ts';
import { checkInteger, checkText } from './check.ts';
import { CompletionQueue, type CqOptions } from './completion-queue.ts';
import { type PortState, portStates } from './constants.ts';
import { objectByHandle, openObjects } from './owned.ts';
import { ProtectionDomain } from './protection-domain.ts';
import type { Quirk } from './quirks.ts';

/** Transport of a device: InfiniBand and RoCE are 'ib'. */
export type Transport = 'ib' | 'iwarp' | 'unknown';

/** A device that can be opened. */
export interface DeviceInfo {
  readonly name: string;
  /** Node GUID. */
  readonly guid: bigint;
  readonly transport: Transport;
}

/** Limits of a device (ibv_query_device(3)). */
export interface DeviceAttr {
  readonly fwVer: string;
  readonly vendorId: number;
  readonly vendorPartId: number;
  readonly physPortCnt: number;
  /** Bytes; a double, since some devices say 2^64 - 1. */
  readonly maxMrSize: number;
  readonly maxQp: number;
  /** Work requests of one queue. */
  readonly maxQpWr: number;
  readonly maxSge: number;
  /** SGEs of an RDMA READ's sink. */
  readonly maxSgeRd: number;
  readonly maxCq: number;
  /** Entries of one completion queue. */
  readonly maxCqe: number;
  readonly maxMr: number;
  readonly maxPd: number;
  /** RDMA READs in flight as their target. */
  readonly maxQpRdAtom: number;
  /** RDMA READs in flight as their initiator. */
  readonly maxQpInitRdAtom: number;
}

/** A port of a device (ibv_query_port(3)). */
export interface PortAttr {
  readonly state: PortState;
  /** Bytes. */
  readonly activeMtu: number;
  /** Bytes. */
  readonly maxMtu: number;
  /** Longest message, in bytes. */
  readonly maxMsgSz: number;
  readonly linkLayer: 'InfiniBand' | 'Ethernet' | 'unspecified';
  readonly gidTblLen: number;
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

  /** @internal */
  constructor(name: string) {
    let self: WeakRef<Device> | undefined;
    const handle = addon.openDevice(name, (type, port, object) => {
      const device = self?.deref();
      if (device !== undefined) device.#dispatch(type, port, object);
    });
    super('device', handle);
    self = new WeakRef(this);
    const { name: known, provider, transport, ...attr } = addon.queryDevice(this._handle);
    this.name = known as string;
    this.provider = provider as Device['provider'];
    this.transport = transport as Transport;
    this.attr = attr as unknown as DeviceAttr;
  }

  /** Itself. */
  get device(): this {
    return this;
  }

  /** @throws RdmaError EINVAL for a port that the device does not have (ibv_query_port(3)) */
  queryPort(port = 1): PortAttr {
    checkInteger('port', port, 1, 255);
    const attr = addon.queryPort(this._handle, port);
    return {
      state: portStates[attr.state as number] ?? 'UNKNOWN',
      activeMtu: 128 << (attr.activeMtu as number),
      maxMtu: 128 << (attr.maxMtu as number),
      maxMsgSz: attr.maxMsgSz as number,
      linkLayer:
        (['unspecified', 'InfiniBand', 'Ethernet'] as const)[attr.linkLayer as 0 | 1 | 2] ?? 'unspecified',
      gidTblLen: attr.gidTblLen as number,
    };
  }

  /** What this device's provider does otherwise than the manual pages say, and what is done about it. */
  get quirks(): readonly Quirk[] {
    return addon.deviceQuirks(this._handle);
  }

  /** A protection domain: memory regions and queue pairs of one domain can be used together (ibv_alloc_pd(3)). */
  allocPd(): ProtectionDomain {
    return new ProtectionDomain(this, addon.allocPd(this._handle));
  }

  /** A completion queue with a channel of its own (ibv_create_cq(3), ibv_create_comp_channel(3)). */
  createCq(options?: CqOptions): CompletionQueue {
    return new CompletionQueue(this, options);
  }

  #dispatch(number: number, port: number, handle: number): void {
    const type = asyncEventTypes[number];
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
      this._emit(event);
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
