import { lookup } from 'node:dns/promises';
import { EventEmitter } from 'node:events';
import { isIP } from 'node:net';
import { addon } from '../addon.ts';
import { closedError, invalidArgument, RdmaError } from '../errors.ts';
import { checkInteger, checkText } from '../verbs/check.ts';
import { type Device, openDevice } from '../verbs/device.ts';
import type { DeviceAttr } from '../verbs/device-attr.ts';
import { qpSpec } from '../verbs/qp-create.ts';
import { QueuePair } from '../verbs/queue-pair.ts';
import {
  addActive,
  addTarget,
  type CmEvent,
  type CmEventTarget,
  eventChannel,
  removeTarget,
} from './event-channel.ts';
import { type Address, addressText, type CmEventName, cmCallError, cmError } from './events.ts';
import {
  type AwaitOptions,
  type ConnectRequest,
  type ConnParam,
  connParam,
  privateBytes,
  type QpInit,
} from './params.ts';
import { type Pending, PendingStep } from './pending.ts';

interface CmIdEvents {
  connectRequest: [id: CmId, request: ConnectRequest];
  established: [];
  disconnected: [];
  /** Every event of rdma_cm, after the library has done its part. */
  event: [name: CmEventName, status: number];
  close: [];
}

const DEFAULT_TIMEOUT_MS = 10_000;
/** 0.64 ms; librdmacm leaves 0, which means 655 ms (ibv_modify_qp(3)). */
const MIN_RNR_TIMER = 12;
const LISTEN_BACKLOG = 128;
/**
 * The kernel misses an ARP reply that comes while it looks, and looks again only when its time is up (kernel
 * core/addr.c process_one_req): it gets little time, and is asked again until the caller's is up.
 */
const RESOLVE_SLICE_MS = 500;
const ETIMEDOUT = 110;

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

function checkAddress(name: string, address: Address): void {
  checkText(`${name}.host`, address?.host);
  checkInteger(`${name}.port`, address.port, 0, 65535);
}

async function numericHost(host: string): Promise<string> {
  return isIP(host) === 0 ? (await lookup(host)).address : host;
}

/**
 * A connection identifier of rdma_cm (rdma_create_id(3), port space TCP): what a socket is to TCP. One that listens emits
 * 'connectRequest' with a new id for each request; one that is connected emits 'disconnected' when the connection ends.
 */
export class CmId extends EventEmitter<CmIdEvents> implements CmEventTarget {
  readonly #handle: number;
  #closed = false;
  #active = false;
  #qp: QueuePair | undefined;
  #local: Address | undefined;
  #peer: Address | undefined;
  #device: string | undefined;
  #request: ConnectRequest | undefined;
  #pending: Pending | undefined;

