#pragma once

#include <memory>
#include <vector>

#include "device.h"
#include "handles.h"
#include "object.h"

namespace rdma {

/// A completion channel (ibv_create_comp_channel(3)): one descriptor that tells of completions in any of its
/// queues.
class CompletionChannel : public Object {
 public:
  /// [shared]: for several queues.
  static std::shared_ptr<CompletionChannel> Create(const std::shared_ptr<Device>& device, bool shared);

  CompletionChannel(std::shared_ptr<Device> device, ChannelPtr channel, bool shared)
      : Object(Kind::kCompletionChannel),
        device_(std::move(device)),
        channel_(std::move(channel)),
        shared_(shared) {}

  const std::shared_ptr<Device>& device() const { return device_; }
  const ChannelPtr& channel() const { return channel_; }
  int fd() const { return channel_->fd; }

  /// Takes all events (ibv_get_cq_event(3)), acknowledging them in batches; returns the open queues that they
  /// are about. Never blocks. Of a single queue it takes one: there is no second before the queue is armed
  /// again, and to learn so takes a system call.
  std::vector<std::shared_ptr<CompletionQueue>> TakeEvents();
  void Adopt(const std::shared_ptr<Object>& child) { AddChild(child); }

 protected:
  void OnClose() override { channel_.reset(); }

 private:
  std::shared_ptr<Device> device_;
  ChannelPtr channel_;
  const bool shared_;
};

}  // namespace rdma
