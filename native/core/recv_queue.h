#pragma once

#include "work_queue.h"

namespace rdma {

/// The receives of a queue pair.
class RecvQueue : public WorkQueue {
 public:
  RecvQueue(const QueueLimits& limits, std::shared_ptr<KeyTable> keys);

  /// Posts [count] slots from sequence number [first]. Returns 0, or an errno with the rest in [status].
  int Post(ibv_qp* qp, uint64_t wr_id_base, uint32_t first, uint32_t count, PostStatus* status);

 private:
  std::vector<ibv_recv_wr> wrs_;
};

}  // namespace rdma
