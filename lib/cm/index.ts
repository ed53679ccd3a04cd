/** librdmacm, one file per noun. */
export {
  type Address,
  type AwaitOptions,
  type CmEventName,
  CmId,
  type ConnectRequest,
  type ConnParam,
  type QpInit,
} from './cm-id.ts';
