#include "../core/completion_queue.h"

#include "args.h"
#include "cq_poller.h"

namespace binding {

namespace {

using rdma::Kind;

/// createCq(device, cqe, ring, callback): [handle, cqe]. callback(n) after n completions came into the ring,
/// or a negative errno when the queue has failed.
Napi::Value CreateCq(const Napi::CallbackInfo& info) {
  EnvState* state = EnvState::From(info.Env());
  const auto device = Object<rdma::Device>(info, 0, Kind::kDevice);
  const uint32_t cqe = U32(info, 1);
  const Bytes ring = View(info, 2);
  const auto capacity = static_cast<uint32_t>(ring.length / sizeof(rdma::CompletionSlot));
  const Napi::Function callback = Callback(info, 3);
  if (capacity == 0) throw Napi::RangeError::New(info.Env(), "ring: at least one completion slot");
  const auto cq = rdma::CompletionQueue::Create(device, static_cast<int>(cqe));
  const auto poller = std::make_shared<CqPoller>(
      state, cq, reinterpret_cast<rdma::CompletionSlot*>(ring.data), capacity,
      std::make_unique<ValueRef>(info.Env(), info[2]), std::make_unique<ValueRef>(info.Env(), callback));
  cq->on_closing = [poller] { poller->Stop(); };
  Napi::Array result = Napi::Array::New(info.Env(), 2);
  result.Set(0u, Napi::Number::New(info.Env(), state->Register(cq, poller)));
  result.Set(1u, Napi::Number::New(info.Env(), cq->cqe()));
  return result;
}

CqPoller* Poller(const Napi::CallbackInfo& info) {
  EnvState* state = EnvState::From(info.Env());
  const uint32_t handle = U32(info, 0);
  if (state->Find(handle, Kind::kCompletionQueue) == nullptr) {
    throw rdma::Error("ibv_poll_cq", EBADF, "the completion queue is closed");
  }
  return static_cast<CqPoller*>(state->Kept(handle));
}

/// pollCq(handle): how many completions are now in the ring.
Napi::Value PollCq(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), Poller(info)->Poll());
}

/// refCq(handle, ref)
Napi::Value RefCq(const Napi::CallbackInfo& info) {
  Poller(info)->SetRef(info[1].ToBoolean());
  return info.Env().Undefined();
}

}  // namespace

void RegisterCompletionQueue(Napi::Env env, Napi::Object exports) {
  Export<CreateCq>(env, exports, "createCq");
  Export<PollCq>(env, exports, "pollCq");
  Export<RefCq>(env, exports, "refCq");
}

}  // namespace binding
