#pragma once

#include <infiniband/verbs.h>

#include <cstddef>
#include <cstdint>

namespace rdma {

// Opcodes and flags that older headers of rdma-core lack; the numbers are the kernel's
// (include/uapi/rdma/ib_user_verbs.h enum ib_uverbs_wr_opcode) and never change.
inline constexpr uint32_t kWrFlush = 14;
inline constexpr uint32_t kWrAtomicWrite = 15;
inline constexpr uint64_t kQpExWithAtomicWrite = 1u << 12;
inline constexpr uint64_t kQpExWithFlush = 1u << 11;

/// Headers of rdma-core before 45 have no FLUSH.
template <typename Qp>
concept HasFlush = requires(Qp* qp) { qp->wr_flush(qp, 0u, uint64_t{0}, size_t{0}, uint8_t{0}, uint8_t{0}); };
inline constexpr bool kFlushIsThere = HasFlush<ibv_qp_ex>;

/// The bit of an opcode in a set of opcodes; 0 for what is no opcode of a work request.
constexpr uint32_t OpcodeBit(uint32_t opcode) noexcept { return opcode < 32 ? 1u << opcode : 0; }

inline constexpr uint32_t kSends =
    OpcodeBit(IBV_WR_SEND) | OpcodeBit(IBV_WR_SEND_WITH_IMM) | OpcodeBit(IBV_WR_SEND_WITH_INV);
inline constexpr uint32_t kWrites = OpcodeBit(IBV_WR_RDMA_WRITE) | OpcodeBit(IBV_WR_RDMA_WRITE_WITH_IMM);
inline constexpr uint32_t kAtomics =
    OpcodeBit(IBV_WR_ATOMIC_CMP_AND_SWP) | OpcodeBit(IBV_WR_ATOMIC_FETCH_AND_ADD);
/// Those that only ibv_wr_post(3) has.
inline constexpr uint32_t kExtended = OpcodeBit(kWrFlush) | OpcodeBit(kWrAtomicWrite);
/// Those that carry no SGEs.
inline constexpr uint32_t kWithoutSges = kExtended | OpcodeBit(IBV_WR_BIND_MW) | OpcodeBit(IBV_WR_LOCAL_INV);

/// The opcodes that a type of queue pair has: the table of ibv_post_send(3), and ibv_wr_post(3) for the newer
/// ones.
uint32_t OpcodesOf(ibv_qp_type type) noexcept;

}  // namespace rdma
