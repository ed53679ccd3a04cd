#include "cq_poller.h"

#include "../core/error.h"

namespace binding {

namespace {

constexpr int kBatchesPerTurn = 4;

}  // namespace

CqPoller::CqPoller(EnvState* state, std::shared_ptr<rdma::CompletionQueue> cq,
                   std::shared_ptr<ChannelPoller> channel, rdma::CompletionSlot* ring, uint32_t capacity,
                   std::unique_ptr<ValueRef> ring_ref, std::unique_ptr<ValueRef> callback)
    : state_(state),
      cq_(std::move(cq)),
      channel_(std::move(channel)),
      ring_(ring),
      capacity_(capacity),
      ring_ref_(std::move(ring_ref)),
      callback_(std::move(callback)),
      again_(state->HoldForClose()) {
  uv_idle_init(state->loop(), again_.get());
  again_.MarkInitialised();
  again_.get()->data = this;
  cq_->on_busy = [this](bool busy) {
    busy_ = busy;
    UpdateRef();
  };
  cq_->on_event = [this] { Run(); };
  cq_->Arm();
}

void CqPoller::SetRef(bool ref) {
  wanted_ref_ = ref;
  UpdateRef();
}

void CqPoller::UpdateRef() {
  const bool hold = wanted_ref_ && busy_ && !stopped_;
  if (hold == holding_) return;
  holding_ = hold;
  channel_->Hold(hold);
}

void CqPoller::Stop() {
  if (stopped_) return;
  stopped_ = true;
  cq_->on_busy = nullptr;
  cq_->on_event = nullptr;
  UpdateRef();
  again_.Close();
  if (cq_->own_channel()) channel_->Stop();
}

void CqPoller::Run() {
  Napi::HandleScope scope(state_->env());
  // JavaScript may close the queue during a call, and with it this object.
  const auto cq = cq_;
  for (int batch = 0; batch < kBatchesPerTurn; ++batch) {
    napi_value count = nullptr;
    try {
      uint32_t filled = Poll();
      if (filled == 0) {
        cq->Arm();
        filled = Poll();
      }
      if (filled == 0) {
        uv_idle_stop(again_.get());
        return;
      }
      napi_create_uint32(state_->env(), filled, &count);
    } catch (const rdma::Error& error) {
      napi_create_int32(state_->env(), -error.err(), &count);
    }
    CallFromLoop(state_, *callback_, {count});
    if (cq->closed() || state_->closing()) return;
  }
  uv_idle_start(again_.get(), [](uv_idle_t* handle) { static_cast<CqPoller*>(handle->data)->Run(); });
}

}  // namespace binding
