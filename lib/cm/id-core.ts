/** What all calls of an id share: its state, the step it waits for, its events. */
import { addon, type NativeIdDescription } from '../addon.ts';
import { closedError, RdmaError } from '../errors.ts';
import { type Device, openDevice } from '../verbs/device.ts';
import type { DeviceAttr } from '../verbs/device-attr.ts';
import type { QueuePair } from '../verbs/queue-pair.ts';
import { type Address, addressText } from './address.ts';
import type { CmEventTarget, EventChannel } from './event-channel.ts';
import {
  type CmEvent,
  type CmEventName,
  cmCallError,
  cmError,
  publicEvent,
  type RawCmEvent,
} from './events.ts';
import type { MulticastGroup } from './multicast.ts';
import { minRnrTimerOf, type PortSpace } from './params.ts';
import { type AwaitOptions, checkAwait, type Pending, Waiter } from './pending.ts';

/**
 * What an id can do next. 'requested' is the id of a connection request, 'connecting' waits for the peer, 'responded'
 * has the peer's answer and a queue pair of its user's to bring up (then {@link CmId.establish}), 'removed' has lost its
 * device.
 */
export type CmIdState =
  | 'idle'
  | 'bound'
  | 'listening'
  | 'addrResolved'
  | 'routeResolved'
  | 'requested'
  | 'connecting'
  | 'responded'
  | 'connected'
  | 'disconnected'
  | 'removed'
  | 'closed';

/** Who shows the events to users. @internal */
export interface IdOwner {
  onCmEvent(event: CmEvent): void;
  onRequest(event: RawCmEvent): void;
  onClose(): void;
}

/** A step that ends with an event. @internal */
export interface Step {
  readonly what: string;
  readonly expects: readonly CmEventName[];
  readonly start: (handle: number, timeoutMs: number) => void | Promise<void>;
  readonly again?: (handle: number) => void;
}

const ETIMEDOUT = 110;

/** States that events bring. */
const eventStates: Partial<Record<CmEventName, CmIdState>> = {
  ADDR_RESOLVED: 'addrResolved',
  ROUTE_RESOLVED: 'routeResolved',
  CONNECT_RESPONSE: 'responded',
  ESTABLISHED: 'connected',
  DISCONNECTED: 'disconnected',
  DEVICE_REMOVAL: 'removed',
};

/** The devices that ids are bound to, open for as long as the thread lives unless their user closes them. */
const devices = new Map<string, Device>();

function deviceNamed(name: string): Device {
  let device = devices.get(name);
  if (device === undefined || device.closed) {
    device = openDevice(name);
    devices.set(name, device);
  }
  return device;
}

/** Runs [action], whose failure means that there is nothing left to do. */
function attempt(action: () => void): void {
  try {
    action();
  } catch (error) {
    if (!(error instanceof RdmaError)) throw error;
  }
}

/** @internal */
export class IdCore implements CmEventTarget {
  readonly handle: number;
  readonly portSpace: PortSpace;
  channel: EventChannel;
  state: CmIdState;
  qp: QueuePair | undefined;
  minRnrTimer = minRnrTimerOf({});
  /** What is being resolved, before the kernel knows it. */
  target: Address | undefined;
  /** By token. */
  readonly groups = new Map<number, MulticastGroup>();
  readonly #owner: IdOwner;
  #pending: Pending | undefined;
  #active = false;
  #ref = true;
  #known: NativeIdDescription = { device: '' };

  constructor(handle: number, channel: EventChannel, portSpace: PortSpace, state: CmIdState, owner: IdOwner) {
    this.handle = handle;
    this.channel = channel;
    this.portSpace = portSpace;
    this.state = state;
    this.#owner = owner;
    channel._add(handle, this);
  }

  /** What is known of the id; what was known when it was closed. */
  get known(): NativeIdDescription {
    if (this.state !== 'closed') this.#known = addon.describeId(this.handle);
    return this.#known;
  }

