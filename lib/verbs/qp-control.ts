/** What is asked of a queue pair besides work: its state, its attributes, its groups. */
import { addon, type NativeQpAttr } from '../addon.ts';
import { invalidArgument } from '../errors.ts';
import { AsyncEventTarget, type QueuePairEvent } from './async-event.ts';
import { checkInteger } from './check.ts';
import type { Device } from './device.ts';
import { type Gid, gidText, isMulticastGid } from './gid.ts';
import type { ProtectionDomain } from './protection-domain.ts';
import type { QpAttr } from './qp-attr.ts';
import { type QpType, qpTypeName } from './qp-create.ts';
import { initDefaults, rtrDefaults, rtsDefaults } from './qp-defaults.ts';
import { planModify } from './qp-modify.ts';
import { type QpInfo, qpInfo } from './qp-query.ts';
import type { QpKnownState } from './qp-state.ts';

/** A created queue pair, from the addon. @internal */
export type NativeQp = ReturnType<typeof addon.createQp>;

/** Options of enhanced connection establishment (struct ibv_ece). */
export interface Ece {
  /** IEEE OUI of the provider. */
  readonly vendorId: number;
  readonly options: number;
  readonly compMask?: number;
}

/** The control path of {@link QueuePair}. */
export abstract class QueuePairControl extends AsyncEventTarget<QueuePairEvent> {
  readonly pd: ProtectionDomain;
  readonly type: QpType;
  readonly qpNum: number;
  readonly #port: number;

  /** @internal */
  constructor(native: NativeQp, pd: ProtectionDomain) {
    super('queue pair', native.handle);
    this.pd = pd;
    this.type = qpTypeName(native.send.type);
    this.qpNum = native.qpNum;
    this.#port = native.port;
  }

  get device(): Device {
    return this.pd.device;
  }

  abstract toError(): void;

  /** Takes note that sends work again. @internal */
  protected abstract _returnToRts(): void;

  /** Resets the queue pair and retires what was in flight. @internal */
  protected abstract _reset(handle: number, attr: NativeQpAttr, mask: number): void;

  /**
   * Changes the state or other attributes (ibv_modify_qp(3)). Which attributes a transition needs and takes is in
   * docs/verbs.md; the queue pairs of rdma_cm ids are brought up by connect and accept instead.
   *
   * RESET retires what is in flight with WR_FLUSH_ERR, after what has completed before; the queue pair can be used anew
   * then. On RoCE the kernel resolves the Ethernet address of `ahAttr` within the call, which takes up to a second when the
   * peer does not answer.
   *
   * @throws RdmaError before the kernel sees it: ERR_RDMA_STATE for a transition that there is not, naming those there are;
   *   ERR_INVALID_ARG_VALUE for a missing or surplus attribute, ERR_OUT_OF_RANGE for a value; EOPNOTSUPP on iWARP for all
   *   but ERR. EINVAL when the provider refuses it all the same
   */
  modify(attr: QpAttr): void {
    const handle = this._handle;
    const { state, port = 0 } = this.query();
    const target = {
      device: this.device,
      type: this.type,
      qpNum: this.qpNum,
      port,
      state: state as QpKnownState,
    };
    const plan = planModify(target, attr);
    if (attr.state === 'ERR') {
      this.toError();
    } else if (attr.state === 'RESET') {
      this._reset(handle, plan.attr, plan.mask);
    } else {
      addon.modifyQp(handle, plan.attr, plan.mask);
      if (attr.state === 'RTS') this._returnToRts();
    }
  }

