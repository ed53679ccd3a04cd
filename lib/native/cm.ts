/** What the addon exports for rdma_cm. Handles are 31-bit numbers that name native objects of this thread. */
import type { NativeAhAttr } from './address-handle.ts';
import type { NativeQpAttr } from './queue-pair.ts';

/** @internal */
export interface CmAddon {
  createEventChannel(callback: NativeCmCallback): number;
  refEventChannel(channel: number, ref: boolean): void;
  createId(channel: number, portSpace: number): number;
  bindAddr(id: number, ...address: NativeHost): void;
  listen(id: number, backlog: number): void;
  resolveAddr(
    id: number,
    host: string,
    port: number,
    scopeId: number,
    timeoutMs: number,
    sourceHost: string | undefined,
    sourcePort: number,
    sourceScopeId: number,
  ): void;
  resolveRoute(id: number, timeoutMs: number): void;
  connect(id: number, ...param: NativeConnParam): Promise<void>;
  accept(id: number, ...param: NativeConnParam): void;
  reject(id: number, privateData: Uint8Array, ece?: boolean): void;
  establish(id: number): void;
  disconnect(id: number): void;
  notify(id: number, eventType: number): void;
  migrateId(id: number, channel: number): void;
  setOption(id: number, name: number, value: number): void;
  setLocalEce(id: number, vendorId: number, options: number): void;
  getRemoteEce(id: number): { vendorId: number; options: number };
  initQpAttr(id: number, state: number): NativeQpAttr;
  joinMulticast(
    id: number,
    token: number,
    host: string,
    port: number,
    scopeId: number,
    sendOnly: boolean,
  ): void;
  leaveMulticast(id: number, token: number): void;
  describeId(id: number): NativeIdDescription;
  getAddrInfo(
    node: string,
    service: string,
    flags: number,
    family: number,
    qpType: number,
    portSpace: number,
  ): Promise<NativeAddrInfo[]>;
}

/** host, port, scopeId. @internal */
export type NativeHost = [host: string, port: number, scopeId: number];

/** @internal */
export interface NativeAddress {
  host: string;
  port: number;
  family: 'IPv4' | 'IPv6';
  scopeId?: number;
}

/** @internal */
export interface NativeIdDescription {
  /** Empty before the id is bound to one, and so are the next four. */
  device: string;
  portNum?: number;
  gid?: string;
  peerGid?: string;
  pkey?: number;
  local?: NativeAddress;
  peer?: NativeAddress;
}

/** @internal */
export interface NativeAddrInfo {
  flags: number;
  family: number;
  qpType: number;
  portSpace: number;
  source?: NativeAddress;
  target?: NativeAddress;
  sourceName: string;
  targetName: string;
  route: Buffer;
  connectData: Buffer;
}

/**
 * privateData, responderResources, initiatorDepth, flowControl, retryCount, rnrRetryCount, qpNum, srq.
 *
 * @internal
 */
export type NativeConnParam = [Uint8Array, number, number, number, number, number, number, number];

/** Parameters of a connection, from an event. @internal */
export interface NativeConn {
  responderResources: number;
  initiatorDepth: number;
  flowControl: boolean;
  retryCount: number;
  rnrRetryCount: number;
  srq: boolean;
  qpNum: number;
}

/** @internal */
export interface NativeUd {
  ahAttr: NativeAhAttr;
  qpNum: number;
  qkey: number;
}

/** @internal */
export type NativeCmCallback = (
  type: number,
  status: number,
  id: number,
  listener: number,
  privateData: Buffer,
  param: NativeConn | NativeUd | undefined,
  group: number,
) => void;
