/** Work requests as objects: one type for each opcode, with the fields of the manual page in camelCase. */
import type { AddressHandle } from './address-handle.ts';
import type { Opcode } from './constants.ts';
import type { MemoryRegion } from './memory-region.ts';
import type { MemoryWindow } from './memory-window.ts';

/** A piece of registered memory (struct ibv_sge). */
export interface Sge {
  /** Address of the first byte. */
  readonly addr: number;
  /** Bytes. */
  readonly length: number;
  /** Local key of the memory region that holds all of it. */
  readonly lkey: number;
}

interface Flagged {
  /** Of {@link SendFlags}. */
  readonly flags?: number;
}

/** What is sent: memory, or bytes that are copied when the work request is posted. */
export type Payload =
  | { readonly sges: readonly Sge[]; readonly inline?: undefined }
  | {
      /** At most maxInlineData bytes. */
      readonly inline: Uint8Array;
      readonly sges?: readonly Sge[];
    };

/** Where a message of a UD queue pair goes (wr.ud). */
export interface DatagramTarget {
  /** UD: of the queue pair's protection domain. */
  readonly ah?: AddressHandle;
  /** UD: number of the peer's queue pair, 24 bits. */
  readonly remoteQpn?: number;
  /** UD: key of the peer's queue pair, 32 bits. */
  readonly remoteQkey?: number;
}

/** Which receive queue a message of an XRC_SEND queue pair is for (qp_type.xrc). */
export interface XrcTarget {
  /** XRC_SEND: number of the peer's shared receive queue, 24 bits. */
  readonly remoteSrqn?: number;
}

/** Memory of the peer (wr.rdma, wr.atomic). */
export interface RemoteRange {
  /** Address as the peer's region has it; a bigint above 2^53 - 1. */
  readonly remoteAddr: number | bigint;
  /** The peer's key for it, 32 bits. */
  readonly rkey: number;
}

/** SEND (ibv_post_send(3)). */
export type SendMessage = { readonly opcode: typeof Opcode.SEND } & Flagged &
  Payload &
  DatagramTarget &
  XrcTarget;

/** SEND_WITH_IMM: 32 bits come with the message. */
export type SendMessageWithImm = {
  readonly opcode: typeof Opcode.SEND_WITH_IMM;
  /** In host byte order. */
  readonly immData: number;
} & Flagged &
  Payload &
  DatagramTarget &
  XrcTarget;

/** SEND_WITH_INV: the message ends the validity of one of the peer's rkeys. */
export type SendMessageWithInv = {
  readonly opcode: typeof Opcode.SEND_WITH_INV;
  /** The peer's rkey. */
  readonly invalidateRkey: number;
} & Flagged &
  Payload &
  XrcTarget;

/** RDMA_WRITE. */
export type RdmaWrite = { readonly opcode: typeof Opcode.RDMA_WRITE } & Flagged &
  Payload &
  RemoteRange &
  XrcTarget;

/** RDMA_WRITE_WITH_IMM: takes a receive of the peer, which gets the 32 bits. */
export type RdmaWriteWithImm = {
  readonly opcode: typeof Opcode.RDMA_WRITE_WITH_IMM;
  /** In host byte order. */
  readonly immData: number;
} & Flagged &
  Payload &
  RemoteRange &
  XrcTarget;

/** RDMA_READ: into regions with LOCAL_WRITE. */
export type RdmaRead = {
  readonly opcode: typeof Opcode.RDMA_READ;
  readonly sges: readonly Sge[];
  readonly inline?: undefined;
} & Flagged &
  RemoteRange &
  XrcTarget;

interface Atomic extends Flagged, RemoteRange, XrcTarget {
  /** One SGE of 8 bytes, in a region with LOCAL_WRITE: gets the old value, in host byte order. */
  readonly sges: readonly Sge[];
  readonly inline?: undefined;
}

