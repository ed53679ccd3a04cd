#pragma once

#include <cstddef>
#include <cstdint>

namespace rdma {

// The slots of the rings that JavaScript and C++ share. lib/ring/layout.ts holds the same table, and the
// addon compares the two when it is loaded. All fields are 32 bits wide, so that JavaScript reads and writes
// numbers, never BigInts.

/// One send or receive work request; its SGEs lie in the SGE ring at slot * max_sge.
struct WorkRequestSlot {
  uint32_t opcode;         // IBV_WR_*; unused by receives
  uint32_t send_flags;     // IBV_SEND_*
  uint32_t num_sge;        // SGEs in the SGE ring
  uint32_t inline_length;  // bytes in the slot's inline area, when send_flags has INLINE and num_sge is 0
  uint32_t imm_data;       // host byte order
  uint32_t rkey;
  uint32_t remote_addr_lo;
  uint32_t remote_addr_hi;
};

struct SgeSlot {
  uint32_t addr_lo;
  uint32_t addr_hi;
  uint32_t length;
  uint32_t lkey;
};

/// One work completion. `opcode` and `seq` come from our own tables: on an error only wr_id, status, qp_num
/// and vendor_err of an ibv_wc are valid (ibv_poll_cq(3)).
struct CompletionSlot {
  uint32_t queue;     // the queue pair's handle; bit 31 set for its receive queue
  uint32_t seq;       // sequence number of the work request in its queue
  uint32_t status;    // IBV_WC_*
  uint32_t opcode;    // IBV_WC_*, valid when status is 0
  uint32_t byte_len;  // valid for a successful receive
  uint32_t wc_flags;  // IBV_WC_WITH_IMM and friends
  uint32_t imm_data;  // host byte order
  uint32_t vendor_err;
};

/// What a failed post says (one per environment, shared).
struct PostStatus {
  uint32_t posted;    // work requests that are on their way
  uint32_t wr_index;  // which work request of the batch was refused
  uint32_t check;     // enum class PostCheck, kNone when the provider refused it
  uint32_t sge_index;
  uint32_t value;  // the offending value
  uint32_t limit;  // and its limit
};

inline constexpr uint32_t kReceiveQueueBit = 1u << 31;

static_assert(sizeof(WorkRequestSlot) == 32 && sizeof(SgeSlot) == 16 && sizeof(CompletionSlot) == 32);
static_assert(offsetof(WorkRequestSlot, remote_addr_hi) == 28 && offsetof(CompletionSlot, vendor_err) == 28);

/// Why a work request was refused before the provider saw it. The texts are in lib/ring/post-error.ts.
enum class PostCheck : uint32_t {
  kNone = 0,
  kClosed,
  kRing,
  kOpcode,
  kFlags,
  kInlineOpcode,
  kFenceRead,
  kNumSge,
  kReadSge,
  kLkey,
  kRange,
  kLocalWrite,
  kInlineLength,
  kMessageLength,
};

}  // namespace rdma
