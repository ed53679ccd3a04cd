#include "channel_poller.h"

#include "../core/completion_queue.h"
#include "../core/error.h"

namespace binding {

namespace {

void OnReadable(uv_poll_t* handle, int, int) {
  for (const auto& cq : static_cast<rdma::CompletionChannel*>(handle->data)->TakeEvents()) {
    // JavaScript that runs for one queue may close any, and with it what is called here.
    const auto on_event = cq->on_event;
    if (on_event) on_event();
  }
}

}  // namespace

ChannelPoller::ChannelPoller(EnvState* state, std::shared_ptr<rdma::CompletionChannel> channel)
    : channel_(std::move(channel)), poll_(state->HoldForClose()) {
  rdma::Check(uv_poll_init(state->loop(), poll_.get(), channel_->fd()), "uv_poll_init");
  poll_.MarkInitialised();
  poll_.get()->data = channel_.get();
  uv_unref(reinterpret_cast<uv_handle_t*>(poll_.get()));
  rdma::Check(uv_poll_start(poll_.get(), UV_READABLE, OnReadable), "uv_poll_start");
}

void ChannelPoller::Hold(bool hold) {
  holds_ += hold ? 1u : -1u;
  if (stopped_) return;
  auto* handle = reinterpret_cast<uv_handle_t*>(poll_.get());
  if (holds_ != 0) {
    uv_ref(handle);
  } else {
    uv_unref(handle);
  }
}

void ChannelPoller::Stop() {
  if (stopped_) return;
  stopped_ = true;
  poll_.Close();
}

}  // namespace binding
