/** Attributes of queue pairs (struct ibv_qp_attr, ibv_modify_qp(3)), checked, and encoded for the addon. */
import type { NativeQpAttr } from '../addon.ts';
import { invalidArgument, RdmaError } from '../errors.ts';
import { type AhAttr, checkAhAttr } from './ah-attr.ts';
import { checkInteger } from './check.ts';
import { Access, qpStates } from './constants.ts';
import type { Device } from './device.ts';
import type { QpTargetState } from './qp-state.ts';

/** Names by number (enum ibv_mig_state). @internal */
export const pathMigStates = ['MIGRATED', 'REARM', 'ARMED'] as const;

/** State of path migration. */
export type PathMigState = (typeof pathMigStates)[number];

/**
 * What {@link QueuePair.modify} can set. Which of it a transition needs and takes depends on the type of the queue pair.
 */
export interface QpAttr {
  /** The state to go to; that in which the queue pair is when it is absent. */
  readonly state?: QpTargetState;
  /** The state in which it is taken to be; an error when it is in another. */
  readonly curState?: 'RTR' | 'RTS' | 'SQD' | 'SQE';
  /** Index into the port's table of partition keys. */
  readonly pkeyIndex?: number;
  /** The local port. */
  readonly port?: number;
  /** Of {@link Access}: what the peer may do (connected types). */
  readonly accessFlags?: number;
  /** Key that datagrams must carry (UD): 32 bits; with bit 31 set it needs CAP_NET_RAW. */
  readonly qkey?: number;
  /** The path to the peer. */
  readonly ahAttr?: AhAttr;
  /** Bytes of a packet's payload: 256, 512, 1024, 2048 or 4096, at most the port's activeMtu. */
  readonly pathMtu?: number;
  /** The peer's queue pair: 24 bits. */
  readonly destQpNum?: number;
  /** First packet sequence number from the peer: 24 bits. */
  readonly rqPsn?: number;
  /** First packet sequence number to the peer: 24 bits. */
  readonly sqPsn?: number;
  /** RDMA READs and atomics that the peer may have in flight; 0 … device.attr.maxQpRdAtom. */
  readonly maxDestRdAtomic?: number;
  /** RDMA READs and atomics in flight to the peer; 0 … device.attr.maxQpInitRdAtom. */
  readonly maxRdAtomic?: number;
  /** How long a peer waits after "receiver not ready": 0 = 655 ms, 1 = 0.01 ms … 12 = 0.64 ms … 31 = 491 ms. */
  readonly minRnrTimer?: number;
  /** Time to wait for an answer: 4.096 µs · 2^timeout, 0 … 31; 0 = for ever. */
  readonly timeout?: number;
  /** Retransmissions, 0 … 7. */
  readonly retryCnt?: number;
  /** Retries when the peer has no receive posted, 0 … 7; 7 = for ever. */
  readonly rnrRetry?: number;
  /** The alternate path, with the three attributes that follow; on InfiniBand only. */
  readonly altAhAttr?: AhAttr;
  readonly altPkeyIndex?: number;
  /** That of altAhAttr by default. */
  readonly altPort?: number;
  readonly altTimeout?: number;
  readonly pathMigState?: PathMigState;
  /** An event SQ_DRAINED when the send queue is drained, on the way to SQD. */
  readonly enSqdAsyncNotify?: boolean;
  /** kbit/s, of a RAW_PACKET queue pair that has it. */
  readonly rateLimit?: number;
}

/** Bits of enum ibv_qp_attr_mask. The capabilities (bit 19) can not be modified in any transition. */
const bits = {
  state: 1 << 0,
  curState: 1 << 1,
  enSqdAsyncNotify: 1 << 2,
  accessFlags: 1 << 3,
  pkeyIndex: 1 << 4,
  port: 1 << 5,
  qkey: 1 << 6,
  ahAttr: 1 << 7,
  pathMtu: 1 << 8,
  timeout: 1 << 9,
  retryCnt: 1 << 10,
  rnrRetry: 1 << 11,
  rqPsn: 1 << 12,
  maxRdAtomic: 1 << 13,
  altAhAttr: 1 << 14,
  minRnrTimer: 1 << 15,
  sqPsn: 1 << 16,
  maxDestRdAtomic: 1 << 17,
  pathMigState: 1 << 18,
  destQpNum: 1 << 20,
  rateLimit: 1 << 25,
} as const;

/** An attribute with a bit of its own. @internal */
export type QpAttrName = keyof typeof bits;

/** What only goes along with altAhAttr. */
const alternates: readonly string[] = ['altPkeyIndex', 'altPort', 'altTimeout'];

const PSN_MAX = 0xff_ffff;
const KNOWN_ACCESS = Object.values(Access).reduce<number>((all, flag) => all | flag, 0);

/** Number of a state that can be asked for. @internal */
export function stateNumber(name: string, state: unknown): number {
  const number = qpStates.indexOf(state as (typeof qpStates)[number]);
  if (number < 0) {
    throw invalidArgument(
      'ERR_INVALID_ARG_VALUE',
      `${name} must be one of ${qpStates.join(', ')}, not ${String(state)}`,
    );
  }
  return number;
}

