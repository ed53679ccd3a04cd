/** Submission and completion queue entries: NVMe Base Specification, 3.3.3; with SGLs, 4.3.2. */
import { NvmeError, Status } from './status.ts';

/** Bytes of a submission queue entry: the start of every command capsule. */
export const SQE_BYTES = 64;
/** Bytes of a completion queue entry: a response capsule. */
export const CQE_BYTES = 16;

export const FABRICS_OPCODE = 0x7f;

export const FabricsType = { PROPERTY_SET: 0x00, CONNECT: 0x01, PROPERTY_GET: 0x04 } as const;

export const AdminOpcode = {
  GET_LOG_PAGE: 0x02,
  IDENTIFY: 0x06,
  ABORT: 0x08,
  SET_FEATURES: 0x09,
  GET_FEATURES: 0x0a,
  ASYNC_EVENT_REQUEST: 0x0c,
  KEEP_ALIVE: 0x18,
} as const;

export const IoOpcode = {
  FLUSH: 0x00,
  WRITE: 0x01,
  READ: 0x02,
  WRITE_ZEROES: 0x08,
  DATASET_MANAGEMENT: 0x09,
} as const;

/** Memory of the host, by a keyed SGL data block descriptor. */
export interface KeyedSgl {
  readonly kind: 'keyed';
  readonly addr: number | bigint;
  readonly length: number;
  readonly rkey: number;
  /** The host wants its key invalidated by the response. */
  readonly invalidate: boolean;
}

/** Bytes of the capsule itself, by an SGL data block descriptor with an offset. */
export interface CapsuleSgl {
  readonly kind: 'capsule';
  /** From the end of the submission queue entry. */
  readonly offset: number;
  readonly length: number;
}

export type Sgl = KeyedSgl | CapsuleSgl;

const KEYED_ADDRESS = 0x40;
const KEYED_INVALIDATE = 0x4f;
const DATA_BLOCK_OFFSET = 0x01;
const TWO_32 = 2 ** 32;
/** High words of addresses that a number holds exactly. */
const EXACT_HIGH = 2 ** 20;

/** A submission queue entry in place: nothing is copied, so it is what the memory is now. */
export class Command {
  readonly bytes: Uint8Array;
  readonly #view: DataView;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, SQE_BYTES);
  }

  get opcode(): number {
    return this.#view.getUint8(0);
  }

  /** The host's name for it. */
  get id(): number {
    return this.#view.getUint16(2, true);
  }

  get nsid(): number {
    return this.#view.getUint32(4, true);
  }

  /** Of a fabrics command. */
  get fabricsType(): number {
    return this.#view.getUint8(4);
  }

  /** Command dword [n], 10 … 15. */
  dword(n: number): number {
    return this.#view.getUint32(n * 4, true);
  }

  u8(offset: number): number {
    return this.#view.getUint8(offset);
  }

  u16(offset: number): number {
    return this.#view.getUint16(offset, true);
  }

  /** 64 bits at [offset]; exact up to 2^53, and larger than that otherwise. */
  u64(offset: number): number {
    return this.#view.getUint32(offset + 4, true) * TWO_32 + this.#view.getUint32(offset, true);
  }

  /** Whether its bits 63:0 may be more than 53 bits is the caller's matter: the start of a range of blocks. */
  get slba(): number {
    return this.u64(40);
  }

  /** Where its data is. @throws NvmeError for descriptors that this target does not take */
  get sgl(): Sgl {
    const view = this.#view;
    const identifier = view.getUint8(39);
    if (identifier === KEYED_ADDRESS || identifier === KEYED_INVALIDATE) {
      const high = view.getUint32(28, true);
      return {
        kind: 'keyed',
        addr: high < EXACT_HIGH ? this.u64(24) : view.getBigUint64(24, true),
        length: view.getUint32(32, true) & 0xff_ffff,
        rkey: view.getUint32(35, true),
        invalidate: identifier === KEYED_INVALIDATE,
      };
    }
    if (identifier === DATA_BLOCK_OFFSET) {
      return { kind: 'capsule', offset: this.u64(24), length: view.getUint32(32, true) };
    }
    throw new NvmeError(
      Status.SGL_TYPE_INVALID,
      `SGL descriptor type 0x${(identifier >> 4).toString(16)}, sub type 0x${(identifier & 15).toString(16)}`,
    );
  }
}

/** A completion queue entry. */
export function encodeCompletion(
  id: number,
  sqid: number,
  sqHead: number,
  status: number,
  result: number,
  resultHigh: number,
): Uint8Array {
  const bytes = new Uint8Array(CQE_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, result, true);
  view.setUint32(4, resultHigh, true);
  view.setUint16(8, sqHead, true);
  view.setUint16(10, sqid, true);
  view.setUint16(12, id, true);
  // Bit 0 is the phase tag, which fabrics do not use.
  view.setUint16(14, (status << 1) & 0xffff, true);
  return bytes;
}
