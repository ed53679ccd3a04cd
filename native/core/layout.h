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
  uint32_t num_sge;        // SGEs in the SGE ring; kSgeInSlot: one, in arg_lo to arg2_hi
  uint32_t inline_length;  // bytes in the slot's inline area, when send_flags has INLINE and num_sge is 0
  uint32_t imm_data;       // host byte order; the rkey to invalidate for SEND_WITH_INV and LOCAL_INV
  uint32_t rkey;           // of the remote memory; for BIND_MW the new rkey, 0 to take the next one
  uint32_t remote_addr_lo;
  uint32_t remote_addr_hi;
  // What only some opcodes and queue pair types have; arg_lo/hi and arg2_lo/hi are, by opcode:
  //   CMP_AND_SWP, FETCH_AND_ADD  compare_add and swap
  //   ATOMIC_WRITE                the value
  //   BIND_MW                     address and length
  //   FLUSH                       length; arg2 is type and level
  //   with kSgeInSlot             the words of an SgeSlot: one line of the cache for the whole work request
  uint32_t arg_lo;
  uint32_t arg_hi;
  uint32_t arg2_lo;
  uint32_t arg2_hi;
  uint32_t object;       // handle of the address handle (UD) or of the memory window (BIND_MW)
  uint32_t object2;      // lkey of the region that the window is bound to (BIND_MW)
  uint32_t remote_qpn;   // UD; the remote SRQ's number (XRC)
  uint32_t remote_qkey;  // UD; access flags (BIND_MW)
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
  uint32_t imm_data;  // host byte order; the invalidated rkey with IBV_WC_WITH_INV
  uint32_t vendor_err;
  uint32_t qp_num;  // local queue pair; tells receives of a shared queue apart
  uint32_t src_qp;  // UD
  uint32_t pkey_index;
  uint32_t path;     // service level; dlid_path_bits in bits 8-15, slid in 16-31
  uint32_t implied;  // work requests just before it in its queue that were carried out, without a completion
  uint32_t head;     // sequence number of the oldest work request of its queue that is still in flight
  uint32_t timestamp_lo;  // raw device clock, of queues that were created with timestamps
  uint32_t timestamp_hi;
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

/// Says in num_sge that the only SGE is in the slot itself.
inline constexpr uint32_t kSgeInSlot = UINT32_MAX;

/// A 64-bit field of a slot.
inline constexpr uint64_t JoinWords(uint32_t lo, uint32_t hi) noexcept { return uint64_t{hi} << 32 | lo; }

static_assert(sizeof(WorkRequestSlot) == 64 && sizeof(SgeSlot) == 16 && sizeof(CompletionSlot) == 64);
static_assert(offsetof(WorkRequestSlot, arg2_hi) ==
              offsetof(WorkRequestSlot, arg_lo) + offsetof(SgeSlot, lkey));
static_assert(offsetof(WorkRequestSlot, remote_qkey) == 60 && offsetof(CompletionSlot, timestamp_hi) == 60);

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
  kOpcodeOfType,  // limit: the type of the queue pair
  kNotReady,      // value: the state of the queue pair
  kFlagOpcode,    // value: the flag; limit: the opcode
  kNoSges,        // value: the opcode
  kAtomicLength,
  kAtomicAlignment,
  kAddressHandle,
  kRemoteQpn,
  kTinyStraddle,
  kExtended,      // value: the opcode
  kFlush,         // value: type; limit: level
  kUnclear,       // the provider failed and named no work request
  kWindow,        // value: its rkey
  kWindowBound,   // value: its rkey
  kWindowRegion,  // value: the region's lkey
  kWindowAllow,   // value: the region's lkey
  kWindowRange,
  kWindowAccess,  // value: the access; limit: what a window can have
  kWindowLocalWrite,
  kWindowLength,
  kWindowKey,   // value: the wanted rkey; limit: the present one
  kInvalidate,  // value: the rkey
  kPageStart,   // value: offset in a page, of the address or in the message
  kCount,
};

}  // namespace rdma
