#pragma once

#include <unordered_map>
#include <vector>

#include "device.h"
#include "handles.h"
#include "layout.h"
#include "object.h"

namespace rdma {

class QueuePair;

/// A completion queue with a completion channel of its own, and the queue pairs that report to it.
class CompletionQueue : public Object {
 public:
  static std::shared_ptr<CompletionQueue> Create(const std::shared_ptr<Device>& device, int cqe);

  CompletionQueue(std::shared_ptr<Device> device, CqPtr cq, ChannelPtr channel);

  const CqPtr& cq() const { return cq_; }
  const std::shared_ptr<Device>& device() const { return device_; }
  int fd() const { return channel_->fd; }
  int cqe() const { return cq_->cq->cqe; }

  /// Every work request can produce a completion when it is flushed, signalled or not, so room for all is set
  /// aside.
  void Reserve(uint32_t entries);
  void Unreserve(uint32_t entries) { reserved_ -= entries; }

  void Attach(uint32_t handle, const std::shared_ptr<QueuePair>& qp);
  void Detach(uint32_t handle) { queue_pairs_.erase(handle); }

  /// Takes at most [capacity] completions into [slots], retiring what they complete. Duplicates (siw flushes
  /// a READ twice) and completions of queue pairs that are gone are dropped.
  uint32_t Poll(CompletionSlot* slots, uint32_t capacity);

  /// Takes all events from the channel (ibv_get_cq_event(3)) and acknowledges them in batches.
  void DrainEvents();

  /// Asks for an event at the next completion (ibv_req_notify_cq(3)); poll once more before sleeping.
  void Arm();

  /// Work requests in flight on all attached queue pairs.
  uint32_t outstanding() const noexcept { return outstanding_; }
  void AddOutstanding(int32_t delta);

  /// Called when the first work request goes in flight (true) and when the last has come back (false).
  std::function<void(bool)> on_busy;

 protected:
  void OnClose() override;

 private:
  std::shared_ptr<Device> device_;
  CqPtr cq_;
  ChannelPtr channel_;
  std::unordered_map<uint32_t, std::weak_ptr<QueuePair>> queue_pairs_;
  std::vector<ibv_wc> wcs_;
  uint32_t reserved_ = 0;
  uint32_t outstanding_ = 0;
};

}  // namespace rdma
