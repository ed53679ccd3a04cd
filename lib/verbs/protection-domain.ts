import { addon } from '../addon.ts';
import { invalidArgument } from '../errors.ts';
import { checkAccess } from './access.ts';
import { type AddressHandle, createAh, createAhFromWc, type DatagramOrigin } from './address-handle.ts';
import { AddressWindow } from './address-window.ts';
import type { AhAttr } from './ah-attr.ts';
import { checkInteger } from './check.ts';
import { Access } from './constants.ts';
import type { Device } from './device.ts';
import { type DeviceMemory, type DmRange, regDmMr } from './device-memory.ts';
import { MemoryRegion, MemorySlab } from './memory-region.ts';
import { checkMwType, MemoryWindow } from './memory-window.ts';
import { type AdviseOptions, type AdviseRange, adviseMr } from './mr-advise.ts';
import {
  type AddressRange,
  type DmabufRange,
  type MrOptions,
  type OnDemandOptions,
  regDmabufMr,
  regImplicitOdp,
  regMr,
  regMrFromAddress,
  regMrSync,
} from './mr-register.ts';
import { Owned } from './owned.ts';
import { type QpOptions, qpSpec } from './qp-create.ts';
import { QueuePair } from './queue-pair.ts';
import { SharedReceiveQueue, type SrqOptions } from './shared-receive-queue.ts';
import { ThreadDomain } from './thread-domain.ts';

/** A protection domain; made by {@link Device.allocPd}, or by {@link allocParentDomain}. */
export class ProtectionDomain extends Owned {
  readonly device: Device;
  /** The domain itself; of a parent domain the one that it was made for, whose objects it can use. */
  readonly base: ProtectionDomain;

  /** @internal */
  constructor(device: Device, handle: number, base?: ProtectionDomain) {
    super('protection domain', handle);
    this.device = device;
    this.base = base ?? this;
  }

  /**
   * A domain that can be used wherever this one can, and that tells the device's library how its objects will be used
   * (ibv_alloc_parent_domain(3)). Regions, windows and address handles of the two can be used together. Closed with this
   * domain, and with `td`. Memory of the application for the library's queues can not be given.
   *
   * @throws RdmaError EOPNOTSUPP when the device's library has none, EINVAL for a thread domain of another device,
   *   ERR_INVALID_ARG_VALUE when this is a parent domain itself
   */
  allocParentDomain(options: { readonly td?: ThreadDomain } = {}): ProtectionDomain {
    const { td } = options;
    if (td !== undefined && !(td instanceof ThreadDomain)) {
      throw invalidArgument('ERR_INVALID_ARG_TYPE', 'td must be a ThreadDomain, made by device.allocTd()');
    }
    if (this.base !== this) {
      throw invalidArgument(
        'ERR_INVALID_ARG_VALUE',
        'allocParentDomain: this is a parent domain itself; make it from its base',
      );
    }
    return new ProtectionDomain(
      this.device,
      addon.allocParentDomain(this._handle, td === undefined ? 0 : td._handle),
      this,
    );
  }

  /**
   * Registers memory (ibv_reg_mr(3), ibv_reg_mr_iova2(3)); large registrations are made on the thread pool. The memory is
   * kept until {@link MemoryRegion.close}.
   *
   * @param memory a view, of which exactly the viewed bytes are registered, or a whole buffer
   * @param access flags of {@link Access}
   * @throws RdmaError at once for bad arguments; rejects with EOPNOTSUPP for what the device does not have, with ENOMEM or
   *   EPERM when the limit of locked memory is reached
   */
  regMr(
    memory: ArrayBufferView | ArrayBufferLike,
    access: number,
    options: MrOptions = {},
  ): Promise<MemoryRegion> {
    return regMr(this, memory, access, options);
  }

  /**
   * Closes [regions] of this domain with one native call.
   *
   * @returns resolves when all of the registrations have gone; see {@link MemoryRegion.close}
   */
  deregMrs(regions: readonly MemoryRegion[]): Promise<void> {
    return MemoryRegion.closeAll(regions);
  }

  /** As {@link regMr}, on the event loop: about 0.3 ms per MiB. */
  regMrSync(
    memory: ArrayBufferView | ArrayBufferLike,
    access: number,
    options: MrOptions = {},
  ): MemoryRegion {
    return regMrSync(this, memory, access, options);
  }

  /**
   * Registers memory that is not JavaScript's, such as a mapping (mmap(2)) or the memory of a GPU. **Unsafe**: nothing
   * checks what lies at the address, and nothing but `keep` holds it there. Memory that is unmapped or used anew while it
   * is registered is written to all the same by the device and by peers.
   *
   * @throws RdmaError as {@link regMr}; EFAULT for addresses that are not mapped
   */
  regMrFromAddress(range: AddressRange): Promise<MemoryRegion> {
    return regMrFromAddress(this, range);
  }

  /**
   * Registers a part of a dma-buf, such as the memory of a GPU (ibv_reg_dmabuf_mr(3)).
   *
   * @throws RdmaError EOPNOTSUPP from devices that have no access to other devices' memory, all soft ones among them
   */
  regDmabufMr(range: DmabufRange): Promise<MemoryRegion> {
    return regDmabufMr(this, range);
  }

