/** Attributes for the way from RESET to RTS that are the same for most. */
import { Access } from './constants.ts';
import type { Device } from './device.ts';
import type { QpAttr } from './qp-attr.ts';
import type { QpType } from './qp-create.ts';

/** RDMA READs in flight when nobody says otherwise. */
const READS = 16;

/** @internal */
export function initDefaults(type: QpType, port: number): QpAttr {
  if (type === 'RAW_PACKET') return { port };
  if (type === 'UD') return { pkeyIndex: 0, port };
  const { LOCAL_WRITE, REMOTE_WRITE, REMOTE_READ, REMOTE_ATOMIC } = Access;
  const reads = type === 'UC' ? 0 : REMOTE_READ | REMOTE_ATOMIC;
  return { pkeyIndex: 0, port, accessFlags: LOCAL_WRITE | REMOTE_WRITE | reads };
}

/** @internal */
export function rtrDefaults(type: QpType, device: Device, port: number): QpAttr {
  if (type === 'UD' || type === 'RAW_PACKET') return {};
  const path = { pathMtu: device.queryPort(port).activeMtu, rqPsn: 0 };
  if (type === 'UC' || type === 'XRC_SEND') return path;
  return { ...path, maxDestRdAtomic: Math.min(READS, device.attr.maxQpRdAtom), minRnrTimer: 12 };
}

/** @internal */
export function rtsDefaults(type: QpType, device: Device): QpAttr {
  if (type === 'RAW_PACKET') return {};
  if (type === 'UD' || type === 'UC') return { sqPsn: 0 };
  if (type === 'XRC_RECV') return { timeout: 14, sqPsn: 0 };
  // Finite retries: rxe takes 7 to mean for ever in both.
  const maxRdAtomic = Math.min(READS, device.attr.maxQpInitRdAtom);
  return { timeout: 14, retryCnt: 6, rnrRetry: 6, sqPsn: 0, maxRdAtomic };
}
