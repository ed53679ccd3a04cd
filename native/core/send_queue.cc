#include "send_queue.h"

#include <arpa/inet.h>

#include <cerrno>
#include <cstring>

#include "opcodes.h"

namespace rdma {

namespace {

constexpr uint32_t kKnownFlags = IBV_SEND_FENCE | IBV_SEND_SIGNALED | IBV_SEND_SOLICITED | IBV_SEND_INLINE;

}  // namespace

SendQueue::SendQueue(const QueueLimits& limits, std::shared_ptr<KeyTable> keys)
    : WorkQueue(limits, std::move(keys)),
      opcodes_(limits.rules->opcodes(limits.type) & ~kExtended),
      wrs_(limits.capacity) {}

bool SendQueue::Check(const WorkRequestSlot& slot, PostStatus* status) const noexcept {
  const uint32_t bit = OpcodeBit(slot.opcode);
  if ((opcodes_ & bit) == 0) return Refuse(status, PostCheck::kOpcode, slot.opcode, 0);
  if ((slot.send_flags & ~kKnownFlags) != 0) {
    return Refuse(status, PostCheck::kFlags, slot.send_flags, kKnownFlags);
  }
  if ((slot.send_flags & IBV_SEND_INLINE) != 0 && (limits_.rules->inline_opcodes() & bit) == 0) {
    return Refuse(status, PostCheck::kInlineOpcode, slot.opcode, 0);
  }
  if ((slot.send_flags & IBV_SEND_FENCE) != 0 && slot.opcode == IBV_WR_RDMA_READ &&
      limits_.rules->Has(Rule::kReadFence)) {
    return Refuse(status, PostCheck::kFenceRead, slot.opcode, 0);
  }
  if (slot.opcode == IBV_WR_RDMA_READ && slot.num_sge > limits_.max_sge_read) {
    return Refuse(status, PostCheck::kReadSge, slot.num_sge, limits_.max_sge_read);
  }
  return true;
}

bool SendQueue::TranslateInline(uint32_t seq, const WorkRequestSlot& slot, uint32_t index, PostStatus* status,
                                uint32_t* num_sge) {
  if (slot.num_sge != 0) {
    if (!Translate(seq, index, false, status, num_sge)) return false;
    uint64_t total = 0;
    const ibv_sge* sges = Sges(index);
    for (uint32_t i = 0; i < *num_sge; ++i) total += sges[i].length;
    if (total > limits_.max_inline) {
      return Refuse(status, PostCheck::kInlineLength, static_cast<uint32_t>(total), limits_.max_inline);
    }
    return true;
  }
  const uint32_t length = slot.inline_length;
  if (length > limits_.max_inline)
    return Refuse(status, PostCheck::kInlineLength, length, limits_.max_inline);
  *Sges(index) = {reinterpret_cast<uintptr_t>(InlineArea(seq)), length, 0};
  *num_sge = 1;
  return true;
}

int SendQueue::Post(ibv_qp* qp, uint64_t wr_id_base, uint32_t first, uint32_t count, PostStatus* status) {
  status->posted = 0;
  status->wr_index = 0;
  if (!CheckRing(first, count, status)) return EINVAL;
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t seq = first + i;
    WorkRequestSlot slot = Slot(seq);
    if (limits_.signal_all ||
        (slot.opcode == IBV_WR_RDMA_READ && limits_.rules->Has(Rule::kReadCompletesLate))) {
      slot.send_flags |= IBV_SEND_SIGNALED;
    }
    pins_.Begin(seq, (slot.send_flags & IBV_SEND_SIGNALED) != 0);
    uint32_t num_sge = 0;
    const bool ok =
        Check(slot, status) && ((slot.send_flags & IBV_SEND_INLINE) != 0
                                    ? TranslateInline(seq, slot, i, status, &num_sge)
                                    : Translate(seq, i, slot.opcode == IBV_WR_RDMA_READ, status, &num_sge));
    if (!ok) {
      status->wr_index = i;
      Undo(first, i + 1);
      return EINVAL;
    }
    ibv_send_wr& wr = wrs_[i];
    std::memset(&wr, 0, sizeof wr);
    wr.wr_id = wr_id_base | seq;
    wr.next = i + 1 < count ? &wrs_[i + 1] : nullptr;
    wr.sg_list = Sges(i);
    wr.num_sge = static_cast<int>(num_sge);
    wr.opcode = static_cast<ibv_wr_opcode>(slot.opcode);
    wr.send_flags = slot.send_flags;
    wr.imm_data = htonl(slot.imm_data);
    wr.wr.rdma.remote_addr = JoinWords(slot.remote_addr_lo, slot.remote_addr_hi);
    wr.wr.rdma.rkey = slot.rkey;
  }
  ibv_send_wr* bad = nullptr;
  const int rc = ibv_post_send(qp, wrs_.data(), &bad);
  return Settle(rc, first, count, bad == nullptr ? count : static_cast<uint32_t>(bad - wrs_.data()), status);
}

}  // namespace rdma