  /** @param handle of an id that a listener has received; not for users */
  constructor(handle?: number) {
    super();
    this.#handle = handle ?? addon.createId(eventChannel());
    addTarget(this.#handle, this);
  }

  /** The device that the id is bound to, once that is known. */
  get device(): Device | undefined {
    this.#learn();
    return this.#device === undefined ? undefined : deviceNamed(this.#device);
  }

  get qp(): QueuePair | undefined {
    return this.#qp;
  }

  get localAddress(): Address | undefined {
    this.#learn();
    return this.#local;
  }

  get peerAddress(): Address | undefined {
    this.#learn();
    return this.#peer;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** What came with the request, for an id of 'connectRequest'. */
  get request(): ConnectRequest | undefined {
    return this.#request;
  }

  /**
   * Binds to a local address (rdma_bind_addr(3)); port 0 chooses one.
   *
   * @param address with a numeric host; '0.0.0.0' and '::' for all devices
   * @throws RdmaError EADDRINUSE, EADDRNOTAVAIL, ENODEV
   */
  bind(address: Address): void {
    checkAddress('address', address);
    if (isIP(address.host) === 0) {
      throw invalidArgument(
        'ERR_INVALID_ARG_VALUE',
        `address.host must be a numeric IP address, not "${address.host}"`,
      );
    }
    addon.bindAddr(this.#open(), address.host, address.port);
  }

  /**
   * Listens for connection requests (rdma_listen(3)).
   *
   * @param backlog requests that may wait; 128 by default
   * @throws RdmaError EADDRINUSE
   */
  listen(backlog = LISTEN_BACKLOG): void {
    checkInteger('backlog', backlog, 0, 0x7fff_ffff);
    addon.listen(this.#open(), backlog);
    this.#setActive(true);
  }

  /**
   * Resolves an address to a device and binds to it (rdma_resolve_addr(3)).
   *
   * @throws RdmaError ETIMEDOUT, EHOSTUNREACH, ENODEV, or the signal's reason; the id cannot be used after that
   */
  async resolveAddr(
    target: Address,
    options: AwaitOptions & { readonly source?: Address } = {},
  ): Promise<void> {
    checkAddress('target', target);
    const { source } = options;
    if (source !== undefined) checkAddress('source', source);
    options.signal?.throwIfAborted();
    const host = await numericHost(target.host);
    this.#peer = { host, port: target.port, family: isIP(host) === 6 ? 'IPv6' : 'IPv4' };
    const sourceHost = source?.host;
    const sourcePort = source?.port ?? 0;
    const slice = Math.min(options.timeoutMs ?? DEFAULT_TIMEOUT_MS, RESOLVE_SLICE_MS);
    const start = (handle: number) => {
      addon.resolveAddr(handle, host, target.port, slice, sourceHost, sourcePort);
    };
    await this.#step('resolve addr', ['ADDR_RESOLVED'], options, start, start);
  }

  /**
   * Resolves the route to the peer (rdma_resolve_route(3)).
   *
   * @throws RdmaError as {@link resolveAddr}
   */
  async resolveRoute(options: AwaitOptions = {}): Promise<void> {
    await this.#step('resolve route', ['ROUTE_RESOLVED'], options, addon.resolveRoute);
  }

  /**
   * Makes the queue pair of this id (rdma_create_qp(3)). Post receives before {@link connect} or {@link accept}: iWARP
   * breaks the connection when a message finds none.
   *
   * @throws RdmaError ENOSPC when a completion queue is too small, EINVAL when the domain is of another device
   */
  createQp(init: QpInit): QueuePair {
    const { pd, sendCq, recvCq = sendCq } = init;
    const native = addon.createQp(qpSpec(pd, init, this.#open()));
    this.#qp = new QueuePair(native, pd, sendCq, recvCq);
    return this.#qp;
  }

  /**
   * Connects (rdma_connect(3)). The side that connects must send the first message: iWARP demands it.
   *
   * @returns the peer's private data, perhaps with zeros after it
   * @throws RdmaError ECONNREFUSED (with the privateData of a rejection), ETIMEDOUT, ENETUNREACH …
   */
  async connect(param: ConnParam = {}, options: AwaitOptions = {}): Promise<Buffer> {
    const args = connParam(param, 56, this.#attr());
    this.#setActive(true);
    const event = await this.#step('connect', ['ESTABLISHED', 'CONNECT_RESPONSE'], options, (handle) =>
      addon.connect(handle, ...args),
    );
    return event.privateData;
  }

  /**
   * Accepts a connection request (rdma_accept(3)); resolves when the connection is established.
   *
   * @throws RdmaError as {@link connect}
   */
  async accept(param: ConnParam = {}, options: AwaitOptions = {}): Promise<void> {
    const args = connParam(param, 196, this.#attr(), this.#request);
    this.#setActive(true);
    await this.#step('accept', ['ESTABLISHED'], options, (handle) => addon.accept(handle, ...args));
  }

  /** Rejects a connection request (rdma_reject(3)) and closes the id. @param privateData at most 148 bytes */
  reject(privateData?: Uint8Array): void {
    const bytes = privateBytes(privateData, 148);
    addon.reject(this.#open(), bytes);
    this.close();
  }

  /**
   * Starts to end the connection (rdma_disconnect(3)): 'disconnected' follows on both sides, and what is in flight is
   * flushed. Wait for the completions of what must arrive first.
   */
  disconnect(): void {
    addon.disconnect(this.#open());
  }

  /** Destroys the queue pair, settling its work, and the id (rdma_destroy_id(3)). Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    removeTarget(this.#handle);
    this.#setActive(false);
    this.#qp?.close();
    addon.close(this.#handle);
    this.#pending?.fail(closedError('connection id'));
    this.emit('close');
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** @internal */
  _onEvent(event: CmEvent): void {
    if (event.name === 'CONNECT_REQUEST') {
      this.#onRequest(event);
    } else {
      this.#onOwnEvent(event);
    }
    this.emit('event', event.name, event.status);
  }

  #onRequest({ newId, privateData, responderResources, initiatorDepth }: CmEvent): void {
    const id = new CmId(newId);
    id.#request = { privateData, responderResources, initiatorDepth };
    if (!this.emit('connectRequest', id, id.#request)) id.reject();
  }

  #onOwnEvent(event: CmEvent): void {
    const { name, status } = event;
    const pending = this.#pending;
    if (name === 'ESTABLISHED' && this.#qp?.closed === false && this.#qp.pd.device.transport === 'ib') {
      try {
        this.#qp.setMinRnrTimer(MIN_RNR_TIMER);
      } catch (error) {
        // The peer may have broken the connection already: then the step has failed, not the process.
        pending?.fail(error);
      }
    }
    if (name === 'DISCONNECTED' || name === 'DEVICE_REMOVAL') this.#onEnd();
    if (name === 'ADDR_ERROR' && status === -ETIMEDOUT && pending?.again !== undefined) {
      this.#retry(pending, pending.again);
    } else if (pending !== undefined) {
      const error = cmError(name, status, pending.what, this.peerAddress, event.privateData);
      if (error !== undefined) pending.fail(error);
      else if (pending.expects.includes(name)) pending.done(event);
    }
    if (name === 'ESTABLISHED') this.emit('established');
    if (name === 'DISCONNECTED') this.emit('disconnected');
  }

  #retry(pending: Pending, again: (handle: number) => void): void {
    try {
      again(this.#handle);
    } catch (error) {
      pending.fail(error);
    }
  }

  /** Answers the peer's disconnect, and flushes: some devices do that only when they are told (siw; rxe's receives). */
  #onEnd(): void {
    this.#setActive(false);
    try {
      addon.disconnect(this.#handle);
    } catch (error) {
      // The connection is down already: EINVAL or ENOTCONN, and nothing is owed.
      if (!(error instanceof RdmaError)) throw error;
    }
    if (this.#qp === undefined || this.#qp.closed) return;
    this.#qp.toError();
  }

  #open(): number {
    if (this.#closed) throw closedError('connection id');
    return this.#handle;
  }

  #setActive(active: boolean): void {
    if (this.#active === active) return;
    this.#active = active;
    addActive(active ? 1 : -1);
  }

  #learn(): void {
    if (this.#closed || (this.#device !== undefined && this.#peer !== undefined)) return;
    const { device, local, peer } = addon.describeId(this.#handle);
    if (device !== '') this.#device = device;
    this.#local = local;
    if (peer !== undefined && peer.port !== 0) this.#peer = peer;
  }

  #attr(): DeviceAttr {
    const { device } = this;
    if (device !== undefined) return device.attr;
    throw new RdmaError(
      'ERR_RDMA_STATE',
      'the connection id is not bound to a device yet: resolve its address first',
    );
  }

  async #step(
    what: string,
    expects: readonly CmEventName[],
    options: AwaitOptions,
    start: (handle: number, timeoutMs: number) => void | Promise<void>,
    again?: (handle: number) => void,
  ): Promise<CmEvent> {
    const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
    checkInteger('timeoutMs', timeoutMs, 1, 0x7fff_ffff);
    options.signal?.throwIfAborted();
    const handle = this.#open();
    if (this.#pending !== undefined) {
      throw new RdmaError('EALREADY', `${what}: the connection id is busy with ${this.#pending.what}`);
    }
    const started = start(handle, timeoutMs);
    const step = new PendingStep(
      what,
      expects,
      timeoutMs,
      options.signal,
      () => addressText(this.#peer),
      again,
    );
    this.#pending = step;
    started?.catch((error: RdmaError) => step.fail(cmCallError(error, what, this.#peer)));
    try {
      return await step.promise;
    } catch (error) {
      // An id whose step has failed is in no state that a next step could start from (rdma_connect(3)).
      this.#pending = undefined;
      this.close();
      throw error;
    } finally {
      this.#pending = undefined;
    }
  }
}
