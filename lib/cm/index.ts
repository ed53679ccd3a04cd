/** librdmacm, one file per noun. */
export type { Address } from './address.ts';
export { type AddrInfo, type AddrInfoHints, getaddrinfo } from './addrinfo.ts';
export { CmId, type CmIdOptions, createId } from './cm-id.ts';
export type { ConnectReply, NotifiableEvent } from './connect.ts';
export { defaultEventChannel, EventChannel } from './event-channel.ts';
export type {
  CmEvent,
  CmEventName,
  ConnEventParam,
  ConnectionEvent,
  MulticastEvent,
  PlainEvent,
  UdParam,
} from './events.ts';
export type { CmIdState } from './id-core.ts';
export { type JoinOptions, MulticastGroup } from './multicast.ts';
export type { CmOptions } from './options.ts';
export type { ConnectRequest, ConnParam, PortSpace, QpInit } from './params.ts';
export type { AwaitOptions } from './pending.ts';
export type { CmQpState } from './qp-attr.ts';
export type { ResolveAddrOptions } from './resolve.ts';
