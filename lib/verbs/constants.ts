/** Names of the verbs' numbers, as in infiniband/verbs.h. */

/** Opcodes of work requests (enum ibv_wr_opcode, ibv_post_send(3)); FLUSH and ATOMIC_WRITE of ibv_wr_post(3). */
export const Opcode = {
  RDMA_WRITE: 0,
  RDMA_WRITE_WITH_IMM: 1,
  SEND: 2,
  SEND_WITH_IMM: 3,
  RDMA_READ: 4,
  ATOMIC_CMP_AND_SWP: 5,
  ATOMIC_FETCH_AND_ADD: 6,
  LOCAL_INV: 7,
  BIND_MW: 8,
  SEND_WITH_INV: 9,
  FLUSH: 14,
  ATOMIC_WRITE: 15,
} as const;

/** What a FLUSH makes sure of: that other devices see the data, or that it outlives a loss of power (ibv_wr_post(3)). */
export const FlushType = { GLOBAL: 1, PERSISTENT: 2 } as const;

/** What a FLUSH covers: a range, or everything that was written to the region. */
export const FlushLevel = { RANGE: 0, MR: 1 } as const;

/** Flags of work requests (enum ibv_send_flags, ibv_post_send(3)). */
export const SendFlags = { FENCE: 1, SIGNALED: 2, SOLICITED: 4, INLINE: 8 } as const;

/** Access of a memory region (enum ib_uverbs_access_flags, ibv_reg_mr(3)). Local reads are always allowed. */
export const Access = {
  /** The device may write: needed by receives, by sinks of RDMA READ, and with REMOTE_WRITE and REMOTE_ATOMIC. */
  LOCAL_WRITE: 1,
  REMOTE_WRITE: 2,
  REMOTE_READ: 4,
  REMOTE_ATOMIC: 8,
  /** Memory windows may be bound to it. */
  MW_BIND: 16,
  /** Addresses of work requests count from 0: iova 0. */
  ZERO_BASED: 32,
  /** Pages are not pinned but fetched when they are used (on-demand paging). */
  ON_DEMAND: 64,
  /** All pages are huge and stay so; with ON_DEMAND only. */
  HUGETLB: 128,
  /** The peer may FLUSH what it wrote, so that others see it. */
  FLUSH_GLOBAL: 256,
  /** The peer may FLUSH what it wrote, so that it survives a power failure: persistent memory only. */
  FLUSH_PERSISTENT: 512,
  /** Writes may become visible in another order. Optional: kernels and devices that do not know it ignore it. */
  RELAXED_ORDERING: 0x10_0000,
} as const;

/** Opcodes of completions (enum ibv_wc_opcode, ibv_poll_cq(3)). */
export const WcOpcode = {
  SEND: 0,
  RDMA_WRITE: 1,
  RDMA_READ: 2,
  COMP_SWAP: 3,
  FETCH_ADD: 4,
  BIND_MW: 5,
  LOCAL_INV: 6,
  FLUSH: 8,
  ATOMIC_WRITE: 9,
  RECV: 128,
  RECV_RDMA_WITH_IMM: 129,
} as const;

/** Flags of completions (enum ibv_wc_flags, ibv_poll_cq(3)). */
export const WcFlags = { GRH: 1, WITH_IMM: 2, IP_CSUM_OK: 4, WITH_INV: 8 } as const;

/** States of a queue pair, by number (enum ibv_qp_state). */
export const qpStates = ['RESET', 'INIT', 'RTR', 'RTS', 'SQD', 'SQE', 'ERR'] as const;

/** State of a queue pair. */
export type QpState = (typeof qpStates)[number] | 'UNKNOWN';

/** States of a port, by number (enum ibv_port_state). */
export const portStates = ['NOP', 'DOWN', 'INIT', 'ARMED', 'ACTIVE', 'ACTIVE_DEFER'] as const;

/** State of a port. */
export type PortState = (typeof portStates)[number] | 'UNKNOWN';
