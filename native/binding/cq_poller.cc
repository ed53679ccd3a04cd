#include "cq_poller.h"

#include "../core/error.h"

namespace binding {

namespace {

constexpr int kBatchesPerTurn = 4;

}  // namespace

CqPoller::CqPoller(EnvState* state, std::shared_ptr<rdma::CompletionQueue> cq, rdma::CompletionSlot* ring,
                   uint32_t capacity, std::unique_ptr<ValueRef> ring_ref, std::unique_ptr<ValueRef> callback)
    : state_(state),
      cq_(std::move(cq)),
      ring_(ring),
      capacity_(capacity),
      ring_ref_(std::move(ring_ref)),
      callback_(std::move(callback)),
      poll_(state->HoldForClose()),
      again_(state->HoldForClose()) {
  rdma::Check(uv_poll_init(state->loop(), poll_.get(), cq_->fd()), "uv_poll_init");
  poll_.MarkInitialised();
  poll_.get()->data = this;
  uv_idle_init(state->loop(), again_.get());
  again_.MarkInitialised();
  again_.get()->data = this;
  cq_->on_busy = [this](bool busy) {
    busy_ = busy;
    UpdateRef();
  };
  UpdateRef();
  cq_->Arm();
  rdma::Check(uv_poll_start(poll_.get(), UV_READABLE,
                            [](uv_poll_t* handle, int, int) {
                              auto* self = static_cast<CqPoller*>(handle->data);
                              self->cq_->DrainEvents();
                              self->Run();
                            }),
              "uv_poll_start");
}

void CqPoller::SetRef(bool ref) {
  wanted_ref_ = ref;
  UpdateRef();
}

void CqPoller::UpdateRef() {
  if (stopped_) return;
  auto* handle = reinterpret_cast<uv_handle_t*>(poll_.get());
  if (wanted_ref_ && busy_) {
    uv_ref(handle);
  } else {
    uv_unref(handle);
  }
}

void CqPoller::Stop() {
  if (stopped_) return;
  stopped_ = true;
  cq_->on_busy = nullptr;
  poll_.Close();
  again_.Close();
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
