#include "completion_channel.h"

#include "completion_queue.h"

namespace rdma {

namespace {

/// An acknowledgement takes a mutex (ibv_ack_cq_events(3)).
constexpr unsigned int kAckBatch = 64;

}  // namespace

std::shared_ptr<CompletionChannel> CompletionChannel::Create(const std::shared_ptr<Device>& device,
                                                             bool shared) {
  return std::make_shared<CompletionChannel>(device, CreateCompChannel(device->context()), shared);
}

std::vector<std::shared_ptr<CompletionQueue>> CompletionChannel::TakeEvents() {
  std::vector<std::shared_ptr<CompletionQueue>> woken;
  ibv_cq* cq = nullptr;
  void* context = nullptr;
  while (ibv_get_cq_event(channel_.get(), &cq, &context) == 0) {
    auto* handle = static_cast<CqHandle*>(context);
    if (handle->owner == nullptr) {
      // Closed, but another thread still holds a queue pair of it. That thread may be in ibv_destroy_cq(3),
      // which waits for this.
      ibv_ack_cq_events(cq, 1);
      continue;
    }
    woken.push_back(std::static_pointer_cast<CompletionQueue>(handle->owner->shared_from_this()));
    if (++handle->unacked == kAckBatch) {
      ibv_ack_cq_events(cq, handle->unacked);
      handle->unacked = 0;
    }
    if (!shared_) break;
  }
  return woken;
}

}  // namespace rdma
