import { addon } from '../addon.ts';
import { invalidArgument } from '../errors.ts';
import { type AddressHandle, createAh, createAhFromWc, type DatagramOrigin } from './address-handle.ts';
import type { AhAttr } from './ah-attr.ts';
import { bytesOf, checkInteger } from './check.ts';
import { Access } from './constants.ts';
import type { Device } from './device.ts';
import { MemoryRegion, MemorySlab } from './memory-region.ts';
import { checkMwType, MemoryWindow } from './memory-window.ts';
import { Owned } from './owned.ts';
import { type QpOptions, qpSpec } from './qp-create.ts';
import { QueuePair } from './queue-pair.ts';
import { SharedReceiveQueue, type SrqOptions } from './shared-receive-queue.ts';

const KNOWN_ACCESS = Object.values(Access).reduce((all, flag) => all | flag, 0);
const REMOTE_WRITES = Access.REMOTE_WRITE | Access.REMOTE_ATOMIC;

/** Below this, a registration is made on the event loop: a trip to the thread pool costs more. */
const SYNC_BYTES = 64 * 1024;

function checkAccess(access: unknown): asserts access is number {
  checkInteger('access', access, 0, 0xffff_ffff);
  if ((access & ~KNOWN_ACCESS) !== 0) {
    throw invalidArgument(
      'ERR_INVALID_ARG_VALUE',
      `access 0x${access.toString(16)} has flags that are not in Access`,
    );
  }
  if ((access & REMOTE_WRITES) !== 0 && (access & Access.LOCAL_WRITE) === 0) {
    throw invalidArgument(
      'ERR_INVALID_ARG_VALUE',
      `access 0x${access.toString(16)}: REMOTE_WRITE and REMOTE_ATOMIC need LOCAL_WRITE as well (ibv_reg_mr(3))`,
    );
  }
}

function checkMemory(memory: unknown): Uint8Array {
  const bytes = bytesOf('memory', memory);
  if (bytes.length === 0)
    throw invalidArgument('ERR_INVALID_ARG_VALUE', 'memory is empty: at least 1 byte is needed');
  return bytes;
}

/** A protection domain; made by {@link Device.allocPd}. */
export class ProtectionDomain extends Owned {
  readonly device: Device;

  /** @internal */
  constructor(device: Device, handle: number) {
    super('protection domain', handle);
    this.device = device;
  }

  /**
   * Registers memory (ibv_reg_mr(3)); large registrations are made on the thread pool. The memory is kept until
   * {@link MemoryRegion.close}.
   *
   * @param memory a view, of which exactly the viewed bytes are registered, or a whole buffer
   * @param access flags of {@link Access}
   * @throws RdmaError at once for bad arguments; rejects with ENOMEM or EPERM when the limit of locked memory is reached
   */
  regMr(memory: ArrayBufferView | ArrayBufferLike, access: number): Promise<MemoryRegion> {
    checkAccess(access);
    const bytes = checkMemory(memory);
    const handle = this._handle;
    if (bytes.length <= SYNC_BYTES) return new Promise((resolve) => resolve(this.#region(bytes, access)));
    return addon.regMr(handle, bytes, access).then((native) => new MemoryRegion(this, native, access));
  }

  /** As {@link regMr}, on the event loop: about 0.3 ms per MiB. */
  regMrSync(memory: ArrayBufferView | ArrayBufferLike, access: number): MemoryRegion {
    checkAccess(access);
    return this.#region(checkMemory(memory), access);
  }

  #region(bytes: Uint8Array, access: number): MemoryRegion {
    return new MemoryRegion(this, addon.regMrSync(this._handle, bytes, access), access);
  }

  /**
   * Registered memory of its own: page-aligned pages of a memfd, with one ArrayBuffer over them.
   *
   * @param bytes 1 … 2^32 - 1
   * @throws RdmaError as {@link regMr}; ENOMEM also when there are no huge pages
   */
  async allocSlab(bytes: number, access: number, options: { hugePages?: boolean } = {}): Promise<MemorySlab> {
    checkInteger('bytes', bytes, 1, 0xffff_ffff);
    checkAccess(access);
    const native = await addon.allocSlab(this._handle, bytes, access, options.hugePages === true);
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
   * @throws RdmaError EINVAL beyond the limits of the device, EOPNOTSUPP when it has no shared receive queues
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
   * @param wc fields of the receive's completion
   * @param grh the receive's buffer, whose first 40 bytes are the GRH
   * @param port where it was received
   */
  createAhFromWc(wc: DatagramOrigin, grh: Uint8Array, port = 1): AddressHandle {
    return createAhFromWc(this, wc, grh, port);
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
}
