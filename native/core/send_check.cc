// What a work request of a send queue is refused for before the provider sees it.

#include "opcodes.h"
#include "send_queue.h"

namespace rdma {

namespace {

constexpr uint32_t kKnownFlags = IBV_SEND_FENCE | IBV_SEND_SIGNALED | IBV_SEND_SOLICITED | IBV_SEND_INLINE;
constexpr uint32_t kFlushTypes = 3;   // IBV_FLUSH_GLOBAL, IBV_FLUSH_PERSISTENT
constexpr uint32_t kFlushLevels = 2;  // IBV_FLUSH_RANGE, IBV_FLUSH_MR
constexpr uint32_t kPage = 4096;
constexpr uint32_t kTiny = 32;

}  // namespace

bool SendQueue::Ready(ibv_qp* qp, PostStatus* status) noexcept {
  ibv_qp_state state = qp->state;
  if (limits_.rules->Has(Rule::kStateByQuery)) {
    if (ready_) return true;
    ibv_qp_attr attr = {};
    ibv_qp_init_attr init = {};
    // Older kernels always answer RESET for siw, which no queue pair of an rdma_cm id is in: unknown.
    if (ibv_query_qp(qp, &attr, IBV_QP_STATE, &init) != 0 || attr.qp_state == IBV_QPS_RESET) return true;
    state = attr.qp_state;
    ready_ = state >= IBV_QPS_RTS;
  }
  return state >= IBV_QPS_RTS || Refuse(status, PostCheck::kNotReady, state, IBV_QPS_RTS);
}

bool SendQueue::CheckOpcode(uint32_t opcode, PostStatus* status) const noexcept {
  const uint32_t bit = OpcodeBit(opcode);
  if ((opcodes_ & bit) != 0) return true;
  if ((OpcodesOf(limits_.type) & bit) == 0) {
    return Refuse(status, PostCheck::kOpcodeOfType, opcode, limits_.type);
  }
  const bool extended = (limits_.rules->opcodes(limits_.type) & bit) != 0;
  return Refuse(status, extended ? PostCheck::kExtended : PostCheck::kOpcode, opcode, 0);
}

bool SendQueue::CheckFlags(const WorkRequestSlot& slot, PostStatus* status) const noexcept {
  const uint32_t flags = slot.send_flags;
  if ((flags & ~kKnownFlags) != 0) return Refuse(status, PostCheck::kFlags, flags, kKnownFlags);
  const uint32_t bit = OpcodeBit(slot.opcode);
  if ((flags & IBV_SEND_INLINE) != 0 && (limits_.rules->inline_opcodes() & bit) == 0) {
    return Refuse(status, PostCheck::kInlineOpcode, slot.opcode, 0);
  }
  if ((flags & IBV_SEND_FENCE) != 0) {
    if (limits_.type != IBV_QPT_RC && limits_.type != IBV_QPT_XRC_SEND) {
      return Refuse(status, PostCheck::kFlagOpcode, IBV_SEND_FENCE, slot.opcode);
    }
    if (slot.opcode == IBV_WR_RDMA_READ && limits_.rules->Has(Rule::kReadFence)) {
      return Refuse(status, PostCheck::kFenceRead, slot.opcode, 0);
    }
  }
  constexpr uint32_t kSolicited = kSends | OpcodeBit(IBV_WR_RDMA_WRITE_WITH_IMM);
  if ((flags & IBV_SEND_SOLICITED) != 0 && (kSolicited & bit) == 0) {
    return Refuse(status, PostCheck::kFlagOpcode, IBV_SEND_SOLICITED, slot.opcode);
  }
  return true;
}

bool SendQueue::CheckRemote(const WorkRequestSlot& slot, uint32_t num_sge, uint64_t length,
                            PostStatus* status) const noexcept {
  switch (slot.opcode) {
    case IBV_WR_RDMA_READ: {
      if (num_sge > limits_.max_sge_read) {
        return Refuse(status, PostCheck::kReadSge, num_sge, limits_.max_sge_read);
      }
      const bool straddles = length <= kTiny && slot.remote_addr_lo % kPage + length > kPage;
      if (straddles && limits_.rules->Has(Rule::kTinyStraddle)) {
        return Refuse(status, PostCheck::kTinyStraddle, static_cast<uint32_t>(length),
                      kPage - slot.remote_addr_lo % kPage);
      }
      return true;
    }
    case IBV_WR_ATOMIC_CMP_AND_SWP:
    case IBV_WR_ATOMIC_FETCH_AND_ADD:
      if (num_sge != 1 || length != 8) {
        return Refuse(status, PostCheck::kAtomicLength, static_cast<uint32_t>(length), num_sge);
      }
      break;
    case kWrFlush:
      if (slot.arg2_lo == 0 || slot.arg2_lo > kFlushTypes || slot.arg2_hi >= kFlushLevels) {
        return Refuse(status, PostCheck::kFlush, slot.arg2_lo, slot.arg2_hi);
      }
      return true;
    case kWrAtomicWrite:
      break;
    default:
      return true;
  }
  return slot.remote_addr_lo % 8 == 0 || Refuse(status, PostCheck::kAtomicAlignment, slot.remote_addr_lo, 8);
}

void SendQueue::SplitAtPage(ibv_sge* sges, uint32_t* num_sge) const noexcept {
  if (*num_sge != 1 || sges->length > kTiny) return;
  const auto first = static_cast<uint32_t>(kPage - sges->addr % kPage);
  if (sges->length <= first) return;
  sges[1] = {sges->addr + first, sges->length - first, sges->lkey};
  sges->length = first;
  *num_sge = 2;
}

}  // namespace rdma
