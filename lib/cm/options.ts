/** Options of ids (rdma_set_option(3)) and the enhanced connection establishment (ECE). */
import { addon } from '../addon.ts';
import { invalidArgument } from '../errors.ts';
import { checkInteger } from '../verbs/check.ts';
import type { Ece } from '../verbs/qp-control.ts';
import type { IdCore } from './id-core.ts';

/** What can be set of an id; each also by a method of its own. */
export interface CmOptions {
  /** Type of service (IPv4) or traffic class (IPv6), 0 … 255, before the route is resolved. */
  readonly tos?: number;
  /** Other ids may bind to the same address, if they say so too and do not listen. */
  readonly reuseAddr?: boolean;
  /** An id that is bound to '::' takes no IPv4 requests. */
  readonly afOnly?: boolean;
  /**
   * How long the device waits for an acknowledgement before it sends again: 4.096 µs · 2^n, n = 0 … 31; 0 is for ever. Before
   * the connection is made; port space TCP on InfiniBand and RoCE.
   */
  readonly ackTimeout?: number;
}

/** enum of the level RDMA_OPTION_ID */
const names = { tos: 0, reuseAddr: 1, afOnly: 2, ackTimeout: 3 } as const;

function set(core: IdCore, name: keyof typeof names, value: number): void {
  addon.setOption(core.handle, names[name], value);
}

function checkFlag(name: string, value: unknown): asserts value is boolean {
  if (typeof value === 'boolean') return;
  throw invalidArgument('ERR_INVALID_ARG_TYPE', `${name} must be a boolean, not ${String(value)}`);
}

/** @internal */
export function setTos(core: IdCore, tos: number): void {
  checkInteger('tos', tos, 0, 255);
  core.require('rdma_set_option', ['idle', 'bound', 'addrResolved']);
  set(core, 'tos', tos);
}

/** @internal */
export function setReuseAddr(core: IdCore, reuseAddr: boolean): void {
  checkFlag('reuseAddr', reuseAddr);
  core.require('rdma_set_option', reuseAddr ? ['idle', 'bound'] : ['idle']);
  set(core, 'reuseAddr', reuseAddr ? 1 : 0);
}

/** @internal */
export function setAfOnly(core: IdCore, afOnly: boolean): void {
  checkFlag('afOnly', afOnly);
  core.require('rdma_set_option', ['idle', 'bound']);
  set(core, 'afOnly', afOnly ? 1 : 0);
}

/** @internal */
export function setAckTimeout(core: IdCore, ackTimeout: number): void {
  checkInteger('ackTimeout', ackTimeout, 0, 31);
  if (core.portSpace !== 'TCP') {
    throw invalidArgument(
      'ERR_INVALID_ARG_VALUE',
      `ackTimeout has no meaning in the port space ${core.portSpace}: datagrams are not acknowledged`,
    );
  }
  core.require('rdma_set_option', ['idle', 'bound', 'addrResolved', 'routeResolved', 'requested']);
  set(core, 'ackTimeout', ackTimeout);
}

/** Sets what [options] has. @internal */
export function applyOptions(core: IdCore, options: CmOptions): void {
  if (options.tos !== undefined) setTos(core, options.tos);
  if (options.reuseAddr !== undefined) setReuseAddr(core, options.reuseAddr);
  if (options.afOnly !== undefined) setAfOnly(core, options.afOnly);
  if (options.ackTimeout !== undefined) setAckTimeout(core, options.ackTimeout);
}

/** @internal */
export function setLocalEce(core: IdCore, { vendorId, options }: Ece): void {
  checkInteger('vendorId', vendorId, 1, 0xffff_ffff);
  checkInteger('options', options, 0, 0xffff_ffff);
  core.require('rdma_set_local_ece', ['idle', 'bound', 'addrResolved', 'routeResolved', 'requested']);
  addon.setLocalEce(core.handle, vendorId, options);
}

/** @internal */
export function getRemoteEce(core: IdCore): Ece {
  core.require('rdma_get_remote_ece', ['requested', 'responded', 'connected']);
  return addon.getRemoteEce(core.handle);
}
