#include "../core/shared_receive_queue.h"

#include "args.h"

namespace binding {

namespace {

using rdma::Kind;
using rdma::SharedReceiveQueue;

/// The JavaScript memory that posts are read from; it stays while the queue does.
struct RingRefs {
  std::unique_ptr<ValueRef> ring;
  std::unique_ptr<ValueRef> batch;
};

/// createSrq(pd, maxWr, maxSge, limit, xrcd or 0, cq or 0): [handle, number of an XRC queue or 0]
Napi::Value CreateSrq(const Napi::CallbackInfo& info) {
  EnvState* state = EnvState::From(info.Env());
  rdma::SharedReceiveQueueSpec spec;
  spec.max_wr = U32(info, 1);
  spec.max_sge = U32(info, 2);
  spec.limit = U32(info, 3);
  if (U32(info, 4) != 0) {
    spec.xrcd = Object<rdma::XrcDomain>(info, 4, Kind::kXrcDomain);
    spec.cq = Object<rdma::CompletionQueue>(info, 5, Kind::kCompletionQueue);
  }
  const auto srq =
      SharedReceiveQueue::Create(Object<rdma::ProtectionDomain>(info, 0, Kind::kProtectionDomain), spec);
  const uint32_t handle = state->Register(srq, std::make_shared<RingRefs>());
  Napi::Array result = Napi::Array::New(info.Env(), 2);
  try {
    srq->Register();
    result.Set(1u, Napi::Number::New(info.Env(), spec.xrcd ? srq->Number() : 0));
  } catch (const rdma::Error&) {
    state->Close(handle);
    throw;
  }
  result.Set(0u, Napi::Number::New(info.Env(), handle));
  return result;
}

/// The memory that posts are read from, checked against [capacity].
struct Rings {
  rdma::WorkRing ring;
  const uint32_t* batch;
};

Rings RingsOf(const Napi::CallbackInfo& info, size_t i, uint32_t capacity, uint32_t max_sge) {
  const Bytes ring = View(info, i);
  const Bytes batch = View(info, i + 1);
  if (ring.length != rdma::WorkRing::Bytes(capacity, max_sge, 0) ||
      batch.length != size_t{capacity} * sizeof(uint32_t)) {
    throw Napi::RangeError::New(info.Env(), "a ring of another size than the queue's");
  }
  return {rdma::WorkRing::At(ring.data, capacity, max_sge), reinterpret_cast<const uint32_t*>(batch.data)};
}

void Attach(const Napi::CallbackInfo& info, size_t i, const std::shared_ptr<SharedReceiveQueue>& srq,
            const Rings& rings) {
  srq->queue().Attach(rings.ring, rings.batch);
  auto* refs = static_cast<RingRefs*>(EnvState::From(info.Env())->Kept(srq->handle));
  refs->ring = std::make_unique<ValueRef>(info.Env(), info[i]);
  refs->batch = std::make_unique<ValueRef>(info.Env(), info[i + 1]);
}

/// attachSrqRing(srq, ring, batch)
Napi::Value AttachSrqRing(const Napi::CallbackInfo& info) {
  const auto srq = Object<SharedReceiveQueue>(info, 0, Kind::kSharedReceiveQueue);
  const rdma::QueueLimits& limits = srq->queue().limits();
  Attach(info, 1, srq, RingsOf(info, 1, limits.capacity, limits.max_sge));
  return info.Env().Undefined();
}

/// resizeSrq(srq, maxWr, capacity, ring, batch): the memory is that for the new capacity, which may not be
/// less.
Napi::Value ResizeSrq(const Napi::CallbackInfo& info) {
  const auto srq = Object<SharedReceiveQueue>(info, 0, Kind::kSharedReceiveQueue);
  const uint32_t max_wr = U32(info, 1);
  const uint32_t capacity = U32(info, 2);
  const rdma::QueueLimits& limits = srq->queue().limits();
  if (capacity < limits.capacity || capacity < max_wr || capacity > rdma::SharedRecvQueue::kMaxSlots ||
      (capacity & (capacity - 1)) != 0) {
    throw Napi::RangeError::New(info.Env(), "capacity: a power of two, no less than before");
  }
  const Rings rings = RingsOf(info, 3, capacity, limits.max_sge);
  srq->Resize(max_wr, capacity);
  Attach(info, 3, srq, rings);
  return info.Env().Undefined();
}

/// setSrqLimit(srq, limit)
Napi::Value SetSrqLimit(const Napi::CallbackInfo& info) {
  Object<SharedReceiveQueue>(info, 0, Kind::kSharedReceiveQueue)->SetLimit(U32(info, 1));
  return info.Env().Undefined();
}

/// querySrq(srq): [maxWr, maxSge, limit]
Napi::Value QuerySrq(const Napi::CallbackInfo& info) {
  const ibv_srq_attr attr = Object<SharedReceiveQueue>(info, 0, Kind::kSharedReceiveQueue)->Query();
  Napi::Array result = Napi::Array::New(info.Env(), 3);
  result.Set(0u, Napi::Number::New(info.Env(), attr.max_wr));
  result.Set(1u, Napi::Number::New(info.Env(), attr.max_sge));
  result.Set(2u, Napi::Number::New(info.Env(), attr.srq_limit));
  return result;
}

/// postSrqRecv(srq, count): the hot path. Posts the first slots of the batch; what went wrong is in the
/// shared PostStatus.
napi_value PostSrqRecv(napi_env env, napi_callback_info info) {
  size_t argc = 2;
  napi_value argv[2];
  uint32_t args[2] = {};
  napi_get_cb_info(env, info, &argc, argv, nullptr, nullptr);
  for (size_t i = 0; i < 2; ++i) napi_get_value_uint32(env, argv[i], &args[i]);
  EnvState* state = EnvState::From(env);
  auto* srq = static_cast<SharedReceiveQueue*>(state->Find(args[0], Kind::kSharedReceiveQueue));
  int err = EBADF;
  if (srq == nullptr) {
    *state->post_status() = {};
    state->post_status()->check = static_cast<uint32_t>(rdma::PostCheck::kClosed);
  } else {
    err = srq->PostRecv(args[1], state->post_status());
  }
  napi_value result = nullptr;
  napi_create_int32(env, err, &result);
  return result;
}

}  // namespace

void RegisterSharedReceiveQueue(Napi::Env env, Napi::Object exports) {
  Export<CreateSrq>(env, exports, "createSrq");
  Export<AttachSrqRing>(env, exports, "attachSrqRing");
  Export<ResizeSrq>(env, exports, "resizeSrq");
  Export<SetSrqLimit>(env, exports, "setSrqLimit");
  Export<QuerySrq>(env, exports, "querySrq");
  ExportRaw(env, exports, "postSrqRecv", PostSrqRecv);
}

}  // namespace binding
