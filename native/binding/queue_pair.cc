#include "../core/queue_pair.h"

#include "args.h"
#include "qp_attr.h"

namespace binding {

namespace {

using rdma::Kind;
using rdma::QueuePair;

Napi::Object DescribeQueue(Napi::Env env, const rdma::QueueLimits& limits) {
  Napi::Object result = Napi::Object::New(env);
  result.Set("maxWr", Napi::Number::New(env, limits.max_wr));
  result.Set("capacity", Napi::Number::New(env, limits.capacity));
  result.Set("maxSge", Napi::Number::New(env, limits.max_sge));
  result.Set("maxSgeRead", Napi::Number::New(env, limits.max_sge_read));
  result.Set("maxInline", Napi::Number::New(env, limits.max_inline));
  result.Set("maxMessage", Napi::Number::New(env, static_cast<double>(limits.max_message)));
  result.Set("type", Napi::Number::New(env, limits.type));
  result.Set("signalAll", Napi::Boolean::New(env, limits.signal_all));
  result.Set("ringBytes", Napi::Number::New(env, static_cast<double>(rdma::WorkRing::Bytes(
                                                     limits.capacity, limits.max_sge, limits.max_inline))));
  return result;
}

template <typename T>
std::shared_ptr<T> ObjectField(const Napi::Object& object, const char* name, Kind kind) {
  const uint32_t handle = Field(object, name);
  if (handle == 0) return nullptr;
  auto* found = EnvState::From(object.Env())->Find(handle, kind);
  if (found == nullptr) throw rdma::Error("close", EBADF, "the object is closed");
  return std::static_pointer_cast<T>(found->shared_from_this());
}

rdma::QueuePairSpec Spec(const Napi::Object& from) {
  rdma::QueuePairSpec spec;
  spec.type = static_cast<ibv_qp_type>(Field(from, "type"));
  spec.pd = ObjectField<rdma::ProtectionDomain>(from, "pd", Kind::kProtectionDomain);
  spec.send_cq = ObjectField<rdma::CompletionQueue>(from, "sendCq", Kind::kCompletionQueue);
  spec.recv_cq = ObjectField<rdma::CompletionQueue>(from, "recvCq", Kind::kCompletionQueue);
  spec.srq = ObjectField<rdma::SharedReceiveQueue>(from, "srq", Kind::kSharedReceiveQueue);
  spec.id = ObjectField<rdma::CmId>(from, "id", Kind::kCmId);
  spec.xrcd = ObjectField<rdma::XrcDomain>(from, "xrcd", Kind::kXrcDomain);
  spec.caps = {Field(from, "maxSendWr"), Field(from, "maxRecvWr"), Field(from, "maxSendSge"),
               Field(from, "maxRecvSge"), Field(from, "maxInlineData")};
  spec.port = static_cast<uint8_t>(Field(from, "port"));
  spec.signal_all = from.Get("signalAll").ToBoolean();
  spec.create_flags = Field(from, "createFlags");
  spec.source_qpn = Field(from, "sourceQpn");
  return spec;
}

/// createQp(spec): see NativeQpSpec in lib/native/queue-pair.ts
Napi::Value CreateQp(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const rdma::QueuePairSpec spec = Spec(info[0].As<Napi::Object>());
  const auto qp = QueuePair::Create(spec);
  const uint32_t handle = EnvState::From(env)->Register(qp);
  qp->Register();
  Napi::Object result = Napi::Object::New(env);
  result.Set("handle", Napi::Number::New(env, handle));
  result.Set("qpNum", Napi::Number::New(env, qp->qp_num()));
  result.Set("port", Napi::Number::New(env, spec.id ? spec.id->id()->port_num : spec.port));
  result.Set("send", DescribeQueue(env, qp->send_queue().limits()));
  result.Set("recv", DescribeQueue(env, qp->recv_queue().limits()));
  return result;
}

rdma::WorkRing RingOf(const Napi::CallbackInfo& info, size_t i, const rdma::QueueLimits& limits) {
  const Bytes bytes = View(info, i);
  if (bytes.length != rdma::WorkRing::Bytes(limits.capacity, limits.max_sge, limits.max_inline)) {
    throw Napi::RangeError::New(info.Env(), "a work ring of another size than the queue's");
  }
  return rdma::WorkRing::At(bytes.data, limits.capacity, limits.max_sge);
}

/// attachRings(qp, sendRing, recvRing): the memory that posts are read from.
Napi::Value AttachRings(const Napi::CallbackInfo& info) {
  const auto qp = Object<QueuePair>(info, 0, Kind::kQueuePair);
  qp->send_queue().Attach(RingOf(info, 1, qp->send_queue().limits()));
  qp->recv_queue().Attach(RingOf(info, 2, qp->recv_queue().limits()));
  // on_closing runs before the queue pair goes; the rings may go only after it.
  auto refs = std::make_shared<std::pair<ValueRef, ValueRef>>(std::piecewise_construct,
                                                              std::forward_as_tuple(info.Env(), info[1]),
                                                              std::forward_as_tuple(info.Env(), info[2]));
  qp->on_closed = [refs, forget = std::move(qp->on_closed)] { forget(); };
  return info.Env().Undefined();
}

/// The hot path: raw N-API, three numbers in, one out; what went wrong is in the shared PostStatus.
template <int (QueuePair::*Post)(uint32_t, uint32_t, rdma::PostStatus*)>
napi_value PostCallback(napi_env env, napi_callback_info info) {
  size_t argc = 3;
  napi_value argv[3];
  uint32_t args[3] = {};
  napi_get_cb_info(env, info, &argc, argv, nullptr, nullptr);
  for (size_t i = 0; i < 3; ++i) napi_get_value_uint32(env, argv[i], &args[i]);
  EnvState* state = EnvState::From(env);
  auto* qp = static_cast<QueuePair*>(state->Find(args[0], Kind::kQueuePair));
  int err = 0;
  if (qp == nullptr) {
    *state->post_status() = {};
    state->post_status()->check = static_cast<uint32_t>(rdma::PostCheck::kClosed);
    err = EBADF;
  } else {
    err = (qp->*Post)(args[1], args[2], state->post_status());
  }
  napi_value result = nullptr;
  napi_create_int32(env, err, &result);
  return result;
}

/// skipPosts(qp, receive, count)
Napi::Value SkipPosts(const Napi::CallbackInfo& info) {
  Object<QueuePair>(info, 0, Kind::kQueuePair)->Skip(info[1].ToBoolean(), U32(info, 2));
  return info.Env().Undefined();
}

/// retireSkipped(qp, receive, seq): the oldest sequence number in flight then; undefined when [seq] is not
Napi::Value RetireSkipped(const Napi::CallbackInfo& info) {
  const auto qp = Object<QueuePair>(info, 0, Kind::kQueuePair);
  ibv_wc wc = {};
  wc.status = IBV_WC_WR_FLUSH_ERR;
  rdma::CompletionSlot slot = {};
  if (!qp->Complete(info[1].ToBoolean(), U32(info, 2), wc, &slot)) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), slot.head);
}

