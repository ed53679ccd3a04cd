#include "recv_queue.h"

#include <cerrno>

namespace rdma {

RecvQueue::RecvQueue(const QueueLimits& limits, std::shared_ptr<KeyTable> keys)
    : WorkQueue(limits, std::move(keys)), wrs_(limits.capacity) {}

int RecvQueue::Post(ibv_qp* qp, uint64_t wr_id_base, uint32_t first, uint32_t count, PostStatus* status) {
  status->posted = 0;
  status->wr_index = 0;
  if (!CheckRing(first, count, status)) return EINVAL;
  // ibv_post_recv(3) forbids it, and librxe refuses it without naming a work request.
  if (qp->state == IBV_QPS_RESET && !limits_.rules->Has(Rule::kStateByQuery)) {
    Refuse(status, PostCheck::kNotReady, IBV_QPS_RESET, IBV_QPS_INIT);
    return EINVAL;
  }
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t seq = first + i;
    pins_.Begin(seq, true);
    uint32_t num_sge = 0;
    uint64_t length = 0;
    if (!Translate(seq, i, true, status, &num_sge, &length)) {
      status->wr_index = i;
      Undo(first, i + 1);
      return EINVAL;
    }
    wrs_[i] = {wr_id_base | seq, i + 1 < count ? &wrs_[i + 1] : nullptr, Sges(i), static_cast<int>(num_sge)};
  }
  ibv_recv_wr* bad = nullptr;
  const int rc = ibv_post_recv(qp, wrs_.data(), &bad);
  const uint32_t posted = bad == nullptr ? count : static_cast<uint32_t>(bad - wrs_.data());
  return Settle(rc, first, count, posted, status, bad != nullptr);
}

}  // namespace rdma
