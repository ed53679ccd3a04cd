/** What a queue pair tells of itself (ibv_query_qp(3)). */
import type { NativeQpAttr, NativeQpQuery } from '../addon.ts';
import type { AhAttrInfo } from './ah-attr.ts';
import { type QpState, qpStates } from './constants.ts';
import type { Device } from './device.ts';
import { type PathMigState, pathMigStates } from './qp-attr.ts';

/**
 * Attributes of a queue pair, named as in {@link QpAttr}. Those that its state or type does not have yet are what the
 * provider made of them, mostly 0; siw knows only those that are not optional here.
 */
export interface QpInfo {
  readonly state: QpState;
  /** Bytes; undefined before there is a path. */
  readonly pathMtu: number | undefined;
  readonly accessFlags: number;
  readonly maxRdAtomic: number;
  readonly maxDestRdAtomic: number;
  readonly cap: {
    readonly maxSendWr: number;
    readonly maxRecvWr: number;
    readonly maxSendSge: number;
    readonly maxRecvSge: number;
    /** Bytes. */
    readonly maxInlineData: number;
  };
  readonly curState?: QpState;
  readonly pathMigState?: PathMigState;
  readonly qkey?: number;
  /** The next packet that is expected of the peer. */
  readonly rqPsn?: number;
  /** The next packet to the peer. */
  readonly sqPsn?: number;
  readonly destQpNum?: number;
  readonly ahAttr?: AhAttrInfo;
  readonly altAhAttr?: AhAttrInfo;
  readonly pkeyIndex?: number;
  readonly altPkeyIndex?: number;
  readonly enSqdAsyncNotify?: boolean;
  /** The send queue is still draining, on the way to SQD. */
  readonly sqDraining?: boolean;
  readonly minRnrTimer?: number;
  readonly port?: number;
  readonly timeout?: number;
  readonly retryCnt?: number;
  readonly rnrRetry?: number;
  readonly altPort?: number;
  readonly altTimeout?: number;
  readonly rateLimit?: number;
}

function stateName(number: number): QpState {
  return qpStates[number] ?? 'UNKNOWN';
}

/** @internal */
export function qpInfo(native: Required<NativeQpAttr> & NativeQpQuery, device: Device): QpInfo {
  const { maxSendWr, maxRecvWr, maxSendSge, maxRecvSge, maxInlineData, ...attr } = native;
  const known: QpInfo = {
    state: stateName(attr.state),
    pathMtu: attr.pathMtu === 0 ? undefined : 128 << attr.pathMtu,
    accessFlags: attr.accessFlags,
    maxRdAtomic: attr.maxRdAtomic,
    maxDestRdAtomic: attr.maxDestRdAtomic,
    cap: { maxSendWr, maxRecvWr, maxSendSge, maxRecvSge, maxInlineData },
  };
  if (device.quirks.some(({ name }) => name === 'partial-query')) {
    return { ...known, maxRdAtomic: attr.maxDestRdAtomic, maxDestRdAtomic: attr.maxRdAtomic };
  }
  return {
    ...attr,
    ...known,
    curState: stateName(attr.curState),
    pathMigState: pathMigStates[attr.pathMigState] ?? 'MIGRATED',
    enSqdAsyncNotify: attr.enSqdAsyncNotify !== 0,
    sqDraining: attr.sqDraining !== 0,
  };
}
