#pragma once

#include "../core/completion_queue.h"
#include "channel_poller.h"
#include "env.h"
#include "uv_handle.h"

namespace binding {

/// Brings completions to JavaScript: woken by the completion channel, fills the shared ring, calls back.
///
/// The order is that of ibv_get_cq_event(3): take events, poll until empty, arm, poll once more, only then
/// sleep. Work per turn of the loop is bounded; what is left is taken in the next turn.
class CqPoller {
 public:
  CqPoller(EnvState* state, std::shared_ptr<rdma::CompletionQueue> cq, std::shared_ptr<ChannelPoller> channel,
           rdma::CompletionSlot* ring, uint32_t capacity, std::unique_ptr<ValueRef> ring_ref,
           std::unique_ptr<ValueRef> callback);

  /// Takes what is there into the ring, without a callback.
  uint32_t Poll() { return cq_->Poll(ring_, capacity_); }

  /// False: work in flight does not keep the process alive.
  void SetRef(bool ref);
  void Stop();

 private:
  void Run();
  void UpdateRef();

  EnvState* state_;
  std::shared_ptr<rdma::CompletionQueue> cq_;
  std::shared_ptr<ChannelPoller> channel_;
  rdma::CompletionSlot* ring_;
  uint32_t capacity_;
  std::unique_ptr<ValueRef> ring_ref_;
  std::unique_ptr<ValueRef> callback_;
  UvHandle<uv_idle_t> again_;
  bool wanted_ref_ = true;
  bool busy_ = false;
  bool holding_ = false;
  bool stopped_ = false;
};

}  // namespace binding
