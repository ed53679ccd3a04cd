/** Asynchronous events of a device (ibv_get_async_event(3)). */
import { EventEmitter } from 'node:events';
import type { CompletionQueue } from './completion-queue.ts';
import type { Device } from './device.ts';
import { Owned } from './owned.ts';
import type { QueuePair } from './queue-pair.ts';
import type { SharedReceiveQueue } from './shared-receive-queue.ts';

/** Types of events, by number, without IBV_EVENT_ (enum ibv_event_type). */
const asyncEventTypes = [
  'CQ_ERR',
  'QP_FATAL',
  'QP_REQ_ERR',
  'QP_ACCESS_ERR',
  'COMM_EST',
  'SQ_DRAINED',
  'PATH_MIG',
  'PATH_MIG_ERR',
  'DEVICE_FATAL',
  'PORT_ACTIVE',
  'PORT_ERR',
  'LID_CHANGE',
  'PKEY_CHANGE',
  'SM_CHANGE',
  'SRQ_ERR',
  'SRQ_LIMIT_REACHED',
  'QP_LAST_WQE_REACHED',
  'CLIENT_REREGISTER',
  'GID_CHANGE',
  'WQ_FATAL',
  'DEVICE_SPEED_CHANGE',
] as const;

/** The library's own: kDeviceRemoved of native/core/async_events.h. */
const DEVICE_REMOVED = 0x100;

/** Type of an asynchronous event: its name without IBV_EVENT_; DEVICE_REMOVED is the library's own. */
export type AsyncEventType = (typeof asyncEventTypes)[number] | 'DEVICE_REMOVED';

/** Type of an event, by its number; undefined for one that this library does not know. @internal */
export function asyncEventType(number: number): AsyncEventType | undefined {
  return number === DEVICE_REMOVED ? 'DEVICE_REMOVED' : asyncEventTypes[number];
}

/** A port came up, went down, or changed what it is addressed by. */
export interface PortEvent {
  readonly type:
    | 'PORT_ACTIVE'
    | 'PORT_ERR'
    | 'LID_CHANGE'
    | 'PKEY_CHANGE'
    | 'GID_CHANGE'
    | 'SM_CHANGE'
    | 'CLIENT_REREGISTER'
    | 'DEVICE_SPEED_CHANGE';
  readonly device: Device;
  /** From 1. */
  readonly port: number;
}

/**
 * Something befell a queue pair. After QP_FATAL, QP_REQ_ERR and QP_ACCESS_ERR it is in the error state, and what was in
 * flight is retired with an error.
 */
export interface QueuePairEvent {
  readonly type:
    | 'QP_FATAL'
    | 'QP_REQ_ERR'
    | 'QP_ACCESS_ERR'
    | 'COMM_EST'
    | 'SQ_DRAINED'
    | 'PATH_MIG'
    | 'PATH_MIG_ERR'
    | 'QP_LAST_WQE_REACHED';
  readonly device: Device;
  readonly qp: QueuePair;
}

/** A completion queue overran or failed: completions are lost, and its queue pairs have been closed. */
export interface CompletionQueueEvent {
  readonly type: 'CQ_ERR';
  readonly device: Device;
  readonly cq: CompletionQueue;
}

/** A shared receive queue failed, or holds fewer receives than its limit (ibv_modify_srq(3)). */
export interface SharedReceiveQueueEvent {
  readonly type: 'SRQ_ERR' | 'SRQ_LIMIT_REACHED';
  readonly device: Device;
  readonly srq: SharedReceiveQueue;
}

/**
 * DEVICE_FATAL: the device has failed; its queue pairs are in the error state, and what was in flight is retired with an error.
 * DEVICE_REMOVED: it is being removed (`rdma link delete`, hot-unplug), and is closed with everything made from it when the
 * listeners have returned; drivers like rxe and siw finish the removal only when nobody has the device open.
 * WQ_FATAL: a work queue of the device failed.
 */
export interface DeviceEvent {
  readonly type: 'DEVICE_FATAL' | 'DEVICE_REMOVED' | 'WQ_FATAL';
  readonly device: Device;
}

/** An asynchronous event; `type` says what else there is. */
export type AsyncEvent =
  | PortEvent
  | QueuePairEvent
  | CompletionQueueEvent
  | SharedReceiveQueueEvent
  | DeviceEvent;

type Listener<E> = (event: E) => void;
type Of<E extends AsyncEvent, T extends E['type']> =
  Extract<E, { readonly type: T }> extends never
    ? E & { readonly type: T }
    : Extract<E, { readonly type: T }>;

/**
 * What asynchronous events are about: a device, or a queue pair, completion queue or shared receive queue of one. 'event' is
 * emitted for each event, and an event named by its type as well: `device.on('PORT_ERR', ({ port }) => …)`.
 *
 * Listeners do not keep the process alive, nor the object.
 */
export abstract class AsyncEventTarget<E extends AsyncEvent> extends Owned {
  #emitter: EventEmitter<Record<string, [AsyncEvent]>> | undefined;

  abstract readonly device: Device;

  /** Calls [listener] for every event, or for every event of one type. */
  on(name: 'event', listener: Listener<E>): this;
  on<T extends E['type']>(name: T, listener: Listener<Of<E, T>>): this;
  on(name: string, listener: Listener<never>): this {
    this.#emitter ??= new EventEmitter();
    this.#emitter.on(name, listener as Listener<AsyncEvent>);
    return this;
  }

  /** As {@link on}, for one event. */
  once(name: 'event', listener: Listener<E>): this;
  once<T extends E['type']>(name: T, listener: Listener<Of<E, T>>): this;
  once(name: string, listener: Listener<never>): this {
    this.#emitter ??= new EventEmitter();
    this.#emitter.once(name, listener as Listener<AsyncEvent>);
    return this;
  }

  /** Takes back {@link on} or {@link once}. */
  off(name: 'event' | E['type'], listener: Listener<never>): this;
  off(name: string, listener: Listener<never>): this {
    this.#emitter?.off(name, listener as Listener<AsyncEvent>);
    return this;
  }

  /** What the object itself does about an event of its own or of its device, before listeners hear of it. @internal */
  _react(_event: AsyncEvent): void {}

  /** @internal */
  _emit(event: AsyncEvent): void {
    try {
      this.#emitter?.emit(event.type, event);
    } finally {
      this.#emitter?.emit('event', event);
    }
  }
}

/**
 * The event of [type]; [object] is the queue pair, completion queue or shared receive queue that it is about, undefined for
 * one that is gone. Undefined when there is nothing to tell. @internal
 */
export function asyncEvent(
  device: Device,
  type: AsyncEventType,
  port: number,
  object: unknown,
): AsyncEvent | undefined {
  switch (type) {
    case 'PORT_ACTIVE':
    case 'PORT_ERR':
    case 'LID_CHANGE':
    case 'PKEY_CHANGE':
    case 'GID_CHANGE':
    case 'SM_CHANGE':
    case 'CLIENT_REREGISTER':
    case 'DEVICE_SPEED_CHANGE':
      return { type, device, port };
    case 'DEVICE_FATAL':
    case 'DEVICE_REMOVED':
    case 'WQ_FATAL':
      return { type, device };
    case 'CQ_ERR':
      return object === undefined ? undefined : { type, device, cq: object as CompletionQueue };
    case 'SRQ_ERR':
    case 'SRQ_LIMIT_REACHED':
      return object === undefined ? undefined : { type, device, srq: object as SharedReceiveQueue };
    default:
      return object === undefined ? undefined : { type, device, qp: object as QueuePair };
  }
}
