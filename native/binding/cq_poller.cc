#include "cq_poller.h"

#include <sched.h>

#include <algorithm>

#include "../core/cycle_clock.h"
#include "../core/error.h"

namespace binding {

namespace {

constexpr int kBatchesPerTurn = 4;
/// How long one turn of the loop may look for completions that are not there yet.
constexpr uint32_t kSliceMicroseconds = 50;
/// A soft device works in threads of the kernel, which want a processor; where a system call is dear
/// (softrdma) it must be rare.
constexpr uint64_t kMicrosecondsPerYield = 50;

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

uint32_t CqPoller::PollFor(uint32_t microseconds) {
  uint32_t filled = Poll();
  if (filled != 0 || microseconds == 0) return filled;
  const uint64_t limit = microseconds * rdma::CyclesPerMicrosecond();
  const uint64_t turn = kMicrosecondsPerYield * rdma::CyclesPerMicrosecond();
  const uint64_t start = rdma::Cycles();
  uint64_t yielded = start;
  for (uint64_t now = start; filled == 0 && now - start < limit; now = rdma::Cycles()) {
    if (now - yielded >= turn) {
      sched_yield();
      yielded = rdma::Cycles();
    }
    filled = Poll();
  }
  return filled;
}

bool CqPoller::Busy() const {
  return rdma::Cycles() - completed_ < busy_poll_ * rdma::CyclesPerMicrosecond();
}

uint32_t CqPoller::Look(bool* again) {
  *again = false;
  uint32_t filled = Poll();
  if (filled == 0 && busy_poll_ != 0 && cq_->outstanding() != 0 && Busy()) {
    filled = PollFor(std::min(busy_poll_, kSliceMicroseconds));
    if (filled == 0 && Busy()) {
      *again = true;
      return 0;
    }
  }
  if (filled == 0) {
    cq_->Arm();
    filled = Poll();
  }
  if (filled != 0 && busy_poll_ != 0) completed_ = rdma::Cycles();
  return filled;
}

void CqPoller::Run() {
  Napi::HandleScope scope(state_->env());
  // JavaScript may close the queue during a call, and with it this object.
  const auto cq = cq_;
  for (int batch = 0; batch < kBatchesPerTurn; ++batch) {
    napi_value count = nullptr;
    try {
      bool again = false;
      const uint32_t filled = Look(&again);
      if (again) break;
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
