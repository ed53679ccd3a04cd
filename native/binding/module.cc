#include <cstddef>

#include "args.h"

namespace binding {

namespace {

#define FIELD(type, name) offsets.Set(#name, Napi::Number::New(env, offsetof(rdma::type, name) / 4))

/// The ring layout as this binary was built with it; lib/addon.ts compares it with its own.
Napi::Object Layout(Napi::Env env) {
  Napi::Object layout = Napi::Object::New(env);
  Napi::Object offsets = Napi::Object::New(env);
  FIELD(WorkRequestSlot, opcode);
  FIELD(WorkRequestSlot, send_flags);
  FIELD(WorkRequestSlot, num_sge);
  FIELD(WorkRequestSlot, inline_length);
  FIELD(WorkRequestSlot, imm_data);
  FIELD(WorkRequestSlot, rkey);
  FIELD(WorkRequestSlot, remote_addr_lo);
  FIELD(WorkRequestSlot, remote_addr_hi);
  FIELD(WorkRequestSlot, arg_lo);
  FIELD(WorkRequestSlot, arg_hi);
  FIELD(WorkRequestSlot, arg2_lo);
  FIELD(WorkRequestSlot, arg2_hi);
  FIELD(WorkRequestSlot, object);
  FIELD(WorkRequestSlot, object2);
  FIELD(WorkRequestSlot, remote_qpn);
  FIELD(WorkRequestSlot, remote_qkey);
  offsets.Set("words", Napi::Number::New(env, sizeof(rdma::WorkRequestSlot) / 4));
  layout.Set("workRequest", offsets);

  offsets = Napi::Object::New(env);
  FIELD(SgeSlot, addr_lo);
  FIELD(SgeSlot, addr_hi);
  FIELD(SgeSlot, length);
  FIELD(SgeSlot, lkey);
  offsets.Set("words", Napi::Number::New(env, sizeof(rdma::SgeSlot) / 4));
  layout.Set("sge", offsets);

  offsets = Napi::Object::New(env);
  FIELD(CompletionSlot, queue);
  FIELD(CompletionSlot, seq);
  FIELD(CompletionSlot, status);
  FIELD(CompletionSlot, opcode);
  FIELD(CompletionSlot, byte_len);
  FIELD(CompletionSlot, wc_flags);
  FIELD(CompletionSlot, imm_data);
  FIELD(CompletionSlot, vendor_err);
  FIELD(CompletionSlot, qp_num);
  FIELD(CompletionSlot, src_qp);
  FIELD(CompletionSlot, pkey_index);
  FIELD(CompletionSlot, path);
  FIELD(CompletionSlot, implied);
  FIELD(CompletionSlot, head);
  FIELD(CompletionSlot, timestamp_lo);
  FIELD(CompletionSlot, timestamp_hi);
  offsets.Set("words", Napi::Number::New(env, sizeof(rdma::CompletionSlot) / 4));
  layout.Set("completion", offsets);

  offsets = Napi::Object::New(env);
  FIELD(PostStatus, posted);
  FIELD(PostStatus, wr_index);
  FIELD(PostStatus, check);
  FIELD(PostStatus, sge_index);
  FIELD(PostStatus, value);
  FIELD(PostStatus, limit);
  offsets.Set("words", Napi::Number::New(env, sizeof(rdma::PostStatus) / 4));
  layout.Set("postStatus", offsets);
  layout.Set("postChecks", Napi::Number::New(env, static_cast<double>(rdma::PostCheck::kCount)));
  return layout;
}

#undef FIELD

/// initialise(makeError, postStatus): gives the environment its error factory and the words for post
/// failures.
Napi::Value Initialise(const Napi::CallbackInfo& info) {
  EnvState* state = EnvState::From(info.Env());
  state->SetErrorFactory(Callback(info, 0));
  const Bytes status = View(info, 1);
  if (status.length != sizeof(rdma::PostStatus)) {
    throw Napi::RangeError::New(info.Env(),
                                "postStatus: " + std::to_string(sizeof(rdma::PostStatus)) + " bytes");
  }
  state->SetPostStatus(info[1], reinterpret_cast<rdma::PostStatus*>(status.data));
  return info.Env().Undefined();
}

/// close(handle): closes the object and its children; returns the handles that have gone.
Napi::Value Close(const Napi::CallbackInfo& info) {
  const std::vector<uint32_t> closed = EnvState::From(info.Env())->Close(U32(info, 0));
  Napi::Array handles = Napi::Array::New(info.Env(), closed.size());
  for (uint32_t i = 0; i < closed.size(); ++i) handles.Set(i, Napi::Number::New(info.Env(), closed[i]));
  return handles;
}

Napi::Value LiveObjects(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(EnvState::From(info.Env())->live_objects()));
}

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  EnvState::Create(env);
  exports.Set("layout", Layout(env));
  Export<Initialise>(env, exports, "initialise");
  Export<Close>(env, exports, "close");
  Export<LiveObjects>(env, exports, "liveObjects");
  RegisterDevice(env, exports);
  RegisterQuirks(env, exports);
  RegisterDeviceQuery(env, exports);
  RegisterMemory(env, exports);
  RegisterAddressWindow(env, exports);
  RegisterChunk(env, exports);
  RegisterDeviceMemory(env, exports);
  RegisterThreadDomain(env, exports);
  RegisterMemoryWindow(env, exports);
  RegisterCompletionQueue(env, exports);
  RegisterSharedReceiveQueue(env, exports);
  RegisterQueuePair(env, exports);
  RegisterAddressHandle(env, exports);
  RegisterCm(env, exports);
  return exports;
}

}  // namespace

}  // namespace binding

static Napi::Object InitModule(Napi::Env env, Napi::Object exports) { return binding::Init(env, exports); }

NODE_API_MODULE(node_rdma, InitModule)
