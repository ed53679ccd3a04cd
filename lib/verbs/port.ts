/** Ports of a device, their GIDs and partition keys. */
import type { NativeGid } from '../addon.ts';
import { type PortState, portStates } from './constants.ts';
import { formatGid } from './gid.ts';

/** States of a port's physical link, by number (IBTA, PortInfo.PortPhysicalState). */
const physStates = {
  1: 'SLEEP',
  2: 'POLLING',
  3: 'DISABLED',
  4: 'PORT_CONFIGURATION_TRAINING',
  5: 'LINK_UP',
  6: 'LINK_ERROR_RECOVERY',
  7: 'PHY_TEST',
} as const;

/** State of a port's physical link. */
export type PhysState = (typeof physStates)[keyof typeof physStates] | 'UNKNOWN';

/** Lanes, by the number of the width. */
const widths: Readonly<Record<number, number>> = { 1: 1, 2: 4, 4: 8, 8: 12, 16: 2 };

/** Name and nominal Gb/s of a lane, by the number of the speed (kernel core/sysfs.c rate_show). */
const speeds: Readonly<Record<number, readonly [name: LinkSpeed, gbps: number]>> = {
  1: ['SDR', 2.5],
  2: ['DDR', 5],
  4: ['QDR', 10],
  8: ['FDR10', 10],
  16: ['FDR', 14],
  32: ['EDR', 25],
  64: ['HDR', 50],
  128: ['NDR', 100],
};

/** Signalling of a lane. */
export type LinkSpeed = 'SDR' | 'DDR' | 'QDR' | 'FDR10' | 'FDR' | 'EDR' | 'HDR' | 'NDR' | 'UNKNOWN';

/** Link layer of a port. */
export type LinkLayer = 'InfiniBand' | 'Ethernet' | 'unspecified';

/** Bits of {@link PortAttr.portCapFlags} (enum ibv_port_cap_flags). */
export const PortCapFlags = {
  SM: 1 << 1,
  NOTICE_SUP: 1 << 2,
  TRAP_SUP: 1 << 3,
  OPT_IPD_SUP: 1 << 4,
  AUTO_MIGR_SUP: 1 << 5,
  SL_MAP_SUP: 1 << 6,
  MKEY_NVRAM: 1 << 7,
  PKEY_NVRAM: 1 << 8,
  LED_INFO_SUP: 1 << 9,
  SYS_IMAGE_GUID_SUP: 1 << 11,
  PKEY_SW_EXT_PORT_TRAP_SUP: 1 << 12,
  EXTENDED_SPEEDS_SUP: 1 << 14,
  CAP_MASK2_SUP: 1 << 15,
  CM_SUP: 1 << 16,
  SNMP_TUNNEL_SUP: 1 << 17,
  REINIT_SUP: 1 << 18,
  DEVICE_MGMT_SUP: 1 << 19,
  VENDOR_CLASS_SUP: 1 << 20,
  DR_NOTICE_SUP: 1 << 21,
  CAP_MASK_NOTICE_SUP: 1 << 22,
  BOOT_MGMT_SUP: 1 << 23,
  LINK_LATENCY_SUP: 1 << 24,
  CLIENT_REG_SUP: 1 << 25,
  IP_BASED_GIDS: 1 << 26,
} as const;

/** A port of a device (struct ibv_port_attr, ibv_query_port(3)). */
export interface PortAttr {
  readonly state: PortState;
  readonly physState: PhysState;
  /** Bytes. */
  readonly activeMtu: number;
  /** Bytes. */
  readonly maxMtu: number;
  /** Longest message, in bytes. */
  readonly maxMsgSz: number;
  readonly linkLayer: LinkLayer;
  /** Lanes; 0 when the port does not say. */
  readonly activeWidth: number;
  readonly activeSpeed: LinkSpeed;
  /** Nominal rate of all lanes, Gb/s; 0 when the port does not say. Soft devices make it up. */
  readonly rate: number;
  /** Packets need a global routing header, as on RoCE: address handles must have one. */
  readonly grhRequired: boolean;
  readonly gidTblLen: number;
  readonly pkeyTblLen: number;
  /** Of {@link PortCapFlags}. */
  readonly portCapFlags: number;
  /** enum ibv_port_cap_flags2 */
  readonly portCapFlags2: number;
  readonly badPkeyCntr: number;
  readonly qkeyViolCntr: number;
  /** Local identifier; InfiniBand only. */
  readonly lid: number;
  /** Lower bits of the LID that routes may choose. */
  readonly lmc: number;
  /** LID of the subnet manager. */
  readonly smLid: number;
  /** Service level of the subnet manager. */
  readonly smSl: number;
  /** Virtual lanes, as encoded in PortInfo.VLCap. */
  readonly maxVlNum: number;
  /** The subnet's longest propagation: 4.096 µs * 2^n. */
  readonly subnetTimeout: number;
  readonly initTypeReply: number;
}

/** Of a GID: native InfiniBand (and iWARP, which has one entry), RoCE over Ethernet frames, or RoCE over UDP. */
export type GidType = 'IB' | 'RoCE v1' | 'RoCE v2';

const gidTypes: readonly GidType[] = ['IB', 'RoCE v1', 'RoCE v2'];

/** An entry of a port's GID table (struct ibv_gid_entry, ibv_query_gid_ex(3)). */
export interface GidEntry {
  readonly port: number;
  readonly index: number;
  /** 16 bytes. */
  readonly gid: Uint8Array;
  /** As an IPv6 address: 'fe80::1', '::ffff:10.0.1.1'. */
  readonly text: string;
  readonly type: GidType;
  /** The netdev of the entry; undefined on InfiniBand, and when it is in another network namespace. */
  readonly netdev: string | undefined;
}

const QPF_GRH_REQUIRED = 1;
const MTU_UNIT = 128;

/** @internal */
export function portAttr(native: Record<string, number>): PortAttr {
  const { state, physState, activeMtu, maxMtu, linkLayer, activeWidth, activeSpeed, flags, ...rest } =
    native as Record<string, number> & Record<NativeField, number>;
  const lanes = widths[activeWidth] ?? 0;
  const [speed, gbps] = speeds[activeSpeed] ?? (['UNKNOWN', 0] as const);
  return {
    ...(rest as unknown as PortAttr),
    state: portStates[state] ?? 'UNKNOWN',
    physState: physStates[physState as keyof typeof physStates] ?? 'UNKNOWN',
    activeMtu: MTU_UNIT << activeMtu,
    maxMtu: MTU_UNIT << maxMtu,
    linkLayer: (['unspecified', 'InfiniBand', 'Ethernet'] as const)[linkLayer] ?? 'unspecified',
    activeWidth: lanes,
    activeSpeed: speed,
    rate: lanes * gbps,
    grhRequired: (flags & QPF_GRH_REQUIRED) !== 0,
  };
}

type NativeField =
  | 'state'
  | 'physState'
  | 'activeMtu'
  | 'maxMtu'
  | 'linkLayer'
  | 'activeWidth'
  | 'activeSpeed'
  | 'flags';

/** @internal */
export function gidEntry(native: NativeGid): GidEntry {
  const { netdev, type, ...rest } = native;
  return {
    ...rest,
    text: formatGid(native.gid),
    type: gidTypes[type] ?? 'IB',
    netdev: netdev === '' ? undefined : netdev,
  };
}
