#pragma once

#include "work_queue.h"

namespace rdma {

/// Checks slots, turns them into work requests of libibverbs and posts them with one call.
class SendQueue : public WorkQueue {
 public:
  SendQueue(const QueueLimits& limits, std::shared_ptr<KeyTable> keys);

  /// Posts [count] slots from sequence number [first]. Returns 0, or an errno with the rest in [status].
  int Post(ibv_qp* qp, uint64_t wr_id_base, uint32_t first, uint32_t count, PostStatus* status);

 private:
  bool Check(const WorkRequestSlot& slot, PostStatus* status) const noexcept;
  bool TranslateInline(uint32_t seq, const WorkRequestSlot& slot, uint32_t index, PostStatus* status,
                       uint32_t* num_sge);

  const uint32_t opcodes_;  // that this queue takes (opcodes.h)
  std::vector<ibv_send_wr> wrs_;
};

}  // namespace rdma
