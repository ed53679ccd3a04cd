/** rdma_join_multicast_ex(3) and rdma_leave_multicast(3). */
import { isIPv6 } from 'node:net';
import { addon } from '../addon.ts';
import { closedError, invalidArgument, RdmaError } from '../errors.ts';
import { numericAddress } from './address.ts';
import { cmError, type RawCmEvent, type UdParam } from './events.ts';
import type { IdCore } from './id-core.ts';
import { type AwaitOptions, checkAwait, Waiter } from './pending.ts';

/** How a group is joined. */
export interface JoinOptions extends AwaitOptions {
  /** Only to send to it; the queue pair of the id is not attached then. InfiniBand switches may not know it. */
  readonly sendOnly?: boolean;
}

function isMulticast(host: string): boolean {
  const first = Number.parseInt(host, 10);
  return isIPv6(host) ? /^ff/i.test(host) : first >= 224 && first <= 239;
}

/**
 * A multicast group that an id has joined; made by {@link CmId.joinMulticast}. The id's own queue pair is attached to it. To
 * one made with {@link ProtectionDomain.createQp} is for {@link QueuePair.attachMcast}.
 */
export class MulticastGroup {
  readonly address: string;
  readonly sendOnly: boolean;
  readonly #core: IdCore;
  readonly #token: number;
  readonly #waiter: Waiter<UdParam>;
  #ud: UdParam | undefined;

  /** @internal */
  constructor(core: IdCore, token: number, address: string, sendOnly: boolean, waiter: Waiter<UdParam>) {
    this.#core = core;
    this.#token = token;
    this.address = address;
    this.sendOnly = sendOnly;
    this.#waiter = waiter;
  }

  /** False after {@link leave}, when the id is closed, and when the network has ended the membership. */
  get joined(): boolean {
    return this.#ud !== undefined && this.#core.groups.get(this.#token) === this;
  }

  /** Where datagrams to the group go, for an address handle and a work request. */
  get ud(): UdParam {
    if (this.#ud === undefined) throw new RdmaError('ERR_RDMA_STATE', 'the multicast group is not joined');
    return this.#ud;
  }

  /** Leaves the group (rdma_leave_multicast(3)). Idempotent. */
  leave(): void {
    if (!this.#core.groups.delete(this.#token)) return;
    addon.leaveMulticast(this.#core.handle, this.#token);
  }

  [Symbol.dispose](): void {
    this.leave();
  }

  /** @internal */
  _onEvent(event: RawCmEvent): void {
    if (event.name === 'MULTICAST_JOIN' && event.ud !== undefined) {
      this.#ud = event.ud;
      this.#waiter.done(event.ud);
      return;
    }
    const error = cmError(event, 'join multicast', { host: this.address, port: 0 }, 'rdma_join_multicast_ex');
    this.#waiter.fail(error);
    this.leave();
  }

  /** @internal */
  _onIdClosed(): void {
    this.#waiter.fail(closedError('connection id'));
  }
}

let lastToken = 0;

/** A number that no group of [core] has; never 0. */
function newToken(core: IdCore): number {
  do {
    lastToken = (lastToken % 0xffff_ffff) + 1;
  } while (core.groups.has(lastToken));
  return lastToken;
}

/** @internal */
export async function joinMulticast(
  core: IdCore,
  address: string,
  options: JoinOptions,
): Promise<MulticastGroup> {
  const syscall = 'rdma_join_multicast_ex';
  const [host, port, scopeId] = numericAddress('group', { host: address, port: 0 });
  if (!isMulticast(host)) {
    throw invalidArgument('ERR_INVALID_ARG_VALUE', `${host} is not an address of a multicast group`);
  }
  const timeoutMs = checkAwait(options);
  const handle = core.open();
  if (core.portSpace === 'TCP') {
    throw new RdmaError(
      'ERR_RDMA_STATE',
      `${syscall}: only ids of the port spaces UDP and IPOIB join groups`,
      {
        syscall,
      },
    );
  }
  core.attr(syscall);
  core.require(syscall, ['bound', 'addrResolved']);
  if ([...core.groups.values()].some((group) => group.address === host)) {
    throw new RdmaError('EADDRINUSE', `${syscall}: the connection id has joined ${host} already`, {
      syscall,
    });
  }
  const sendOnly = options.sendOnly === true;
  const token = newToken(core);
  addon.joinMulticast(handle, token, host, port, scopeId, sendOnly);
  const waiter = new Waiter<UdParam>(
    timeoutMs,
    options.signal,
    syscall,
    () => `join multicast ETIMEDOUT ${host}`,
  );
  const group = new MulticastGroup(core, token, host, sendOnly, waiter);
  core.groups.set(token, group);
  try {
    await waiter.promise;
    return group;
  } catch (error) {
    group.leave();
    throw error;
  }
}
