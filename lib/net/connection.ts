/** Everything that one connection owns: id, domain, queues, memory and the channel over them. */
import type { Address, CmId } from '../cm/index.ts';
import { RdmaError } from '../errors.ts';
import type { CompletionQueue, ProtectionDomain, QueuePair } from '../verbs/index.ts';
import { Channel, type ChannelEvents } from './channel/channel.ts';
import { ChannelMemory } from './channel/memory.ts';
import { type RdmaSocketSizes, sizesOn } from './options.ts';
import { type ConnData, encodeConnData, parseConnData } from './wire/index.ts';

/**
 * "Receiver not ready" is part of the protocol: control messages have no credits, and a peer that is busy elsewhere may be
 * late to post receives. Seven is for ever.
 */
const RNR_RETRIES = 7;

/** How long what was sent may take to arrive after close, and the peer to answer the disconnect, ms. */
const LINGER_MS = 2000;
const DISCONNECT_MS = 1000;

/** How a connection is made, beyond its sizes. @internal */
export interface ConnectionSteps {
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

/** @internal */
export class Connection {
  readonly id: CmId;
  readonly pd: ProtectionDomain;
  readonly channel: Channel;
  readonly #ownPd: boolean;
  readonly #cq: CompletionQueue;
  readonly #memory: ChannelMemory;
  readonly #events: ChannelEvents;
  #ended: (() => void) | undefined;
  #closed = false;

  private constructor(
    id: CmId,
    pd: ProtectionDomain,
    ownPd: boolean,
    cq: CompletionQueue,
    qp: QueuePair,
    memory: ChannelMemory,
    passive: boolean,
    events: ChannelEvents,
  ) {
    this.id = id;
    this.pd = pd;
    this.#ownPd = ownPd;
    this.#cq = cq;
    this.#memory = memory;
    this.#events = events;
    const bySend = pd.device.transport === 'iwarp';
    this.channel = new Channel(qp, memory, bySend, passive, {
      readable: () => this.#events.readable(),
      writable: () => {
        this.#events.writable();
        if (this.#ended !== undefined && this.channel.idle) this.#ended();
      },
      failed: (error) => {
        this.#events.failed(error);
        this.#ended?.();
      },
      mapped: (index, iomap) => this.#events.mapped(index, iomap),
    });
    id.on('disconnected', () => {
      this.channel.drain();
      this.channel.fail(new RdmaError('ECONNRESET', 'the peer disconnected', { event: 'DISCONNECTED' }));
    });
    id.on('close', () => this.channel.fail(new RdmaError('ECONNRESET', 'the connection id is closed')));
  }

  /** Makes what a connection of [id], which knows its device, needs; the receives are posted. */
  static async open(
    id: CmId,
    sizes: RdmaSocketSizes,
    passive: boolean,
    events: ChannelEvents,
  ): Promise<Connection> {
    const { device } = id;
    if (device === undefined) throw new RdmaError('ENODEV', 'the connection id has no device');
    if (sizes.pd !== undefined && sizes.pd.device.name !== device.name) {
      throw new RdmaError(
        'ERR_INVALID_ARG_VALUE',
        `pd is of the device ${sizes.pd.device.name}, but the connection is on ${device.name}`,
      );
    }
    const fitting = sizesOn(device, sizes);
    const pd = sizes.pd ?? device.allocPd();
    let cq: CompletionQueue | undefined;
    let memory: ChannelMemory | undefined;
    try {
      memory = await ChannelMemory.allocate(pd, fitting);
      cq = device.createCq({ cqe: fitting.sendRequests + fitting.receives });
      const qp = id.createQp({
        pd,
        sendCq: cq,
        maxSendWr: fitting.sendRequests,
        maxRecvWr: fitting.receives,
        maxSendSge: Math.min(2, device.attr.maxSge),
        maxRecvSge: 1,
        maxInlineData: 16,
      });
      return new Connection(id, pd, sizes.pd === undefined, cq, qp, memory, passive, events);
    } catch (error) {
      id.close();
      cq?.close();
      memory?.close();
      if (sizes.pd === undefined) pd.close();
      throw error;
    }
  }

  /** Connects to [target]. */
  static async connect(
    id: CmId,
    target: Address,
    source: Address | undefined,
    sizes: RdmaSocketSizes,
    steps: ConnectionSteps,
    events: ChannelEvents,
  ): Promise<Connection> {
    await id.resolveAddr(target, source === undefined ? steps : { ...steps, source });
    await id.resolveRoute(steps);
    const connection = await Connection.open(id, sizes, false, events);
    try {
      const privateData = encodeConnData(connection.channel.connData);
      const reply = await id.connect({ privateData, rnrRetryCount: RNR_RETRIES, flowControl: true }, steps);
      connection.channel.setPeer(parseConnData(reply.privateData));
      return connection;
    } catch (error) {
      connection.abort();
      throw error;
    }
  }

  /** Accepts the request of [id] from the peer that said [peer]. */
  static async accept(
    id: CmId,
    peer: ConnData,
    sizes: RdmaSocketSizes,
    events: ChannelEvents,
  ): Promise<Connection> {
    const connection = await Connection.open(id, sizes, true, events);
    try {
      connection.channel.setPeer(peer);
      const privateData = encodeConnData(connection.channel.connData);
      await id.accept({ privateData, rnrRetryCount: RNR_RETRIES, flowControl: true });
      return connection;
    } catch (error) {
      connection.abort();
      throw error;
    }
  }

  ref(): void {
    this.id.ref();
    if (!this.#cq.closed) this.#cq.ref();
  }

  unref(): void {
    this.id.unref();
    if (!this.#cq.closed) this.#cq.unref();
  }

  /** Ends the connection in order: what has been sent arrives, the peer is told, and everything is closed. */
  async end(): Promise<void> {
    if (this.#closed) return;
    const { channel, id } = this;
    channel.disconnect();
    if (!channel.failed && !channel.idle) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, LINGER_MS);
        this.#ended = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    channel.stop();
    if (id.state === 'connected') {
      await id.disconnect({ timeoutMs: DISCONNECT_MS }).catch(() => undefined);
    }
    this.#close();
  }

  /** Breaks the connection off; the peer sees a reset. */
  abort(): void {
    if (this.#closed) return;
    this.channel.stop();
    if (this.id.state === 'connected') this.id.disconnect().catch(() => undefined);
    this.#close();
  }

  #close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.channel.stop();
    this.id.close();
    this.channel.abandon();
    this.#cq.close();
    this.#memory.close();
    if (this.#ownPd) this.pd.close();
  }
}
