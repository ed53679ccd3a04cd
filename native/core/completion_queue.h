#pragma once

#include <deque>
#include <unordered_map>
#include <vector>

#include "completion_channel.h"
#include "completion_reader.h"
#include "device.h"
#include "handles.h"
#include "layout.h"
#include "object.h"

namespace rdma {

/// What work requests belong to: a queue pair, or a shared receive queue.
class CompletionTarget {
 public:
  virtual ~CompletionTarget() = default;

  /// Retires [seq], which completed as [wc] says; false when it is not in flight (a duplicate). Fills in what
  /// the queue knows: `implied` and `head` of [slot].
  virtual bool Complete(bool receive, uint32_t seq, const ibv_wc& wc, CompletionSlot* slot) = 0;
};

/// What a completion queue is asked for.
struct CompletionQueueSpec {
  uint32_t cqe = 0;
  std::shared_ptr<CompletionChannel> channel;  // shared with other queues; null for one of its own
  uint32_t comp_vector = 0;
  bool timestamps = false;
  /// Only completions of messages that were sent with SOLICITED make an event (ibv_req_notify_cq(3)).
  bool solicited_only = false;
};

/// A completion queue and the queue pairs and shared receive queues that report to it.
class CompletionQueue : public Object {
 public:
  static std::shared_ptr<CompletionQueue> Create(const std::shared_ptr<Device>& device,
                                                 const CompletionQueueSpec& spec);

  CompletionQueue(std::shared_ptr<Device> device, std::shared_ptr<CompletionChannel> channel, CqPtr cq,
                  const CompletionQueueSpec& spec);
  ~CompletionQueue() override;

  const CqPtr& cq() const { return cq_; }
  const std::shared_ptr<Device>& device() const { return device_; }
  const std::shared_ptr<CompletionChannel>& channel() const { return channel_; }
  bool own_channel() const noexcept { return own_channel_; }
  int cqe() const { return cq_->cq->cqe; }

  /// Every work request can produce a completion when it is flushed, signalled or not, so room for all is set
  /// aside.
  void Reserve(uint32_t entries);
  void Unreserve(uint32_t entries) { reserved_ -= entries; }
  uint32_t reserved() const noexcept { return reserved_; }

  /// ibv_resize_cq(3), not below what is reserved.
  void Resize(uint32_t cqe);

  /// Asks for one event for [count] completions or after [period] microseconds (ibv_modify_cq(3)).
  void Moderate(uint16_t count, uint16_t period);

  void Attach(uint32_t handle, const std::shared_ptr<CompletionTarget>& target) { targets_[handle] = target; }
  void Detach(uint32_t handle) { targets_.erase(handle); }
  void Adopt(const std::shared_ptr<Object>& child) { AddChild(child); }

  /// Takes at most [capacity] completions into [slots], retiring what they complete. Duplicates (siw flushes
  /// a READ twice) and completions of queue pairs that are gone are dropped.
  uint32_t Poll(CompletionSlot* slots, uint32_t capacity);

  /// Takes what the device's queue holds, to be delivered by Poll. To be called when a queue pair goes: its
  /// entries take up room that is no longer reserved for them, and some providers drop those of a shared
  /// receive queue along with the queue pair (providers/mlx5/cq.c mlx5_cq_clean).
  void Stash() noexcept;

  /// Asks for an event at the next completion (ibv_req_notify_cq(3)); poll once more before sleeping.
  void Arm();

  /// Work requests in flight on all attached queue pairs.
  uint32_t outstanding() const noexcept { return outstanding_; }
  void AddOutstanding(int32_t delta) {
    const bool was_busy = outstanding_ != 0;
    outstanding_ += static_cast<uint32_t>(delta);
    if (was_busy != (outstanding_ != 0) && on_busy) on_busy(outstanding_ != 0);
  }

  /// Called when the first work request goes in flight (true) and when the last has come back (false).
  std::function<void(bool)> on_busy;
  /// Called for an event of the channel.
  std::function<void()> on_event;

 protected:
  void OnClose() override;

 private:
  /// The target of the latest completion: they come in runs.
  struct LatestTarget {
    uint32_t handle = 0;
    std::shared_ptr<CompletionTarget> target;
  };

  std::shared_ptr<CompletionTarget> Target(const ibv_wc& wc) const;
  /// Fills [slot], unless the completion is to be dropped.
  bool Deliver(ibv_wc* wc, uint64_t timestamp, LatestTarget* latest, CompletionSlot* slot) const;

  std::shared_ptr<Device> device_;
  std::shared_ptr<CompletionChannel> channel_;
  CqPtr cq_;
  const bool own_channel_;
  const bool solicited_only_;
  std::unordered_map<uint32_t, std::weak_ptr<CompletionTarget>> targets_;
  std::vector<Completion> completions_;
  std::vector<ibv_wc> scratch_;  // zeros while nobody reads: see ReadPlain
  std::deque<Completion> stash_;
  uint32_t reserved_ = 0;
  uint32_t outstanding_ = 0;
};

}  // namespace rdma
