/** What a device can do. */
import { addon } from '../addon.ts';
import type { Device } from './device.ts';
import { type AtomicCap, DeviceCapFlags } from './device-attr.ts';
import { type QpType, qpTypes } from './qp-create.ts';

/** Operations that may use memory registered with ON_DEMAND, on one type of queue pair. */
export interface OdpOperations {
  readonly send: boolean;
  readonly recv: boolean;
  readonly write: boolean;
  readonly read: boolean;
  readonly atomic: boolean;
  readonly srqRecv: boolean;
  readonly flush: boolean;
  readonly atomicWrite: boolean;
}

/** On-demand paging (ibv_reg_mr(3), IBV_ACCESS_ON_DEMAND). */
export interface OdpCapability {
  /** Of a range. */
  readonly explicit: boolean;
  /** Of the whole address space. */
  readonly implicit: boolean;
  readonly rc: OdpOperations;
  readonly uc: OdpOperations;
  readonly ud: OdpOperations;
  readonly xrc: OdpOperations;
}

/** Types of memory windows (ibv_alloc_mw(3)). */
export interface MemoryWindowTypes {
  readonly type1: boolean;
  readonly type2A: boolean;
  readonly type2B: boolean;
}

/** Opcodes that capabilities are about (enum ibv_wr_opcode). */
const Op = {
  WRITE_WITH_IMM: 1,
  SEND_WITH_IMM: 3,
  LOCAL_INV: 7,
  SEND_WITH_INV: 9,
  FLUSH: 14,
  ATOMIC_WRITE: 15,
} as const;

function odpOperations(bits: number): OdpOperations {
  const has = (bit: number) => (bits & (1 << bit)) !== 0;
  return {
    send: has(0),
    recv: has(1),
    write: has(2),
    read: has(3),
    atomic: has(4),
    srqRecv: has(5),
    flush: has(6),
    atomicWrite: has(7),
  };
}

/**
 * What a device can do, so that nobody asks for its name. Each answer comes from the device's attributes where one tells, from
 * the provider's rules (native/core/providers) where libibverbs offers what the provider does not carry out, and else from a
 * trial: an object is made and destroyed at once. Trials are made at the first question and remembered; they need an open
 * device and can throw what creating an object throws (ENOMEM).
 */
export class DeviceCaps {
  readonly #device: Device;
  readonly #known = new Map<string, number>();

  /** @internal */
  constructor(device: Device) {
    this.#device = device;
  }

  /** How atomics are atomic. By attribute: atomicCap. */
  get atomics(): AtomicCap {
    return this.#device.attr.atomicCap;
  }

  /** ATOMIC_CMP_AND_SWP and ATOMIC_FETCH_AND_ADD. By attribute: atomicCap. */
  get hasAtomics(): boolean {
    return this.atomics !== 'none';
  }

  /** By attributes: maxMw and the flags MEM_WINDOW, MEM_WINDOW_TYPE_2A, MEM_WINDOW_TYPE_2B. */
  get memoryWindows(): MemoryWindowTypes {
    const some = this.#device.attr.maxMw > 0;
    return {
      type1: some && this.#flag('MEM_WINDOW'),
      type2A: some && this.#flag('MEM_WINDOW_TYPE_2A'),
      type2B: some && this.#flag('MEM_WINDOW_TYPE_2B'),
    };
  }

  /** By attribute: odpCaps. */
  get odp(): OdpCapability {
    const { general, rc, uc, ud, xrc } = this.#device.attrEx.odpCaps;
    return {
      explicit: (general & 1) !== 0,
      implicit: (general & 2) !== 0,
      rc: odpOperations(rc),
      uc: odpOperations(uc),
      ud: odpOperations(ud),
      xrc: odpOperations(xrc),
    };
  }

  /** Shared receive queues. By attribute: maxSrq. */
  get srq(): boolean {
    return this.#device.attr.maxSrq > 0;
  }

  /** ibv_modify_srq(3) with SRQ_MAX_WR. By attribute: the flag SRQ_RESIZE. */
  get srqResize(): boolean {
    return this.srq && this.#flag('SRQ_RESIZE');
  }

  /**
   * Whether queue pairs of [type] can be made. XRC by attribute, the flag XRC; the others by trial. RAW_PACKET is tried as this
   * process: without CAP_NET_RAW it is false.
   */
  qpType(type: QpType): boolean {
    if (type === 'XRC_SEND' || type === 'XRC_RECV') return this.#flag('XRC');
    return this.#try('qp', type) !== 0;
  }

  /** {@link qpType} for each. */
  get qpTypes(): Readonly<Record<QpType, boolean>> {
    const types = Object.keys(qpTypes) as QpType[];
    return Object.fromEntries(types.map((type) => [type, this.qpType(type)])) as Record<QpType, boolean>;
  }

  /**
   * Queue pairs can be connected by hand, by ibv_modify_qp(3); without it only by an rdma_cm id. By the transport: on iWARP the
   * connection is one of TCP.
   */
  get manualConnection(): boolean {
    return this.#device.transport !== 'iwarp';
  }

  /** SEND_WITH_IMM and RDMA_WRITE_WITH_IMM. By the provider's rules; iWARP has none (RFC 5040). */
  get immediateData(): boolean {
    return this.#opcode(Op.SEND_WITH_IMM) && this.#opcode(Op.WRITE_WITH_IMM);
  }

