#include "../core/cm_addrinfo.h"

#include <optional>

#include "cm_values.h"
#include "work.h"

namespace binding {

namespace {

Napi::Value AddrInfoValue(Napi::Env env, const rdma::AddrInfo& info) {
  Napi::Object result = Napi::Object::New(env);
  result.Set("flags", Napi::Number::New(env, info.flags));
  result.Set("family", Napi::Number::New(env, info.family));
  result.Set("qpType", Napi::Number::New(env, info.qp_type));
  result.Set("portSpace", Napi::Number::New(env, info.port_space));
  result.Set("source", AddressValue(env, info.source));
  result.Set("target", AddressValue(env, info.target));
  result.Set("sourceName", info.source_name);
  result.Set("targetName", info.target_name);
  result.Set("route", BytesValue(env, info.route));
  result.Set("connectData", BytesValue(env, info.connect_data));
  return result;
}

/// getAddrInfo(node, service, flags, family, qpType, portSpace): Promise of an array; '' and 0 leave open.
Napi::Value GetAddrInfo(const Napi::CallbackInfo& info) {
  struct Job {
    rdma::AddrInfoRequest request;
    std::vector<rdma::AddrInfo> found;
  };
  const Napi::Env env = info.Env();
  auto job = std::make_shared<Job>();
  job->request.node = info[0].ToString().Utf8Value();
  job->request.service = info[1].ToString().Utf8Value();
  job->request.flags = static_cast<int>(U32(info, 2));
  job->request.family = static_cast<int>(U32(info, 3));
  job->request.qp_type = static_cast<int>(U32(info, 4));
  job->request.port_space = static_cast<int>(U32(info, 5));
  const auto deferred = Napi::Promise::Deferred::New(env);
  Work::Queue(
      env, [job] { job->found = rdma::GetAddrInfo(job->request); },
      [env, deferred, job](const std::optional<rdma::Error>& error) {
        if (error) {
          deferred.Reject(EnvState::From(env)->MakeError(error->syscall(), error->err(), error->detail()));
          return;
        }
        Napi::Array list = Napi::Array::New(env, job->found.size());
        for (uint32_t i = 0; i < job->found.size(); ++i) list.Set(i, AddrInfoValue(env, job->found[i]));
        deferred.Resolve(list);
      });
  return deferred.Promise();
}

}  // namespace

void RegisterCmAddrInfo(Napi::Env env, Napi::Object exports) {
  Export<GetAddrInfo>(env, exports, "getAddrInfo");
}

}  // namespace binding