  /** {@link modify} to INIT, with pkeyIndex 0, the port it was made for, and all access; UD needs a `qkey`. */
  toInit(attr: QpAttr = {}): void {
    this.modify({ ...initDefaults(this.type, this.#port), ...attr, state: 'INIT' });
  }

  /**
   * {@link modify} to RTR, with the port's MTU, rqPsn 0, 16 READs of the peer and a minRnrTimer of 0.64 ms; connected types
   * need `destQpNum` and `ahAttr`.
   */
  toRtr(attr: QpAttr = {}): void {
    this.modify({ ...rtrDefaults(this.type, this.device, this.#port), ...attr, state: 'RTR' });
  }

  /** {@link modify} to RTS, with a timeout of 67 ms, 6 retries of both kinds, sqPsn 0 and 16 READs to the peer. */
  toRts(attr: QpAttr = {}): void {
    this.modify({ ...rtsDefaults(this.type, this.device), ...attr, state: 'RTS' });
  }

  /** All attributes and capabilities (ibv_query_qp(3)). */
  query(): QpInfo {
    return qpInfo(addon.queryQp(this._handle), this.device);
  }

  /**
   * Options of enhanced connection establishment (ibv_query_ece(3)).
   *
   * @throws RdmaError EOPNOTSUPP when the provider has none
   */
  queryEce(): Ece {
    return addon.queryEce(this._handle);
  }

  /** Sets them, before INIT (ibv_set_ece(3)). @throws RdmaError EOPNOTSUPP when the provider has none */
  setEce(ece: Ece): void {
    const { vendorId, options, compMask = 0 } = ece;
    checkInteger('vendorId', vendorId, 1, 0xffff_ffff);
    checkInteger('options', options, 0, 0xffff_ffff);
    checkInteger('compMask', compMask, 0, 0xffff_ffff);
    addon.setEce(this._handle, vendorId, options, compMask);
  }

  /**
   * Whether the bytes of a message are written in order, for one of {@link Opcode} (ibv_query_qp_data_in_order(3)). False
   * where nobody knows.
   */
  queryDataInOrder(opcode: number): boolean {
    checkInteger('opcode', opcode, 0, 255);
    return addon.queryDataInOrder(this._handle, opcode, 0);
  }

  /**
   * Limits the rate of packets (ibv_modify_qp_rate_limit(3)).
   *
   * @param limit kbit/s, bytes of a burst, bytes of a typical packet; 0 lifts the limit
   * @throws RdmaError EOPNOTSUPP when the provider has none
   */
  modifyRateLimit(limit: { rateLimit: number; maxBurstSz?: number; typicalPktSz?: number }): void {
    const { rateLimit, maxBurstSz = 0, typicalPktSz = 0 } = limit;
    checkInteger('rateLimit', rateLimit, 0, 0xffff_ffff);
    checkInteger('maxBurstSz', maxBurstSz, 0, 0xffff_ffff);
    checkInteger('typicalPktSz', typicalPktSz, 0, 0xffff);
    addon.modifyRateLimit(this._handle, rateLimit, maxBurstSz, typicalPktSz);
  }

  /**
   * Receives the datagrams of a multicast group from now on (ibv_attach_mcast(3)); attaching twice is attaching once. On
   * InfiniBand the port must have joined the group, which rdma_cm does: {@link CmId.joinMulticast}. Closing detaches.
   *
   * @param gid of the group
   * @param lid of the group, on InfiniBand; RoCE ignores it
   * @throws RdmaError ERR_INVALID_ARG_VALUE when it is no UD queue pair, or no multicast GID
   */
  attachMcast(gid: Gid, lid = 0): void {
    addon.attachMcast(this._handle, this.#checkGroup(gid, lid), lid);
  }

  /** Ends {@link attachMcast} (ibv_detach_mcast(3)). @throws RdmaError EINVAL when it is not attached to the group */
  detachMcast(gid: Gid, lid = 0): void {
    addon.detachMcast(this._handle, this.#checkGroup(gid, lid), lid);
  }

  #checkGroup(gid: Gid, lid: number): string {
    checkInteger('lid', lid, 0, 0xffff);
    const text = gidText('gid', gid);
    if (this.type !== 'UD') {
      throw invalidArgument(
        'ERR_INVALID_ARG_VALUE',
        `only a UD queue pair has multicast groups, not ${this.type}`,
      );
    }
    if (!isMulticastGid(text)) {
      throw invalidArgument('ERR_INVALID_ARG_VALUE', `gid ${text} is not that of a multicast group`);
    }
    return text;
  }
}
