import { EventEmitter } from 'node:events';
import { addon } from '../addon.ts';
import { invalidArgument } from '../errors.ts';
import { checkInteger } from '../verbs/check.ts';
import type { Device } from '../verbs/device.ts';
import type { QpAttr } from '../verbs/qp-attr.ts';
import type { Ece } from '../verbs/qp-control.ts';
import { qpSpec } from '../verbs/qp-create.ts';
import { QueuePair } from '../verbs/queue-pair.ts';
import { type Address, numericAddress } from './address.ts';
import * as connection from './connect.ts';
import { defaultEventChannel, EventChannel } from './event-channel.ts';
import type { CmEvent, RawCmEvent } from './events.ts';
import { type CmIdState, IdCore, type IdOwner } from './id-core.ts';
import { type JoinOptions, joinMulticast, type MulticastGroup } from './multicast.ts';
import * as option from './options.ts';
import { type ConnectRequest, type ConnParam, type PortSpace, portSpaces, type QpInit } from './params.ts';
import type { AwaitOptions } from './pending.ts';
import { type CmQpState, initQpAttr } from './qp-attr.ts';
import { RequestQueue } from './requests.ts';
import { type ResolveAddrOptions, resolveAddr, resolveRoute } from './resolve.ts';

/** What an id is made with. */
export interface CmIdOptions extends option.CmOptions {
  /** 'TCP' by default. */
  readonly portSpace?: PortSpace;
  /** Where its events come; that of the thread by default. */
  readonly channel?: EventChannel;
}

interface CmIdEvents {
  connectRequest: [id: CmId, request: ConnectRequest];
  established: [];
  disconnected: [];
  /** Every event of rdma_cm, after the library has done its part. */
  event: [event: CmEvent];
  close: [];
}

const LISTEN_BACKLOG = 128;
const adopted = Symbol('adopted');

interface Adopted {
  readonly [adopted]: {
    readonly handle: number;
    readonly channel: EventChannel;
    readonly portSpace: PortSpace;
    readonly request: ConnectRequest;
  };
}

const noParam = {
  responderResources: 0,
  initiatorDepth: 0,
  flowControl: false,
  retryCount: 0,
  rnrRetryCount: 0,
  srq: false,
  qpNum: 0,
};

function newCore(options: CmIdOptions, owner: IdOwner): IdCore {
  const { portSpace = 'TCP', channel = defaultEventChannel() } = options;
  if (!Object.hasOwn(portSpaces, portSpace)) {
    throw invalidArgument(
      'ERR_INVALID_ARG_VALUE',
      `portSpace must be one of ${Object.keys(portSpaces).join(', ')}, not ${String(portSpace)}`,
    );
  }
  if (!(channel instanceof EventChannel)) {
    throw invalidArgument('ERR_INVALID_ARG_TYPE', 'channel must be an EventChannel');
  }
  const handle = addon.createId(channel._handle, portSpaces[portSpace]);
  return new IdCore(handle, channel, portSpace, 'idle', owner);
}

/**
 * A connection identifier of rdma_cm (rdma_create_id(3)): what a socket is to TCP and UDP. One that listens emits
 * 'connectRequest' with a new id for each request; one that is connected emits 'disconnected' when the connection ends.
 *
 * Whatever is awaited ends by its event, by `timeoutMs`, by `signal`, or by `close()` (ERR_RDMA_CLOSED). A step of a
 * connection that fails closes the id, because nothing can follow it (rdma_connect(3)); what comes late is dropped. A call
 * in the wrong {@link state} is refused with ERR_RDMA_STATE, and during a step with EALREADY.
 */
export class CmId extends EventEmitter<CmIdEvents> {
  readonly #core: IdCore;
  readonly #request: ConnectRequest | undefined;
  readonly #requests = new RequestQueue();
  #backlog = 0;

