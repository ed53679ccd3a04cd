/** Names of the verbs' numbers, as in infiniband/verbs.h. */

/** Opcodes of work requests (enum ibv_wr_opcode, ibv_post_send(3)). */
export const Opcode = {
  RDMA_WRITE: 0,
  RDMA_WRITE_WITH_IMM: 1,
  SEND: 2,
  SEND_WITH_IMM: 3,
  RDMA_READ: 4,
} as const;

/** Flags of work requests (enum ibv_send_flags, ibv_post_send(3)). */
export const SendFlags = { FENCE: 1, SIGNALED: 2, SOLICITED: 4, INLINE: 8 } as const;

/** Access of a memory region (enum ibv_access_flags, ibv_reg_mr(3)). */
export const Access = {
  LOCAL_WRITE: 1,
  REMOTE_WRITE: 2,
  REMOTE_READ: 4,
  REMOTE_ATOMIC: 8,
  MW_BIND: 16,
  ZERO_BASED: 32,
  ON_DEMAND: 64,
} as const;

/** Opcodes of completions (enum ibv_wc_opcode, ibv_poll_cq(3)). */
export const WcOpcode = { SEND: 0, RDMA_WRITE: 1, RDMA_READ: 2, RECV: 128, RECV_RDMA_WITH_IMM: 129 } as const;

/** States of a queue pair, by number (enum ibv_qp_state). */
export const qpStates = ['RESET', 'INIT', 'RTR', 'RTS', 'SQD', 'SQE', 'ERR'] as const;

/** State of a queue pair. */
export type QpState = (typeof qpStates)[number] | 'UNKNOWN';

/** States of a port, by number (enum ibv_port_state). */
export const portStates = ['NOP', 'DOWN', 'INIT', 'ARMED', 'ACTIVE', 'ACTIVE_DEFER'] as const;

/** State of a port. */
export type PortState = (typeof portStates)[number] | 'UNKNOWN';
