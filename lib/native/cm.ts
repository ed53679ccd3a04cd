/** What the addon exports for rdma_cm. Handles are 31-bit numbers that name native objects of this thread. */

/** @internal */
export interface CmAddon {
  createEventChannel(callback: NativeCmCallback): number;
  refEventChannel(channel: number, ref: boolean): void;
  createId(channel: number): number;
  bindAddr(id: number, host: string, port: number): void;
  listen(id: number, backlog: number): void;
  resolveAddr(
    id: number,
    host: string,
    port: number,
    timeoutMs: number,
    sourceHost: string | undefined,
    sourcePort: number,
  ): void;
  resolveRoute(id: number, timeoutMs: number): void;
  connect(id: number, ...param: NativeConnParam): Promise<void>;
  accept(id: number, ...param: NativeConnParam): void;
  reject(id: number, privateData: Uint8Array): void;
  disconnect(id: number): void;
  describeId(id: number): { device: string; local?: NativeAddress; peer?: NativeAddress };
}

/** @internal */
export interface NativeAddress {
  host: string;
  port: number;
  family: 'IPv4' | 'IPv6';
}

/** privateData, responderResources, initiatorDepth, flowControl, retryCount, rnrRetryCount. @internal */
export type NativeConnParam = [Uint8Array, number, number, number, number, number];

/** @internal */
export type NativeCmCallback = (
  type: number,
  status: number,
  id: number,
  listener: number,
  privateData: Buffer,
  responderResources: number,
  initiatorDepth: number,
) => void;