  /** SEND_WITH_INV. By attribute, the flag MEM_MGT_EXTENSIONS, and the provider's rules. */
  get sendWithInvalidate(): boolean {
    return this.#flag('MEM_MGT_EXTENSIONS') && this.#opcode(Op.SEND_WITH_INV);
  }

  /** LOCAL_INV of a type 2 memory window. By attribute, {@link memoryWindows}, and the provider's rules. */
  get localInvalidate(): boolean {
    const { type2A, type2B } = this.memoryWindows;
    return (type2A || type2B) && this.#opcode(Op.LOCAL_INV);
  }

  /**
   * FLUSH, to global visibility. By attribute, the flag FLUSH_GLOBAL; the provider's rules; and by trial: rdma-core has it since
   * version 45.
   */
  get flush(): boolean {
    return this.#flag('FLUSH_GLOBAL') && this.#opcode(Op.FLUSH) && this.#try('flush') !== 0;
  }

  /** FLUSH to persistence. As {@link flush}, with the flag FLUSH_PERSISTENT. */
  get flushPersistent(): boolean {
    return this.#flag('FLUSH_PERSISTENT') && this.#opcode(Op.FLUSH) && this.#try('flush') !== 0;
  }

  /** ATOMIC_WRITE. By attribute, the flag ATOMIC_WRITE; the provider's rules; and {@link extendedQp}. */
  get atomicWrite(): boolean {
    return this.#flag('ATOMIC_WRITE') && this.#opcode(Op.ATOMIC_WRITE) && this.extendedQp;
  }

  /** Queue pairs that are posted to by ibv_wr_post(3). By trial. */
  get extendedQp(): boolean {
    return this.#try('extendedQp') !== 0;
  }

  /** Enhanced connection establishment (ibv_query_ece(3)). By trial. */
  get ece(): boolean {
    return this.#try('ece') !== 0;
  }

  /** ibv_create_cq_ex(3). By trial. */
  get extendedCq(): boolean {
    return this.#try('extendedCq') !== 0;
  }

  /** Completions with the device's time. By attribute, completionTimestampMask, and a trial with ibv_create_cq_ex(3). */
  get completionTimestamps(): boolean {
    return this.#device.attrEx.completionTimestampMask !== 0n && this.#try('timestamps') !== 0;
  }

  /** {@link Device.queryRawClock}. By trial. */
  get deviceClock(): boolean {
    return this.#try('clock') !== 0;
  }

  /** ibv_modify_cq(3). By attribute: cqModCaps. */
  get cqModeration(): boolean {
    return this.#device.attrEx.cqModCaps.maxCqCount > 0;
  }

  /** ibv_resize_cq(3). By trial. */
  get cqResize(): boolean {
    return this.#try('cqResize') !== 0;
  }

  /** ibv_reg_dmabuf_mr(3). By trial. */
  get dmaBuf(): boolean {
    return this.#try('dmaBuf') !== 0;
  }

  /** ibv_rereg_mr(3). By trial. */
  get rereg(): boolean {
    return this.#try('rereg') !== 0;
  }

  /** ibv_attach_mcast(3). By attribute: maxMcastGrp. */
  get multicast(): boolean {
    return this.#device.attr.maxMcastGrp > 0;
  }

  /** ibv_alloc_dm(3). By attribute: maxDmSize. */
  get deviceMemory(): boolean {
    return this.#device.attrEx.maxDmSize > 0;
  }

  /** ibv_post_srq_ops(3). By attribute: tmCaps. */
  get tagMatching(): boolean {
    return this.#device.attrEx.tmCaps.maxNumTags > 0;
  }

  /** ibv_modify_qp_rate_limit(3). By attribute: packetPacingCaps. */
  get packetPacing(): boolean {
    return this.#device.attrEx.packetPacingCaps.qpRateLimitMax > 0;
  }

  /** The most inline bytes of a queue pair of [type] with one work request of one SGE; 0 for none. By trial. */
  maxInlineData(type: QpType = 'RC'): number {
    return this.qpType(type) ? this.#try('inline', type) : 0;
  }

  /** All of them, tried where needed; for tools and logs. */
  toJSON(): Readonly<Record<string, unknown>> {
    const names = Object.entries(Object.getOwnPropertyDescriptors(DeviceCaps.prototype))
      .filter(([, { get }]) => get !== undefined)
      .map(([name]) => name as keyof DeviceCaps);
    return {
      ...Object.fromEntries(names.map((name) => [name, this[name]])),
      maxInlineData: this.maxInlineData(),
    };
  }

  #flag(name: keyof typeof DeviceCapFlags): boolean {
    const { attr, attrEx } = this.#device;
    return ((BigInt(attr.deviceCapFlags) | attrEx.deviceCapFlagsEx) & DeviceCapFlags[name]) !== 0n;
  }

  #opcode(opcode: number): boolean {
    return (
      (this.#ask('opcodes', () => addon.deviceOpcodes(this.#device._handle, qpTypes.RC)) & (1 << opcode)) !==
      0
    );
  }

  #try(what: string, type: QpType = 'RC'): number {
    return this.#ask(`${what} ${type}`, () => addon.probeDevice(this.#device._handle, what, qpTypes[type]));
  }

  #ask(key: string, answer: () => number): number {
    let known = this.#known.get(key);
    if (known === undefined) {
      known = answer();
      this.#known.set(key, known);
    }
    return known;
  }
}
