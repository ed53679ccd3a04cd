#include "region.h"

#include <cerrno>
#include <utility>

#include "work.h"

namespace binding {

RegionState* StateOf(napi_env env, uint32_t handle) {
  return static_cast<RegionState*>(EnvState::From(env)->Kept(handle));
}

Napi::Value DescribeRegion(Napi::Env env, const rdma::MemoryRegion& region) {
  Napi::Object result = Napi::Object::New(env);
  result.Set("handle", Napi::Number::New(env, region.handle));
  result.Set("addr", Napi::Number::New(env, static_cast<double>(region.addr())));
  result.Set("length", Napi::Number::New(env, static_cast<double>(region.length())));
  result.Set("lkey", Napi::Number::New(env, region.lkey()));
  result.Set("rkey", Napi::Number::New(env, region.rkey()));
  return result;
}

Napi::Value AdoptRegion(Napi::Env env, const std::shared_ptr<rdma::ProtectionDomain>& pd, rdma::MrPtr mr,
                        const rdma::RegionRequest& request, std::shared_ptr<ValueRef> memory) {
  EnvState* state = EnvState::From(env);
  auto region = rdma::MemoryRegion::Adopt(pd, std::move(mr), request);
  auto keep = std::make_shared<RegionState>();
  keep->memory.push_back(std::move(memory));
  region->on_idle = [state, keep](rdma::MrPtr idle) {
    if (state->closing()) {
      idle.reset();
      keep->memory.clear();
      return;
    }
    auto box = std::make_shared<rdma::MrPtr>(std::move(idle));
    Work::Queue(
        state->env(), [box] { box->reset(); },
        [state, keep](const std::optional<rdma::Error>&) {
          keep->memory.clear();
          const Napi::Env env = state->env();
          for (const auto& deferred : std::exchange(keep->waiting, {})) deferred.Resolve(env.Undefined());
        });
  };
  state->Register(region, keep);
  return DescribeRegion(env, *region);
}

void Settle(EnvState* state, const Napi::Promise::Deferred& deferred, const std::optional<rdma::Error>& error,
            const std::function<Napi::Value()>& make) {
  std::optional<rdma::Error> failure = error;
  if (!failure) {
    try {
      deferred.Resolve(make());
      return;
    } catch (const rdma::Error& thrown) {
      failure.emplace(thrown);
    }
  }
  deferred.Reject(state->MakeError(failure->syscall(), failure->err(), failure->detail()));
}

void CheckOpen(const std::shared_ptr<rdma::ProtectionDomain>& pd, const char* syscall) {
  if (pd->closed()) throw rdma::Error(syscall, EBADF, "the protection domain was closed meanwhile");
}

}  // namespace binding