Napi::Value QueryQpState(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), Object<QueuePair>(info, 0, Kind::kQueuePair)->QueryState());
}

Napi::Value QpToError(const Napi::CallbackInfo& info) {
  Object<QueuePair>(info, 0, Kind::kQueuePair)->ToError();
  return info.Env().Undefined();
}

/// modifyQp(qp, attr, mask)
Napi::Value ModifyQp(const Napi::CallbackInfo& info) {
  const ibv_qp_attr attr = ToQpAttr(info[1].As<Napi::Object>());
  Object<QueuePair>(info, 0, Kind::kQueuePair)->Modify(attr, static_cast<int>(U32(info, 2)));
  return info.Env().Undefined();
}

Napi::Value QueryQp(const Napi::CallbackInfo& info) {
  return FromQpAttr(info.Env(), Object<QueuePair>(info, 0, Kind::kQueuePair)->Query());
}

Napi::Value RetireQp(const Napi::CallbackInfo& info) {
  Object<QueuePair>(info, 0, Kind::kQueuePair)->RetireAll();
  return info.Env().Undefined();
}

Napi::Value QueryEce(const Napi::CallbackInfo& info) {
  const ibv_ece ece = Object<QueuePair>(info, 0, Kind::kQueuePair)->QueryEce();
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("vendorId", Napi::Number::New(info.Env(), ece.vendor_id));
  result.Set("options", Napi::Number::New(info.Env(), ece.options));
  result.Set("compMask", Napi::Number::New(info.Env(), ece.comp_mask));
  return result;
}

