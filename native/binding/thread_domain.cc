#include "../core/thread_domain.h"

#include "../core/memory.h"
#include "args.h"

namespace binding {

namespace {

using rdma::Kind;
using rdma::ProtectionDomain;
using rdma::ThreadDomain;

/// allocTd(device)
Napi::Value AllocTd(const Napi::CallbackInfo& info) {
  const auto td = ThreadDomain::Alloc(Object<rdma::Device>(info, 0, Kind::kDevice));
  return Napi::Number::New(info.Env(), EnvState::From(info.Env())->Register(td));
}

/// allocParentDomain(pd, td or 0)
Napi::Value AllocParentDomain(const Napi::CallbackInfo& info) {
  const auto pd = Object<ProtectionDomain>(info, 0, Kind::kProtectionDomain);
  const auto td = U32(info, 1) == 0 ? nullptr : Object<ThreadDomain>(info, 1, Kind::kThreadDomain);
  const auto parent = ProtectionDomain::AllocParent(pd, td);
  return Napi::Number::New(info.Env(), EnvState::From(info.Env())->Register(parent));
}

}  // namespace

void RegisterThreadDomain(Napi::Env env, Napi::Object exports) {
  Export<AllocTd>(env, exports, "allocTd");
  Export<AllocParentDomain>(env, exports, "allocParentDomain");
}

}  // namespace binding
