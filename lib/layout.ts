/**
 * The slots of the rings that JavaScript and C++ share, as indices of 32-bit words. native/core/layout.h is the same
 * table; the two are compared when the addon is loaded.
 */
export const layout = {
  workRequest: {
    opcode: 0,
    send_flags: 1,
    num_sge: 2,
    inline_length: 3,
    imm_data: 4,
    rkey: 5,
    remote_addr_lo: 6,
    remote_addr_hi: 7,
    arg_lo: 8,
    arg_hi: 9,
    arg2_lo: 10,
    arg2_hi: 11,
    object: 12,
    object2: 13,
    remote_qpn: 14,
    remote_qkey: 15,
    words: 16,
  },
  sge: { addr_lo: 0, addr_hi: 1, length: 2, lkey: 3, words: 4 },
  completion: {
    queue: 0,
    seq: 1,
    status: 2,
    opcode: 3,
    byte_len: 4,
    wc_flags: 5,
    imm_data: 6,
    vendor_err: 7,
    qp_num: 8,
    src_qp: 9,
    pkey_index: 10,
    path: 11,
    implied: 12,
    head: 13,
    timestamp_lo: 14,
    timestamp_hi: 15,
    words: 16,
  },
  postStatus: { posted: 0, wr_index: 1, check: 2, sge_index: 3, value: 4, limit: 5, words: 6 },
  /** How many reasons there are for not posting (enum class PostCheck). */
  postChecks: 37,
} as const;

/** Words of the record that describes a failed post. */
export const POST_STATUS_WORDS = layout.postStatus.words;

/** Says in num_sge that the only SGE is in the slot itself, where an opcode's operands would be. */
export const SGE_IN_SLOT = 0xffff_ffff;

/** Bit of a completion's queue word that tells a receive queue from a send queue. */
export const RECEIVE_QUEUE_BIT = 0x8000_0000;
