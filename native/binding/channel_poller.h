#pragma once

#include "../core/completion_channel.h"
#include "env.h"
#include "uv_handle.h"

namespace binding {

/// Waits for the descriptor of a completion channel, and passes its events on to the queues that they are
/// about.
class ChannelPoller : public std::enable_shared_from_this<ChannelPoller> {
 public:
  ChannelPoller(EnvState* state, std::shared_ptr<rdma::CompletionChannel> channel);

  /// While one of the channel's queues holds the loop, the process stays alive.
  void Hold(bool hold);
  void Stop();

 private:
  std::shared_ptr<rdma::CompletionChannel> channel_;
  UvHandle<uv_poll_t> poll_;
  uint32_t holds_ = 0;
  bool stopped_ = false;
};

}  // namespace binding
