/** Attributes of a device (ibv_query_device(3), ibv_query_device_ex(3)). */

/** How atomic RDMA operations are atomic: not there, among this device's queue pairs, or also with the processor's. */
export type AtomicCap = 'none' | 'hca' | 'glob';

/** By number (enum ibv_atomic_cap). @internal */
export const atomicCaps: readonly AtomicCap[] = ['none', 'hca', 'glob'];

/** Limits of a device (struct ibv_device_attr, ibv_query_device(3)). */
export interface DeviceAttr {
  /** Version of the firmware; '0.0.0' for a soft device. */
  readonly fwVer: string;
  readonly nodeGuid: bigint;
  readonly sysImageGuid: bigint;
  /** IEEE OUI of the vendor. */
  readonly vendorId: number;
  readonly vendorPartId: number;
  readonly hwVer: number;
  readonly physPortCnt: number;
  /** Of {@link DeviceCapFlags}. */
  readonly deviceCapFlags: number;
  /** Bytes; a double, since some devices say 2^64 - 1. */
  readonly maxMrSize: number;
  /** Page sizes that memory regions can be made of: bit n is 2^n bytes. */
  readonly pageSizeCap: bigint;
  readonly maxQp: number;
  /** Work requests of one queue. */
  readonly maxQpWr: number;
  readonly maxSge: number;
  /** SGEs of an RDMA READ's sink. */
  readonly maxSgeRd: number;
  readonly maxCq: number;
  /** Entries of one completion queue. */
  readonly maxCqe: number;
  readonly maxMr: number;
  readonly maxPd: number;
  /** RDMA READs and atomics in flight on one queue pair, as their target. */
  readonly maxQpRdAtom: number;
  /** RDMA READs and atomics in flight as their target, on all queue pairs together. */
  readonly maxResRdAtom: number;
  /** RDMA READs and atomics in flight on one queue pair, as their initiator. */
  readonly maxQpInitRdAtom: number;
  readonly atomicCap: AtomicCap;
  /** Memory windows. */
  readonly maxMw: number;
  readonly maxRawIpv6Qp: number;
  readonly maxRawEthyQp: number;
  /** Multicast groups. */
  readonly maxMcastGrp: number;
  /** Queue pairs of one multicast group. */
  readonly maxMcastQpAttach: number;
  readonly maxTotalMcastQpAttach: number;
  /** Address handles. */
  readonly maxAh: number;
  readonly maxSrq: number;
  /** Work requests of one shared receive queue. */
  readonly maxSrqWr: number;
  /** SGEs of a receive of a shared receive queue. */
  readonly maxSrqSge: number;
  readonly maxPkeys: number;
  /** The longest that the device takes to acknowledge: 4.096 µs * 2^n. */
  readonly localCaAckDelay: number;
}

/** Which operations may use memory that pages in on demand: bits SEND 1, RECV 2, WRITE 4, READ 8, ATOMIC 16, SRQ_RECV 32. */
export interface OdpCaps {
  /** 1: on-demand paging is there; 2: implicit too. */
  readonly general: number;
  readonly rc: number;
  readonly uc: number;
  readonly ud: number;
  readonly xrc: number;
}