  get peer(): Address | undefined {
    const { peer } = this.known;
    return peer !== undefined && peer.port !== 0 ? peer : this.target;
  }

  get device(): Device | undefined {
    const { device } = this.known;
    if (this.state === 'closed') return devices.get(device);
    return device === '' ? undefined : deviceNamed(device);
  }

  /** Limits of the device. @throws RdmaError ERR_RDMA_STATE before the id is bound to one */
  attr(syscall: string): DeviceAttr {
    const { device } = this;
    if (device !== undefined) return device.attr;
    throw new RdmaError(
      'ERR_RDMA_STATE',
      `${syscall}: the connection id is not bound to a device yet: resolve its address first`,
      { syscall },
    );
  }

  /** Throws unless the id is open, in one of [states], and waits for nothing. @returns its handle */
  require(syscall: string, states: readonly CmIdState[]): number {
    if (this.state === 'closed') throw closedError('connection id');
    if (this.#pending !== undefined) {
      throw new RdmaError('EALREADY', `${syscall}: the connection id is busy with ${this.#pending.what}`, {
        syscall,
      });
    }
    if (!states.includes(this.state)) {
      throw new RdmaError(
        'ERR_RDMA_STATE',
        `${syscall}: not possible while the connection id is ${this.state}, only while it is ${states.join(' or ')}`,
        { syscall },
      );
    }
    return this.handle;
  }

  /** Throws unless the id is open. @returns its handle */
  open(): number {
    if (this.state === 'closed') throw closedError('connection id');
    return this.handle;
  }

