#include "cm_values.h"

#include <utility>

#include "qp_attr.h"

namespace binding {

namespace {

void SetNumber(Napi::Object object, const char* name, uint32_t value) {
  object.Set(name, Napi::Number::New(object.Env(), value));
}

}  // namespace

Napi::Value AddressValue(Napi::Env env, const std::optional<rdma::SocketAddress>& address) {
  if (!address) return env.Undefined();
  Napi::Object result = Napi::Object::New(env);
  result.Set("host", address->host);
  SetNumber(result, "port", address->port);
  result.Set("family", address->v6 ? "IPv6" : "IPv4");
  if (address->scope_id != 0) SetNumber(result, "scopeId", address->scope_id);
  return result;
}

Napi::Value BytesValue(Napi::Env env, const std::vector<uint8_t>& bytes) {
  return Napi::Buffer<uint8_t>::Copy(env, bytes.data(), bytes.size());
}

Napi::Object QpAttrValue(Napi::Env env, const ibv_qp_attr& attr, int mask) {
  constexpr std::pair<int, const char*> kNames[] = {
      {IBV_QP_STATE, "state"},
      {IBV_QP_ACCESS_FLAGS, "accessFlags"},
      {IBV_QP_PKEY_INDEX, "pkeyIndex"},
      {IBV_QP_PORT, "port"},
      {IBV_QP_QKEY, "qkey"},
      {IBV_QP_AV, "ahAttr"},
      {IBV_QP_PATH_MTU, "pathMtu"},
      {IBV_QP_TIMEOUT, "timeout"},
      {IBV_QP_RETRY_CNT, "retryCnt"},
      {IBV_QP_RNR_RETRY, "rnrRetry"},
      {IBV_QP_RQ_PSN, "rqPsn"},
      {IBV_QP_SQ_PSN, "sqPsn"},
      {IBV_QP_MAX_QP_RD_ATOMIC, "maxRdAtomic"},
      {IBV_QP_MAX_DEST_RD_ATOMIC, "maxDestRdAtomic"},
      {IBV_QP_MIN_RNR_TIMER, "minRnrTimer"},
      {IBV_QP_DEST_QPN, "destQpNum"},
      {IBV_QP_PATH_MIG_STATE, "pathMigState"},
  };
  const Napi::Object all = FromQpAttr(env, attr);
  Napi::Object result = Napi::Object::New(env);
  for (const auto& [bit, name] : kNames) {
    if ((mask & bit) != 0) result.Set(name, all.Get(name));
  }
  return result;
}

}  // namespace binding
