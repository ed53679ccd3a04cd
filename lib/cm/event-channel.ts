import { EventEmitter } from 'node:events';
import { addon } from '../addon.ts';
import { closedError } from '../errors.ts';
import { onDeviceRemoved } from '../verbs/device.ts';
import { type CmEvent, cmEventNames, publicEvent, type RawCmEvent } from './events.ts';

/** What receives the events of an id. @internal */
export interface CmEventTarget {
  onEvent(event: RawCmEvent): void;
  onDeviceRemoved(name: string): void;
  close(): void;
}

interface EventChannelEvents {
  /** An event of an id that has been closed meanwhile; a connection request among them is rejected. */
  unclaimed: [event: CmEvent];
  close: [];
}

/** The open channels of this thread. */
const channels = new Set<EventChannel>();

// The kernel tells rdma_cm ids only after everybody has closed the device, which these ids keep open (kernel core/device.c
// disable_device: uverbs goes before rdma_cm).
onDeviceRemoved((name) => {
  for (const channel of [...channels]) channel._onDeviceRemoved(name);
});

/**
 * What brings the events of connection ids (rdma_create_event_channel(3)). All ids of a thread share one unless they are
 * given another, by {@link CmIdOptions.channel} or {@link CmId.migrate}. Events are copied and acknowledged at once, so
 * nothing waits for them. A channel keeps the process alive while one of its ids listens, connects or is connected.
 */
export class EventChannel extends EventEmitter<EventChannelEvents> {
  readonly #targets = new Map<number, CmEventTarget>();
  #handle: number;
  #active = 0;
  #unclaimed = 0;

  /** @throws RdmaError ENOENT or ENODEV without the kernel's rdma_ucm, or without any RDMA device */
  constructor() {
    super();
    this.#handle = addon.createEventChannel((type, status, id, listener, privateData, param, group) => {
      const name = cmEventNames[type];
      if (name === undefined) return;
      const request = name === 'CONNECT_REQUEST';
      const event = { name, status, newId: request ? id : 0, privateData, group };
      this.#dispatch(request ? listener : id, {
        ...event,
        ...(param === undefined ? {} : 'ahAttr' in param ? { ud: param } : { conn: param }),
      });
    });
    channels.add(this);
  }

  get closed(): boolean {
    return this.#handle === 0;
  }

  /** Events so far whose id had been closed before they came. */
  get unclaimedCount(): number {
    return this.#unclaimed;
  }

  /** Closes the channel with all its ids (rdma_destroy_event_channel(3)). Idempotent. */
  close(): void {
    const handle = this.#handle;
    if (handle === 0) return;
    this.#handle = 0;
    channels.delete(this);
    for (const target of [...this.#targets.values()]) target.close();
    addon.close(handle);
    this.emit('close');
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** @throws RdmaError ERR_RDMA_CLOSED @internal */
  get _handle(): number {
    if (this.#handle === 0) throw closedError('event channel');
    return this.#handle;
  }

  /** Routes the events of [id] to [target]. @internal */
  _add(id: number, target: CmEventTarget): void {
    this.#targets.set(id, target);
  }

  /** @internal */
  _remove(id: number): void {
    this.#targets.delete(id);
  }

  /** @internal */
  _onDeviceRemoved(name: string): void {
    for (const target of [...this.#targets.values()]) target.onDeviceRemoved(name);
  }

  /** Counts the ids that keep the process alive. @internal */
  _addActive(delta: 1 | -1): void {
    this.#active += delta;
    if (this.#handle === 0) return;
    if (this.#active === (delta === 1 ? 1 : 0)) addon.refEventChannel(this.#handle, delta === 1);
  }

  #dispatch(id: number, event: RawCmEvent): void {
    const target = this.#targets.get(id);
    if (target !== undefined) {
      target.onEvent(event);
      return;
    }
    this.#unclaimed += 1;
    if (event.newId !== 0) addon.close(event.newId);
    this.emit('unclaimed', publicEvent(event));
  }
}

let shared: EventChannel | undefined;

/** The channel of this thread, for ids that are given no other. */
export function defaultEventChannel(): EventChannel {
  if (shared === undefined || shared.closed) shared = new EventChannel();
  return shared;
}