  setActive(active: boolean): void {
    if (this.#active === active) return;
    this.#active = active;
    if (this.#ref) this.channel._addActive(active ? 1 : -1);
  }

  /** Whether the id keeps the process alive while it is active. */
  setRef(ref: boolean): void {
    if (this.#ref === ref) return;
    this.#ref = ref;
    if (this.#active) this.channel._addActive(ref ? 1 : -1);
  }

  migrate(channel: EventChannel): void {
    addon.migrateId(this.handle, channel._handle);
    const active = this.#active;
    this.setActive(false);
    this.channel._remove(this.handle);
    this.channel = channel;
    channel._add(this.handle, this);
    this.setActive(active);
  }

  /** Takes a step and waits for its event; a step that fails closes the id, because nothing can follow it. */
  async step(step: Step, options: AwaitOptions): Promise<RawCmEvent> {
    const { what, expects, start, again } = step;
    const timeoutMs = checkAwait(options);
    const syscall = `rdma_${what.replaceAll(' ', '_')}`;
    const started = start(this.handle, timeoutMs);
    const waiter = new Waiter<RawCmEvent>(
      timeoutMs,
      options.signal,
      syscall,
      () => `${what} ETIMEDOUT ${addressText(this.peer)}`,
    );
    const pending = { what, expects, waiter, again };
    this.#pending = pending;
    started?.catch((error: RdmaError) => waiter.fail(cmCallError(error, what, this.peer)));
    try {
      return await waiter.promise;
    } catch (error) {
      this.close();
      throw error;
    } finally {
      if (this.#pending === pending) this.#pending = undefined;
    }
  }

  /** Sets the RNR timer of the id's own queue pair. */
  setRnrTimer(): void {
    const { qp } = this;
    if (qp === undefined || qp.closed || this.portSpace !== 'TCP' || qp.pd.device.transport !== 'ib') return;
    qp.setMinRnrTimer(this.minRnrTimer);
  }

  onEvent(raw: RawCmEvent): void {
    const event = this.#corrected(raw);
    if (event.name !== 'DISCONNECTED') {
      this.#handle(event);
      return;
    }
    try {
      this.#catchUp();
    } finally {
      // Unless a callback of a completion has closed the id.
      if (this.state !== 'closed') this.#handle(event);
    }
  }

  /** Messages that came before the end of the connection, through another file of the kernel, are told of before it. */
  #catchUp(): void {
    const { qp } = this;
    if (qp === undefined || qp.closed) return;
    qp.recvCq._catchUp();
    if (qp.sendCq !== qp.recvCq) qp.sendCq._catchUp();
  }

  #handle(event: RawCmEvent): void {
    if (event.name === 'CONNECT_REQUEST') {
      this.#owner.onRequest(event);
    } else if (event.group !== 0) {
      this.groups.get(event.group)?._onEvent(event);
    } else {
      this.#onOwnEvent(event);
    }
    this.#owner.onCmEvent(publicEvent(event, this.groups.get(event.group)?.address));
  }

  /** Such an id is of no more use, and must go for the device to go (rdma_get_cm_event(3), DEVICE_REMOVAL). */
  onDeviceRemoved(name: string): void {
    if (this.state === 'closed' || this.known.device !== name) return;
    try {
      this.onEvent({ name: 'DEVICE_REMOVAL', status: 0, newId: 0, privateData: Buffer.alloc(0), group: 0 });
    } finally {
      this.close();
    }
  }

  close(): void {
    if (this.state === 'closed') return;
    this.#known = addon.describeId(this.handle);
    this.state = 'closed';
    this.channel._remove(this.handle);
    this.setActive(false);
    this.qp?.close();
    const groups = [...this.groups.values()];
    this.groups.clear();
    addon.close(this.handle);
    for (const group of groups) group._onIdClosed();
    this.#pending?.waiter.fail(closedError('connection id'));
    this.#owner.onClose();
  }

  #onOwnEvent(event: RawCmEvent): void {
    const { name, status } = event;
    const pending = this.#pending;
    this.state = eventStates[name] ?? this.state;
    if (name === 'ESTABLISHED') this.#onEstablished(pending);
    if (name === 'DISCONNECTED' || name === 'DEVICE_REMOVAL') this.#onEnd();
    if (pending === undefined) return;
    if (pending.expects.includes(name)) {
      this.#pending = undefined;
      pending.waiter.done(event);
      return;
    }
    if (name === 'ADDR_ERROR' && status === -ETIMEDOUT && pending.again !== undefined) {
      this.#retry(pending, pending.again);
      return;
    }
    const error = cmError(event, pending.what, this.peer);
    if (error !== undefined) pending.waiter.fail(error);
  }

  /** Puts right what the kernel confuses. */
  #corrected(event: RawCmEvent): RawCmEvent {
    const { name, conn } = event;
    // A peer that closes before it has heard that the connection is up rejects it (cm_rej_handler, core/cm.c).
    if (name === 'REJECTED' && this.state === 'connected') {
      return { ...event, name: 'DISCONNECTED', status: 0 };
    }
    if (
      name !== 'ESTABLISHED' ||
      conn === undefined ||
      !this.device?.quirks.some(({ name }) => name === 'reply-depths')
    )
      return event;
    const { responderResources, initiatorDepth } = conn;
    return {
      ...event,
      conn: { ...conn, responderResources: initiatorDepth, initiatorDepth: responderResources },
    };
  }

  #onEstablished(pending: Pending | undefined): void {
    if (this.portSpace !== 'TCP') this.setActive(false);
    try {
      this.setRnrTimer();
    } catch (error) {
      // The peer may have broken the connection already: then the step has failed, not the process.
      pending?.waiter.fail(error);
    }
  }

  #retry({ waiter }: Pending, again: (handle: number) => void): void {
    if (waiter.settled) return;
    try {
      again(this.handle);
    } catch (error) {
      waiter.fail(error);
    }
  }

  /** Answers the peer's disconnect, and flushes: some devices do that only when they are told (siw; rxe's receives). */
  #onEnd(): void {
    this.setActive(false);
    // It fails when the connection is down already, or the device gone: then nothing is owed.
    attempt(() => addon.disconnect(this.handle));
    const { qp } = this;
    if (qp !== undefined && !qp.closed) attempt(() => qp.toError());
  }
}