  /** @throws RdmaError ENOENT or ENODEV without rdma_cm or any RDMA device */
  constructor(options: CmIdOptions = {}) {
    super();
    const owner = {
      onCmEvent: (event: CmEvent) => this.#onEvent(event),
      onRequest: (event: RawCmEvent) => this.#onRequest(event),
      onClose: () => {
        this.#requests.end('closed');
        this.emit('close');
      },
    };
    if (adopted in options) {
      const { handle, channel, portSpace, request } = (options as CmIdOptions & Adopted)[adopted];
      this.#core = new IdCore(handle, channel, portSpace, 'requested', owner);
      this.#request = request;
      return;
    }
    this.#core = newCore(options, owner);
    try {
      option.applyOptions(this.#core, options);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  get portSpace(): PortSpace {
    return this.#core.portSpace;
  }

  /** What the id can do next. */
  get state(): CmIdState {
    return this.#core.state;
  }

  get closed(): boolean {
    return this.#core.state === 'closed';
  }

  /** Where its events come. */
  get channel(): EventChannel {
    return this.#core.channel;
  }

  /** The device that the id is bound to, once that is known. */
  get device(): Device | undefined {
    return this.#core.device;
  }

  /** Port of the device. */
  get portNum(): number | undefined {
    return this.#core.known.portNum;
  }

  /** GID of this side, written as an IPv6 address. */
  get gid(): string | undefined {
    return this.#core.known.gid;
  }

  /** GID of the peer. */
  get peerGid(): string | undefined {
    return this.#core.known.peerGid;
  }

  /** Partition key; 0 on RoCE and iWARP. */
  get pkey(): number | undefined {
    return this.#core.known.pkey;
  }

  /** The queue pair that {@link createQp} has made. */
  get qp(): QueuePair | undefined {
    return this.#core.qp;
  }

  /** rdma_get_local_addr(3), with the port of rdma_get_src_port(3). */
  get localAddress(): Address | undefined {
    return this.#core.known.local;
  }

  /** rdma_get_peer_addr(3), with the port of rdma_get_dst_port(3). */
  get peerAddress(): Address | undefined {
    return this.#core.peer;
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
    const native = numericAddress('address', address);
    addon.bindAddr(this.#core.require('rdma_bind_addr', ['idle']), ...native);
    this.#core.state = 'bound';
  }

  /**
   * Listens for connection requests (rdma_listen(3)), which 'connectRequest' or {@link nextRequest} brings; those that
   * nobody takes are rejected.
   *
   * @param backlog requests that may wait; 128 by default
   * @throws RdmaError EADDRINUSE; EOPNOTSUPP for the port space UDP on iWARP
   */
  listen(backlog = LISTEN_BACKLOG): void {
    checkInteger('backlog', backlog, 0, 0x7fff_ffff);
    addon.listen(this.#core.require('rdma_listen', ['idle', 'bound']), backlog);
    this.#backlog = backlog;
    this.#core.state = 'listening';
    this.#core.setActive(true);
  }

  /**
   * The next connection request (rdma_get_request(3)). From its first call on, requests that no call waits for are kept, as
   * many as the backlog says, unless somebody listens to 'connectRequest'. Without a time limit of its own.
   *
   * @throws RdmaError ERR_RDMA_CLOSED, ENODEV, ETIMEDOUT, or the signal's reason; the id goes on listening
   */
  async nextRequest(options: AwaitOptions = {}): Promise<CmId> {
    if (this.#core.state !== 'listening') this.#core.require('rdma_get_request', ['listening']);
    return this.#requests.next(options);
  }

  /**
   * Resolves an address to a device and binds to it (rdma_resolve_addr(3)).
   *
   * @throws RdmaError ETIMEDOUT, EHOSTUNREACH, ENODEV, or the signal's reason
   */
  resolveAddr(target: Address, options: ResolveAddrOptions = {}): Promise<void> {
    return resolveAddr(this.#core, target, options);
  }

  /**
   * Resolves the route to the peer (rdma_resolve_route(3)).
   *
   * @throws RdmaError as {@link resolveAddr}
   */
  resolveRoute(options: AwaitOptions = {}): Promise<void> {
    return resolveRoute(this.#core, options);
  }

  /**
   * Makes the queue pair of this id (rdma_create_qp(3)); in the port space UDP it can send at once. Post receives before
   * {@link connect} or {@link accept}: iWARP breaks the connection when a message finds none.
   *
   * @throws RdmaError ENOSPC when a completion queue is too small, EINVAL when the domain is of another device
   */
  createQp(init: QpInit): QueuePair {
    const { pd, sendCq, recvCq = sendCq, srq } = init;
    const type = this.portSpace === 'TCP' ? 'RC' : 'UD';
    if (init.type !== undefined && init.type !== type) {
      throw invalidArgument(
        'ERR_INVALID_ARG_VALUE',
        `type ${init.type}: queue pairs of ids of the port space ${this.portSpace} are ${type}`,
      );
    }
    const states = ['idle', 'bound', 'addrResolved', 'routeResolved', 'requested'] as const;
    const handle = this.#core.require('rdma_create_qp', states);
    const native = addon.createQp(qpSpec(pd, { ...init, type }, handle));
    const qp = new QueuePair(native, pd, sendCq, recvCq, srq);
    this.#core.qp = qp;
    return qp;
  }

  /**
   * Connects (rdma_connect(3)). The side that connects must send the first message: iWARP demands it. In the port space
   * UDP this asks the peer where its datagrams go; there is no connection after it.
   *
   * @throws RdmaError ECONNREFUSED (with the privateData and the reason of a rejection), ETIMEDOUT, ENETUNREACH …
   */
  connect(param: ConnParam = {}, options: AwaitOptions = {}): Promise<connection.ConnectReply> {
    return connection.connect(this.#core, param, options);
  }

  /**
   * Accepts a connection request (rdma_accept(3)); resolves when the connection is established, in the port space UDP at
   * once.
   *
   * @throws RdmaError as {@link connect}
   */
  accept(param: ConnParam = {}, options: AwaitOptions = {}): Promise<void> {
    return connection.accept(this.#core, this.#request, param, options);
  }

  /**
   * Rejects a connection request (rdma_reject(3)), or the peer's answer to one, and closes the id.
   *
   * @param privateData at most 148 bytes; 136 in the port space UDP
   */
  reject(privateData?: Uint8Array): void {
    connection.reject(this.#core, privateData, false);
  }

  /**
   * As {@link reject}, because of the peer's options of extended connection establishment (rdma_reject_ece(3)). On
   * InfiniBand and RoCE the peer's error says "vendor option not supported", in the port space UDP and on iWARP the same as
   * of any rejection.
   */
  rejectEce(privateData?: Uint8Array): void {
    connection.reject(this.#core, privateData, true);
  }

  /** Completes a connection over a queue pair that is not the id's own (rdma_establish(3)), once it is in RTS. */
  establish(): void {
    connection.establish(this.#core);
  }

  /**
   * Starts to end the connection (rdma_disconnect(3)): 'disconnected' follows on both sides, and what is in flight is
   * flushed. Wait for the completions of what must arrive first. Does nothing once the connection has ended.
   *
   * @returns resolves with the end of the connection; it need not be awaited
   * @throws RdmaError ERR_RDMA_STATE, ERR_RDMA_CLOSED
   */
  disconnect(options: AwaitOptions = {}): Promise<void> {
    return connection.disconnect(this.#core, options);
  }

  /**
   * Tells rdma_cm what an asynchronous event of the device said (rdma_notify(3)): COMM_EST when a message has come before
   * the peer's last word of the handshake, which then may be lost.
   */
  notify(event: connection.NotifiableEvent): void {
    connection.notify(this.#core, event);
  }

  /** Moves the id to another channel, with the events that wait for it (rdma_migrate_id(3)). */
  migrate(channel: EventChannel): void {
    if (!(channel instanceof EventChannel)) {
      throw invalidArgument('ERR_INVALID_ARG_TYPE', 'channel must be an EventChannel');
    }
    const core = this.#core;
    if (core.state !== 'closed') core.require('rdma_migrate_id', [core.state]);
    core.open();
    core.migrate(channel);
  }

  /**
   * What a queue pair that is not the id's own needs to enter [state] (rdma_init_qp_attr(3)), for {@link QueuePair.modify}. Its RNR
   * timer is 0.64 ms, not rdma_cm's 655 ms, unless {@link ConnParam.minRnrTimer} is given.
   *
   * @throws RdmaError EINVAL before the connection has come so far
   */
  initQpAttr(state: CmQpState, options: Pick<ConnParam, 'minRnrTimer'> = {}): QpAttr {
    return initQpAttr(this.#core, state, options);
  }

  /**
   * Joins a multicast group (rdma_join_multicast_ex(3)); port spaces UDP and IPOIB, after {@link bind} to a device or
   * {@link resolveAddr}. The queue pair of the id, if there is one by then, is attached to the group.
   *
   * @param address numeric. RoCE v2 carries IPv4 groups only
   * @throws RdmaError EOPNOTSUPP on iWARP, EADDRINUSE, ETIMEDOUT …; the id stays as it was
   */
  joinMulticast(address: string, options: JoinOptions = {}): Promise<MulticastGroup> {
    return joinMulticast(this.#core, address, options);
  }

  /** The id keeps the process alive while it listens, connects or is connected (the default). */
  ref(): this {
    this.#core.setRef(true);
    return this;
  }

  /** The id does not keep the process alive. */
  unref(): this {
    this.#core.setRef(false);
    return this;
  }

  /** @see CmOptions.tos */
  setTos(tos: number): void {
    option.setTos(this.#core, tos);
  }

  /** @see CmOptions.reuseAddr */
  setReuseAddr(reuseAddr: boolean): void {
    option.setReuseAddr(this.#core, reuseAddr);
  }

  /** @see CmOptions.afOnly */
  setAfOnly(afOnly: boolean): void {
    option.setAfOnly(this.#core, afOnly);
  }

  /** @see CmOptions.ackTimeout */
  setAckTimeout(ackTimeout: number): void {
    option.setAckTimeout(this.#core, ackTimeout);
  }

  /** What to offer the peer (rdma_set_local_ece(3)), for a queue pair that is not the id's own. */
  setLocalEce(ece: Ece): void {
    option.setLocalEce(this.#core, ece);
  }

  /** What the peer has offered or agreed to (rdma_get_remote_ece(3)), for a queue pair that is not the id's own. */
  getRemoteEce(): Ece {
    return option.getRemoteEce(this.#core);
  }

  /** Leaves all groups, destroys the queue pair, settling its work, and the id (rdma_destroy_id(3)). Idempotent. */
  close(): void {
    this.#core.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #onRequest({ newId, privateData, conn }: RawCmEvent): void {
    const { channel, portSpace } = this.#core;
    const request = { privateData, ...(conn ?? noParam) };
    const id = new CmId({ [adopted]: { handle: newId, channel, portSpace, request } } as CmIdOptions);
    if (this.listenerCount('connectRequest') > 0) {
      this.emit('connectRequest', id, request);
    } else if (!this.#requests.offer(id, this.#backlog)) {
      id.reject();
    }
  }

  #onEvent(event: CmEvent): void {
    if (event.name === 'ESTABLISHED') this.emit('established');
    if (event.name === 'DISCONNECTED') this.emit('disconnected');
    if (event.name === 'DEVICE_REMOVAL') this.#requests.end('removed');
    this.emit('event', event);
  }
}

/** Makes an id (rdma_create_id(3)): the same as `new CmId(options)`. */
export function createId(options: CmIdOptions = {}): CmId {
  return new CmId(options);
}