/** ATOMIC_CMP_AND_SWP: 8 bytes at an address divisible by 8, in a region with REMOTE_ATOMIC. */
export interface AtomicCmpAndSwp extends Atomic {
  readonly opcode: typeof Opcode.ATOMIC_CMP_AND_SWP;
  /** What must be there; 64 bits. */
  readonly compareAdd: number | bigint;
  /** What takes its place; 64 bits. */
  readonly swap: number | bigint;
}

/** ATOMIC_FETCH_AND_ADD: 8 bytes at an address divisible by 8, in a region with REMOTE_ATOMIC. */
export interface AtomicFetchAndAdd extends Atomic {
  readonly opcode: typeof Opcode.ATOMIC_FETCH_AND_ADD;
  /** What is added; 64 bits, the sum wraps. */
  readonly compareAdd: number | bigint;
}

/** ATOMIC_WRITE: 8 bytes at an address divisible by 8 are replaced at once (ibv_wr_post(3)). */
export interface AtomicWrite extends Flagged, RemoteRange, XrcTarget {
  readonly opcode: typeof Opcode.ATOMIC_WRITE;
  /** The new 8 bytes, as a number in host byte order. */
  readonly value: number | bigint;
  readonly sges?: undefined;
  readonly inline?: undefined;
}

/** FLUSH: completes when earlier writes to the range have become visible or persistent (ibv_wr_post(3)). */
export interface Flush extends Flagged, RemoteRange, XrcTarget {
  readonly opcode: typeof Opcode.FLUSH;
  /** Bytes of the range; unused with level MR. */
  readonly length: number;
  /** Of {@link FlushType}. */
  readonly flushType: number;
  /** One of {@link FlushLevel}; RANGE by default. */
  readonly flushLevel?: number;
  readonly sges?: undefined;
  readonly inline?: undefined;
}

/** What a window is bound to (struct ibv_mw_bind_info, ibv_bind_mw(3)). */
export interface MwBindInfo {
  /** A region with MW_BIND, of the window's protection domain. */
  readonly mr: MemoryRegion;
  /** First address, as the region is addressed. */
  readonly addr: number | bigint;
  /** Bytes; 0 ends the binding of a window of type 1. */
  readonly length: number | bigint;
  /** Of {@link Access}: REMOTE_READ, REMOTE_WRITE, REMOTE_ATOMIC; the latter two need a region with LOCAL_WRITE. */
  readonly access: number;
}

/**
 * BIND_MW: gives a memory window a part of a region and a new rkey. Type 1 is bound by ibv_bind_mw(3), type 2 by
 * ibv_post_send(3).
 */
export interface BindMw extends Flagged {
  readonly opcode: typeof Opcode.BIND_MW;
  readonly mw: MemoryWindow;
  readonly bindInfo: MwBindInfo;
  /** Type 2: its new rkey, which differs from the old one in the low 8 bits only; by default `incRkey(mw.rkey)`. */
  readonly rkey?: number;
  readonly sges?: undefined;
  readonly inline?: undefined;
}

/** LOCAL_INV: ends the binding of a memory window of type 2. */
export interface LocalInv extends Flagged {
  readonly opcode: typeof Opcode.LOCAL_INV;
  /** rkey of the window. */
  readonly invalidateRkey: number;
  readonly sges?: undefined;
  readonly inline?: undefined;
}

/** A work request of the send queue (struct ibv_send_wr), by its opcode. */
export type SendWr =
  | SendMessage
  | SendMessageWithImm
  | SendMessageWithInv
  | RdmaWrite
  | RdmaWriteWithImm
  | RdmaRead
  | AtomicCmpAndSwp
  | AtomicFetchAndAdd
  | AtomicWrite
  | BindMw
  | LocalInv
  | Flush;

/** A work request of the receive queue (struct ibv_recv_wr). */
export interface RecvWr {
  readonly sges: readonly Sge[];
}
