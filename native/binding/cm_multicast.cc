#include "../core/cm.h"
#include "cm_values.h"

namespace binding {

namespace {

using rdma::CmId;
using rdma::Kind;

/// joinMulticast(id, token, host, port, scopeId, sendOnly)
Napi::Value JoinMulticast(const Napi::CallbackInfo& info) {
  const bool send_only = info[5].ToBoolean();
  Object<CmId>(info, 0, Kind::kCmId)
      ->Join(U32(info, 1), AddressAt(info, 2),
             send_only ? RDMA_MC_JOIN_FLAG_SENDONLY_FULLMEMBER : RDMA_MC_JOIN_FLAG_FULLMEMBER);
  return info.Env().Undefined();
}

/// leaveMulticast(id, token)
Napi::Value LeaveMulticast(const Napi::CallbackInfo& info) {
  Object<CmId>(info, 0, Kind::kCmId)->Leave(U32(info, 1));
  return info.Env().Undefined();
}

}  // namespace

void RegisterCmMulticast(Napi::Env env, Napi::Object exports) {
  Export<JoinMulticast>(env, exports, "joinMulticast");
  Export<LeaveMulticast>(env, exports, "leaveMulticast");
}

}  // namespace binding
