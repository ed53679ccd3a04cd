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
///
/// With busy-polling it looks for more before it arms, for a set time after the latest completion and while
/// there is work in flight, some of it in every turn, so that the loop serves others meanwhile.
class CqPoller {
 public:
  CqPoller(EnvState* state, std::shared_ptr<rdma::CompletionQueue> cq, std::shared_ptr<ChannelPoller> channel,
           rdma::CompletionSlot* ring, uint32_t capacity, std::unique_ptr<ValueRef> ring_ref,
           std::unique_ptr<ValueRef> callback);

  /// Takes what is there into the ring, without a callback.
  uint32_t Poll() { return cq_->Poll(ring_, capacity_); }

  /// As Poll, but looks for [microseconds] until something is there.
  uint32_t PollFor(uint32_t microseconds);

  /// How long after a completion it looks for the next before it sleeps; 0: not at all.
  void SetBusyPoll(uint32_t microseconds) { busy_poll_ = microseconds; }

  /// False: work in flight does not keep the process alive.
  void SetRef(bool ref);
  void Stop();

 private:
  void Run();
  /// Fills the ring; 0: armed, and nothing is there. [again] says that it is to look once more in the next
  /// turn.
  uint32_t Look(bool* again);
  /// Whether the latest completion is so new that the next is looked for.
  bool Busy() const;
  void UpdateRef();

  EnvState* state_;
  std::shared_ptr<rdma::CompletionQueue> cq_;
  std::shared_ptr<ChannelPoller> channel_;
  rdma::CompletionSlot* ring_;
  uint32_t capacity_;
  std::unique_ptr<ValueRef> ring_ref_;
  std::unique_ptr<ValueRef> callback_;
  UvHandle<uv_idle_t> again_;
  uint32_t busy_poll_ = 0;
  uint64_t completed_ = 0;  // the latest completion, in rdma::Cycles()
  bool wanted_ref_ = true;
  bool busy_ = false;
  bool holding_ = false;
  bool stopped_ = false;
};

}  // namespace binding