/// setEce(qp, vendorId, options, compMask)
Napi::Value SetEce(const Napi::CallbackInfo& info) {
  Object<QueuePair>(info, 0, Kind::kQueuePair)->SetEce({U32(info, 1), U32(info, 2), U32(info, 3)});
  return info.Env().Undefined();
}

/// queryDataInOrder(qp, opcode, flags)
Napi::Value QueryDataInOrder(const Napi::CallbackInfo& info) {
  const auto qp = Object<QueuePair>(info, 0, Kind::kQueuePair);
  return Napi::Boolean::New(info.Env(),
                            qp->DataInOrder(static_cast<ibv_wr_opcode>(U32(info, 1)), U32(info, 2)));
}

/// modifyRateLimit(qp, rateLimit, maxBurstSz, typicalPktSz)
Napi::Value ModifyRateLimit(const Napi::CallbackInfo& info) {
  ibv_qp_rate_limit_attr attr = {};
  attr.rate_limit = U32(info, 1);
  attr.max_burst_sz = U32(info, 2);
  attr.typical_pkt_sz = static_cast<uint16_t>(U32(info, 3));
  Object<QueuePair>(info, 0, Kind::kQueuePair)->ModifyRateLimit(attr);
  return info.Env().Undefined();
}

/// attachMcast(qp, gid, lid)
Napi::Value AttachMcast(const Napi::CallbackInfo& info) {
  Object<QueuePair>(info, 0, Kind::kQueuePair)
      ->AttachMcast(ParseGid(Text(info, 1)), static_cast<uint16_t>(U32(info, 2)));
  return info.Env().Undefined();
}

Napi::Value DetachMcast(const Napi::CallbackInfo& info) {
  Object<QueuePair>(info, 0, Kind::kQueuePair)
      ->DetachMcast(ParseGid(Text(info, 1)), static_cast<uint16_t>(U32(info, 2)));
  return info.Env().Undefined();
}

Napi::Value SetMinRnrTimer(const Napi::CallbackInfo& info) {
  Object<QueuePair>(info, 0, Kind::kQueuePair)->SetMinRnrTimer(static_cast<uint8_t>(U32(info, 1)));
  return info.Env().Undefined();
}

}  // namespace

void RegisterQueuePair(Napi::Env env, Napi::Object exports) {
  Export<CreateQp>(env, exports, "createQp");
  Export<AttachRings>(env, exports, "attachRings");
  Export<SkipPosts>(env, exports, "skipPosts");
  Export<RetireSkipped>(env, exports, "retireSkipped");
  Export<QueryQpState>(env, exports, "queryQpState");
  Export<QpToError>(env, exports, "qpToError");
  Export<ModifyQp>(env, exports, "modifyQp");
  Export<QueryQp>(env, exports, "queryQp");
  Export<RetireQp>(env, exports, "retireQp");
  Export<QueryEce>(env, exports, "queryEce");
  Export<SetEce>(env, exports, "setEce");
  Export<QueryDataInOrder>(env, exports, "queryDataInOrder");
  Export<ModifyRateLimit>(env, exports, "modifyRateLimit");
  Export<AttachMcast>(env, exports, "attachMcast");
  Export<DetachMcast>(env, exports, "detachMcast");
  Export<SetMinRnrTimer>(env, exports, "setMinRnrTimer");
  ExportRaw(env, exports, "postSend", PostCallback<&QueuePair::PostSend>);
  ExportRaw(env, exports, "postRecv", PostCallback<&QueuePair::PostRecv>);
}

}  // namespace binding