  /**
   * A region of all addresses of the process, those of later mappings too: implicit on-demand paging (ibv_reg_mr(3)).
   *
   * @param access of LOCAL_WRITE, REMOTE_READ, REMOTE_WRITE, REMOTE_ATOMIC and RELAXED_ORDERING
   * @throws RdmaError EOPNOTSUPP unless `device.caps.odp.implicit`
   */
  regImplicitOdp(access: number): Promise<MemoryRegion> {
    return regImplicitOdp(this, access);
  }

  /**
   * A region without memory: what is written to it is discarded, what is read from it is 0. It has an lkey only
   * (ibv_alloc_null_mr(3)).
   *
   * @throws RdmaError EOPNOTSUPP when the device has none
   */
  allocNullMr(): MemoryRegion {
    return new MemoryRegion(this, addon.allocNullMr(this._handle), Access.LOCAL_WRITE);
  }

  /**
   * Registers device memory (ibv_reg_dm_mr(3)). The region's addresses count from 0 at its first byte.
   *
   * @param access of LOCAL_WRITE, REMOTE_READ, REMOTE_WRITE, REMOTE_ATOMIC and RELAXED_ORDERING; ZERO_BASED is implied
   * @throws RdmaError ERR_OUT_OF_RANGE beyond the end; EINVAL for memory of another device
   */
  regDmMr(dm: DeviceMemory, access: number, range: DmRange = {}): MemoryRegion {
    return regDmMr(this, dm, access, range);
  }

  /**
   * Tells the device which parts of ON_DEMAND regions will be used (ibv_advise_mr(3)).
   *
   * @param advice one of {@link Advice}
   * @throws RdmaError EINVAL for a range that is in no ON_DEMAND region of this domain, EOPNOTSUPP when the device's
   *   library does not have the call
   */
  adviseMr(advice: number, ranges: readonly AdviseRange[], options: AdviseOptions = {}): Promise<void> {
    return adviseMr(this, advice, ranges, options);
  }

  /**
   * Registered memory of its own: page-aligned pages of a memfd, with one ArrayBuffer over them.
   *
   * @param bytes 1 … 2^32 - 1
   * @throws RdmaError as {@link regMr}; ENOMEM also when there are no huge pages
   */
  async allocSlab(
    bytes: number,
    access: number,
    options: { hugePages?: boolean } & OnDemandOptions = {},
  ): Promise<MemorySlab> {
    checkInteger('bytes', bytes, 1, 0xffff_ffff);
    checkAccess(access, 'slab');
    const native = await addon.allocSlab(
      this._handle,
      bytes,
      access,
      options.hugePages === true,
      options.wholePages === true,
    );
    return new MemorySlab(new MemoryRegion(this, native, access), native.buffer);
  }

  /**
   * Makes a queue pair without rdma_cm (ibv_create_qp_ex(3)). It starts in RESET; {@link QueuePair.modify} brings it up.
   * On iWARP only the queue pair of an rdma_cm id can be connected: {@link CmId.createQp}.
   *
   * @throws RdmaError EOPNOTSUPP for a type that the device does not have, ENOSPC when a completion queue is too small
   */
  createQp(options: QpOptions): QueuePair {
    const { sendCq, recvCq = sendCq, srq } = options;
    return new QueuePair(addon.createQp(qpSpec(this, options)), this, sendCq, recvCq, srq);
  }

  /**
   * Makes a queue of receives that several queue pairs can share (ibv_create_srq(3)).
   *
   * @throws RdmaError EINVAL beyond the limits of the device, EOPNOTSUPP when it has none, or none of the kind
   */
  createSrq(options?: SrqOptions): SharedReceiveQueue {
    return new SharedReceiveQueue(this, options);
  }

  /**
   * The way to the target of datagrams (ibv_create_ah(3)).
   *
   * On RoCE the kernel resolves the target's Ethernet address within the call, which takes up to a second when the target
   * does not answer.
   *
   * @throws RdmaError without grh on a RoCE port; ETIMEDOUT, ENETUNREACH … when the target can not be resolved; ENODATA for
   *   a source GID that there is none of; EOPNOTSUPP on iWARP
   */
  createAh(attr: AhAttr): AddressHandle {
    return createAh(this, attr);
  }

  /**
   * The way back to the sender of a received datagram (ibv_init_ah_from_wc(3), ibv_create_ah_from_wc(3)).
   *
   * @param wc the receive's completion
   * @param buffer the receive's buffer, whose first 40 bytes are the GRH
   * @param port where it was received
   * @throws RdmaError as {@link createAh}
   */
  createAhFromWc(wc: DatagramOrigin, buffer: Uint8Array, port = 1): AddressHandle {
    return createAhFromWc(this, wc, buffer, port);
  }

  /**
   * A memory window, not bound yet (ibv_alloc_mw(3)).
   *
   * @param type 1, or 2 (2A or 2B as the device has it)
   * @throws RdmaError EOPNOTSUPP when the device has none, ENOMEM when there are no more
   */
  allocMw(type: 1 | 2): MemoryWindow {
    checkMwType(type);
    return new MemoryWindow(this, type);
  }

  /**
   * Reserves addresses for pages of slabs.
   *
   * @param bytes a multiple of the page size, up to 2^31
   * @throws RdmaError ERR_OUT_OF_RANGE; ENOMEM when there are no addresses left
   */
  reserveWindow(bytes: number): AddressWindow {
    checkInteger('bytes', bytes, 4096, 2 ** 31);
    return new AddressWindow(this, addon.reserveWindow(this._handle, bytes), bytes);
  }
}
