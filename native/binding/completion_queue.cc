#include "../core/completion_queue.h"

#include "args.h"
#include "channel_poller.h"
#include "cq_poller.h"

namespace binding {

namespace {

using rdma::Kind;

constexpr uint32_t kTimestamps = 1;
constexpr uint32_t kSolicitedOnly = 2;

/// createChannel(device): handle
Napi::Value CreateChannel(const Napi::CallbackInfo& info) {
  EnvState* state = EnvState::From(info.Env());
  const auto device = Object<rdma::Device>(info, 0, Kind::kDevice);
  const auto channel = rdma::CompletionChannel::Create(device, true);
  const auto poller = std::make_shared<ChannelPoller>(state, channel);
  device->Adopt(channel);
  channel->on_closing = [poller] { poller->Stop(); };
  return Napi::Number::New(info.Env(), state->Register(channel, poller));
}

/// createCq(device, cqe, channel or 0, compVector, flags, ring, callback): [handle, cqe, fd]. callback(n)
/// after n completions came into the ring, or a negative errno when the queue has failed.
Napi::Value CreateCq(const Napi::CallbackInfo& info) {
  EnvState* state = EnvState::From(info.Env());
  const auto device = Object<rdma::Device>(info, 0, Kind::kDevice);
  const uint32_t channel = U32(info, 2);
  const uint32_t flags = U32(info, 4);
  rdma::CompletionQueueSpec spec;
  spec.cqe = U32(info, 1);
  if (channel != 0) spec.channel = Object<rdma::CompletionChannel>(info, 2, Kind::kCompletionChannel);
  spec.comp_vector = U32(info, 3);
  spec.timestamps = (flags & kTimestamps) != 0;
  spec.solicited_only = (flags & kSolicitedOnly) != 0;
  const Bytes ring = View(info, 5);
  const auto capacity = static_cast<uint32_t>(ring.length / sizeof(rdma::CompletionSlot));
  const Napi::Function callback = Callback(info, 6);
  if (capacity == 0) throw Napi::RangeError::New(info.Env(), "ring: at least one completion slot");
  const auto cq = rdma::CompletionQueue::Create(device, spec);
  auto channel_poller = channel != 0 ? static_cast<ChannelPoller*>(state->Kept(channel))->shared_from_this()
                                     : std::make_shared<ChannelPoller>(state, cq->channel());
  const auto poller = std::make_shared<CqPoller>(
      state, cq, std::move(channel_poller), reinterpret_cast<rdma::CompletionSlot*>(ring.data), capacity,
      std::make_unique<ValueRef>(info.Env(), info[5]), std::make_unique<ValueRef>(info.Env(), callback));
  cq->on_closing = [poller] { poller->Stop(); };
  Napi::Array result = Napi::Array::New(info.Env(), 3);
  result.Set(0u, Napi::Number::New(info.Env(), state->Register(cq, poller)));
  result.Set(1u, Napi::Number::New(info.Env(), cq->cqe()));
  result.Set(2u, Napi::Number::New(info.Env(), cq->channel()->fd()));
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

/// pollCq(handle, microseconds): how many completions are now in the ring, or a negative errno; waits so long
/// for the first. Raw N-API: a busy loop calls it.
napi_value PollCq(napi_env env, napi_callback_info info) {
  size_t argc = 2;
  napi_value argv[2];
  uint32_t handle = 0;
  uint32_t microseconds = 0;
  napi_get_cb_info(env, info, &argc, argv, nullptr, nullptr);
  napi_get_value_uint32(env, argv[0], &handle);
  napi_get_value_uint32(env, argv[1], &microseconds);
  EnvState* state = EnvState::From(env);
  int32_t count = -EBADF;
  if (state->Find(handle, Kind::kCompletionQueue) != nullptr) {
    try {
      auto* poller = static_cast<CqPoller*>(state->Kept(handle));
      count = static_cast<int32_t>(microseconds == 0 ? poller->Poll() : poller->PollFor(microseconds));
    } catch (const rdma::Error& error) {
      count = -error.err();
    }
  }
  napi_value result = nullptr;
  napi_create_int32(env, count, &result);
  return result;
}

/// setBusyPoll(handle, microseconds)
Napi::Value SetBusyPoll(const Napi::CallbackInfo& info) {
  Poller(info)->SetBusyPoll(U32(info, 1));
  return info.Env().Undefined();
}

/// refCq(handle, ref)
Napi::Value RefCq(const Napi::CallbackInfo& info) {
  Poller(info)->SetRef(info[1].ToBoolean());
  return info.Env().Undefined();
}

/// resizeCq(handle, cqe): the entries that the device granted
Napi::Value ResizeCq(const Napi::CallbackInfo& info) {
  const auto cq = Object<rdma::CompletionQueue>(info, 0, Kind::kCompletionQueue);
  cq->Resize(U32(info, 1));
  return Napi::Number::New(info.Env(), cq->cqe());
}

/// moderateCq(handle, count, period)
Napi::Value ModerateCq(const Napi::CallbackInfo& info) {
  Object<rdma::CompletionQueue>(info, 0, Kind::kCompletionQueue)
      ->Moderate(static_cast<uint16_t>(U32(info, 1)), static_cast<uint16_t>(U32(info, 2)));
  return info.Env().Undefined();
}

/// cqReserved(handle): entries that are set aside for the queue pairs of the queue
Napi::Value CqReserved(const Napi::CallbackInfo& info) {
  const auto cq = Object<rdma::CompletionQueue>(info, 0, Kind::kCompletionQueue);
  return Napi::Number::New(info.Env(), cq->reserved());
}

}  // namespace

void RegisterCompletionQueue(Napi::Env env, Napi::Object exports) {
  Export<CreateChannel>(env, exports, "createChannel");
  Export<CreateCq>(env, exports, "createCq");
  Export<ResizeCq>(env, exports, "resizeCq");
  Export<ModerateCq>(env, exports, "moderateCq");
  Export<CqReserved>(env, exports, "cqReserved");
  Export<RefCq>(env, exports, "refCq");
  Export<SetBusyPoll>(env, exports, "setBusyPoll");
  ExportRaw(env, exports, "pollCq", PollCq);
}

}  // namespace binding
