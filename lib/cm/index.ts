/** librdmacm, one file per noun. */
export { CmId } from './cm-id.ts';
export type { Address, CmEventName } from './events.ts';
export type { AwaitOptions, ConnectRequest, ConnParam, QpInit } from './params.ts';
