/** rdma_connect(3), rdma_accept(3) and what ends a connection. */
import { addon } from '../addon.ts';
import { invalidArgument, RdmaError } from '../errors.ts';
import type { ConnEventParam, UdParam } from './events.ts';
import type { IdCore } from './id-core.ts';
import { type ConnectRequest, type ConnParam, connParam, minRnrTimerOf, privateBytes } from './params.ts';
import type { AwaitOptions } from './pending.ts';

/** The peer's answer to {@link CmId.connect}. */
export interface ConnectReply {
  /** False when the queue pair is not the id's own: bring it up, then call {@link CmId.establish}. */
  readonly established: boolean;
  /** From the peer, perhaps with zeros after it. */
  readonly privateData: Buffer;
  /** In the port space TCP. */
  readonly conn?: ConnEventParam;
  /** In the port space UDP: where the peer's datagrams go. */
  readonly ud?: UdParam;
}

/** Events that rdma_notify(3) takes (enum ibv_event_type). */
const notifiable = { COMM_EST: 4, PATH_MIG: 6 } as const;

/** What a device may say of a connection (rdma_notify(3)). */
export type NotifiableEvent = keyof typeof notifiable;

function requireQueuePair(core: IdCore, syscall: string, qpNum: number): void {
  if (qpNum !== 0 && core.qp !== undefined && !core.qp.closed) {
    throw invalidArgument(
      'ERR_INVALID_ARG_VALUE',
      `qpNum ${qpNum}: the connection id has a queue pair of its own`,
    );
  }
  if (qpNum !== 0 || (core.qp !== undefined && !core.qp.closed)) return;
  throw new RdmaError(
    'ERR_RDMA_STATE',
    `${syscall}: the connection id has no queue pair: call createQp(), or give the qpNum of another one`,
    { syscall },
  );
}

/** @internal */
export async function connect(core: IdCore, param: ConnParam, options: AwaitOptions): Promise<ConnectReply> {
  const minRnrTimer = minRnrTimerOf(param);
  const args = connParam(param, 'connect', core.portSpace, core.attr('rdma_connect'));
  core.require('rdma_connect', ['routeResolved']);
  if (core.portSpace === 'TCP') requireQueuePair(core, 'rdma_connect', param.qpNum ?? 0);
  const start = (handle: number) => {
    const sent = addon.connect(handle, ...args);
    core.minRnrTimer = minRnrTimer;
    core.state = 'connecting';
    core.setActive(true);
    return sent;
  };
  const expects = ['ESTABLISHED', 'CONNECT_RESPONSE'] as const;
  const event = await core.step({ what: 'connect', expects, start }, options);
  const { name, privateData, conn, ud } = event;
  const reply = { established: name === 'ESTABLISHED', privateData };
  return { ...reply, ...(conn === undefined ? {} : { conn }), ...(ud === undefined ? {} : { ud }) };
}

/** @internal */
export async function accept(
  core: IdCore,
  request: ConnectRequest | undefined,
  param: ConnParam,
  options: AwaitOptions,
): Promise<void> {
  const minRnrTimer = minRnrTimerOf(param);
  const args = connParam(param, 'accept', core.portSpace, core.attr('rdma_accept'), request);
  const handle = core.require('rdma_accept', ['requested']);
  requireQueuePair(core, 'rdma_accept', param.qpNum ?? 0);
  if (core.portSpace !== 'TCP') {
    // The answer is all there is: no event follows (rdma_accept(3)).
    addon.accept(handle, ...args);
    core.state = 'connected';
    return;
  }
  const start = () => {
    addon.accept(handle, ...args);
    core.minRnrTimer = minRnrTimer;
    core.state = 'connecting';
    core.setActive(true);
    try {
      // The peer may send before this side hears that the connection is established.
      core.setRnrTimer();
    } catch {
      // Broken already; the event that says so comes.
    }
  };
  await core.step({ what: 'accept', expects: ['ESTABLISHED'], start }, options);
}

/** @internal */
export function reject(core: IdCore, privateData: Uint8Array | undefined, ece: boolean): void {
  const bytes = privateBytes(privateData, 'reject', core.portSpace);
  const handle = core.require(ece ? 'rdma_reject_ece' : 'rdma_reject', ['requested', 'responded']);
  try {
    addon.reject(handle, bytes, ece);
  } finally {
    core.close();
  }
}

/** @internal */
export function establish(core: IdCore): void {
  addon.establish(core.require('rdma_establish', ['responded']));
  core.state = 'connected';
}

/** @internal */
export function notify(core: IdCore, event: NotifiableEvent): void {
  if (!Object.hasOwn(notifiable, event)) {
    throw invalidArgument(
      'ERR_INVALID_ARG_VALUE',
      `event must be one of ${Object.keys(notifiable).join(', ')}, not ${String(event)}`,
    );
  }
  const handle = core.open();
  core.attr('rdma_notify');
  addon.notify(handle, notifiable[event]);
}

/** @internal */
export function disconnect(core: IdCore, options: AwaitOptions): Promise<void> {
  if (core.state === 'disconnected' || core.state === 'removed') return Promise.resolve();
  if (core.portSpace !== 'TCP') {
    core.open();
    throw new RdmaError(
      'ERR_RDMA_STATE',
      `rdma_disconnect: there are no connections in the port space ${core.portSpace}: close the id`,
      { syscall: 'rdma_disconnect' },
    );
  }
  core.require('rdma_disconnect', ['connected', 'responded']);
  const step = { what: 'disconnect', expects: ['DISCONNECTED'] as const, start: addon.disconnect };
  const ended = core.step(step, options).then(() => undefined);
  // Who does not wait is told by 'disconnected'.
  ended.catch(() => undefined);
  return ended;
}