/** The attributes that [attr] sets, by name. @throws RdmaError for one that there is not @internal */
export function attrNames(attr: QpAttr): QpAttrName[] {
  const names: QpAttrName[] = [];
  for (const [name, value] of Object.entries(attr)) {
    if (value === undefined) continue;
    if (Object.hasOwn(bits, name)) {
      names.push(name as QpAttrName);
    } else if (!alternates.includes(name)) {
      throw invalidArgument(
        'ERR_INVALID_ARG_VALUE',
        `${name} is not an attribute that can be modified (QpAttr)`,
      );
    } else if (attr.altAhAttr === undefined) {
      throw invalidArgument(
        'ERR_INVALID_ARG_VALUE',
        `${name} needs altAhAttr, the alternate path that it is about`,
      );
    }
  }
  return names;
}

/** The bits of [names] (enum ibv_qp_attr_mask). @internal */
export function attrMask(names: readonly QpAttrName[]): number {
  return names.reduce((mask, name) => mask | bits[name], 0);
}

function mtuNumber(mtu: unknown, activeMtu: number): number {
  const number = [256, 512, 1024, 2048, 4096].indexOf(mtu as number) + 1;
  if (number === 0) {
    throw invalidArgument(
      'ERR_INVALID_ARG_VALUE',
      `pathMtu must be 256, 512, 1024, 2048 or 4096 bytes, not ${String(mtu)}`,
    );
  }
  if ((mtu as number) > activeMtu) {
    throw invalidArgument(
      'ERR_OUT_OF_RANGE',
      `pathMtu ${String(mtu)} is more than the port's activeMtu of ${activeMtu} bytes`,
    );
  }
  return number;
}

function accessBits(access: unknown): number {
  checkInteger('accessFlags', access, 0, 0xffff_ffff);
  if ((access & ~KNOWN_ACCESS) !== 0) {
    throw invalidArgument(
      'ERR_INVALID_ARG_VALUE',
      `accessFlags 0x${access.toString(16)} has flags that are not in Access`,
    );
  }
  return access;
}

function migNumber(state: unknown): number {
  const number = pathMigStates.indexOf(state as PathMigState);
  if (number < 0) {
    throw invalidArgument(
      'ERR_INVALID_ARG_VALUE',
      `pathMigState must be one of ${pathMigStates.join(', ')}, not ${String(state)}`,
    );
  }
  return number;
}

type Ranges = Readonly<Partial<Record<keyof QpAttr, number>>>;

/** Upper limits of the plain numbers; 0 is the lower one, 1 of ports. */
function ranges({ attr }: Device): Ranges {
  return {
    port: attr.physPortCnt,
    altPort: attr.physPortCnt,
    qkey: 0xffff_ffff,
    destQpNum: PSN_MAX,
    rqPsn: PSN_MAX,
    sqPsn: PSN_MAX,
    maxDestRdAtomic: Math.min(255, attr.maxQpRdAtom),
    maxRdAtomic: Math.min(255, attr.maxQpInitRdAtom),
    minRnrTimer: 31,
    timeout: 31,
    altTimeout: 31,
    retryCnt: 7,
    rnrRetry: 7,
    rateLimit: 0xffff_ffff,
  };
}

/**
 * [attr] as the addon wants it.
 *
 * @param port the port that the queue pair has, or will have
 * @throws RdmaError when a value is out of its range
 * @internal
 */
export function encodeAttr(attr: QpAttr, device: Device, port: number): NativeQpAttr {
  const native: NativeQpAttr = {};
  for (const [name, max] of Object.entries(ranges(device)) as [keyof Ranges & keyof NativeQpAttr, number][]) {
    const value = attr[name];
    if (value === undefined) continue;
    checkInteger(name, value, name === 'port' || name === 'altPort' ? 1 : 0, max);
    (native as Record<string, number>)[name] = value;
  }
  for (const [name, at] of [
    ['pkeyIndex', port],
    ['altPkeyIndex', attr.altPort ?? port],
  ] as const) {
    const value = attr[name];
    if (value === undefined) continue;
    // siw has an empty table, and takes index 0 as all do.
    checkInteger(name, value, 0, Math.max(device.queryPort(at).pkeyTblLen, 1) - 1);
    native[name] = value;
  }
  if (attr.state !== undefined) native.state = stateNumber('state', attr.state);
  if (attr.curState !== undefined) native.curState = stateNumber('curState', attr.curState);
  if (attr.accessFlags !== undefined) native.accessFlags = accessBits(attr.accessFlags);
  if (attr.pathMigState !== undefined) native.pathMigState = migNumber(attr.pathMigState);
  if (attr.enSqdAsyncNotify !== undefined) native.enSqdAsyncNotify = attr.enSqdAsyncNotify ? 1 : 0;
  if (attr.ahAttr !== undefined) native.ahAttr = checkAhAttr('ahAttr', attr.ahAttr, device, port);
  if (attr.pathMtu !== undefined) {
    native.pathMtu = mtuNumber(attr.pathMtu, device.queryPort(native.ahAttr?.port ?? port).activeMtu);
  }
  if (attr.altAhAttr !== undefined) {
    if (device.queryPort(port).linkLayer === 'Ethernet') {
      throw new RdmaError(
        'EOPNOTSUPP',
        `altAhAttr: port ${port} of ${device.name} is an Ethernet port; alternate paths are InfiniBand's`,
        { device: device.name },
      );
    }
    native.altAhAttr = checkAhAttr('altAhAttr', attr.altAhAttr, device, attr.altPort ?? port);
    native.altPort ??= native.altAhAttr.port;
  }
  return native;
}