/** What ibv_query_device_ex(3) adds (struct ibv_device_attr_ex). All 0 where the provider has no more to tell. */
export interface DeviceAttrEx {
  /** Of {@link DeviceCapFlags}; the lower 32 bits are those of {@link DeviceAttr.deviceCapFlags}. */
  readonly deviceCapFlagsEx: bigint;
  /** Bits of a completion's timestamp that are valid; 0n without timestamps. */
  readonly completionTimestampMask: bigint;
  /** Frequency of the device's clock, kHz; 0 without one. */
  readonly hcaCoreClock: number;
  /** Work queues of type RQ (ibv_create_wq(3)). */
  readonly maxWqTypeRq: number;
  /** CVLAN_STRIPPING 1, SCATTER_FCS 2, IP_CSUM 4, DELAY_DROP 8. */
  readonly rawPacketCaps: number;
  /** Bytes of device memory (ibv_alloc_dm(3)). */
  readonly maxDmSize: number;
  /** 0 where {@link DeviceAttr.physPortCnt} says it. */
  readonly physPortCntEx: number;
  readonly odpCaps: OdpCaps;
  /** TCP segmentation: bytes, and a bit 1 << enum ibv_qp_type for each type of queue pair that has it. */
  readonly tsoCaps: { readonly maxTso: number; readonly supportedQpts: number };
  readonly rssCaps: {
    readonly supportedQpts: number;
    readonly maxRwqIndirectionTables: number;
    readonly maxRwqIndirectionTableSize: number;
    /** enum ibv_rx_hash_fields */
    readonly rxHashFieldsMask: bigint;
    /** enum ibv_rx_hash_function_flags */
    readonly rxHashFunction: number;
  };
  /** kbit/s */
  readonly packetPacingCaps: {
    readonly qpRateLimitMin: number;
    readonly qpRateLimitMax: number;
    readonly supportedQpts: number;
  };
  /** Tag matching (ibv_post_srq_ops(3)). */
  readonly tmCaps: {
    readonly maxRndvHdrSize: number;
    readonly maxNumTags: number;
    readonly flags: number;
    readonly maxOps: number;
    readonly maxSge: number;
  };
  /** Completions, and microseconds, that an event can be put off for (ibv_modify_cq(3)). */
  readonly cqModCaps: { readonly maxCqCount: number; readonly maxCqPeriod: number };
  /** Operand sizes of atomics over PCIe: 4 bytes 1, 8 bytes 2, 16 bytes 4. */
  readonly pciAtomicCaps: { readonly fetchAdd: number; readonly swap: number; readonly compareSwap: number };
}

/** Bits of {@link DeviceAttrEx.deviceCapFlagsEx} (enum ibv_device_cap_flags, enum ib_uverbs_device_cap_flags). */
export const DeviceCapFlags = {
  RESIZE_MAX_WR: 1n << 0n,
  BAD_PKEY_CNTR: 1n << 1n,
  BAD_QKEY_CNTR: 1n << 2n,
  RAW_MULTI: 1n << 3n,
  AUTO_PATH_MIG: 1n << 4n,
  CHANGE_PHY_PORT: 1n << 5n,
  UD_AV_PORT_ENFORCE: 1n << 6n,
  CURR_QP_STATE_MOD: 1n << 7n,
  SHUTDOWN_PORT: 1n << 8n,
  PORT_ACTIVE_EVENT: 1n << 10n,
  SYS_IMAGE_GUID: 1n << 11n,
  RC_RNR_NAK_GEN: 1n << 12n,
  SRQ_RESIZE: 1n << 13n,
  N_NOTIFY_CQ: 1n << 14n,
  MEM_WINDOW: 1n << 17n,
  UD_IP_CSUM: 1n << 18n,
  XRC: 1n << 20n,
  MEM_MGT_EXTENSIONS: 1n << 21n,
  MEM_WINDOW_TYPE_2A: 1n << 23n,
  MEM_WINDOW_TYPE_2B: 1n << 24n,
  RC_IP_CSUM: 1n << 25n,
  RAW_IP_CSUM: 1n << 26n,
  MANAGED_FLOW_STEERING: 1n << 29n,
  RAW_SCATTER_FCS: 1n << 34n,
  PCI_WRITE_END_PADDING: 1n << 36n,
  FLUSH_GLOBAL: 1n << 38n,
  FLUSH_PERSISTENT: 1n << 39n,
  ATOMIC_WRITE: 1n << 40n,
} as const;

/** 'xxxx:xxxx:xxxx:xxxx', as sysfs and ibv_devinfo(1) write a GUID. */
export function formatGuid(guid: bigint): string {
  return BigInt.asUintN(64, guid)
    .toString(16)
    .padStart(16, '0')
    .replace(/(.{4})(?=.)/g, '$1:');
}
