#include "region.h"

#include <cerrno>
#include <utility>

#include "work.h"

namespace binding {

namespace {

/// Registrations to be ended by one piece of work.
struct Ending {
  rdma::MrPtr mr;
  std::shared_ptr<RegionState> state;
};
using Endings = std::vector<Ending>;

/// Set while closeRegions gathers what becomes idle.
thread_local Endings* gathering = nullptr;

/// ibv_dereg_mr(3) for each, on the pool.
void EndLater(EnvState* state, Endings endings) {
  auto all = std::make_shared<Endings>(std::move(endings));
  Work::Queue(
      state->env(),
      [all] {
        for (Ending& ending : *all) ending.mr.reset();
      },
      [state, all](const std::optional<rdma::Error>&) {
        const Napi::Env env = state->env();
        for (Ending& ending : *all) {
          ending.state->memory.clear();
          for (const auto& promise : std::exchange(ending.state->waiting, {})) promise->OneGone(env);
        }
      });
}

}  // namespace

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
    Endings endings;
    (gathering == nullptr ? endings : *gathering).push_back({std::move(idle), keep});
    if (!endings.empty()) EndLater(state, std::move(endings));
  };
  state->Register(region, keep);
  return DescribeRegion(env, *region);
}

Napi::Value CloseRegions(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  EnvState* state = EnvState::From(env);
  const Bytes bytes = View(info, 0);
  const auto* handles = reinterpret_cast<const uint32_t*>(bytes.data);
  const size_t count = bytes.length / sizeof(uint32_t);
  auto promise = std::make_shared<GonePromise>(GonePromise{Napi::Promise::Deferred::New(env), 1});
  Napi::Array gone = Napi::Array::New(env);
  Endings endings;
  gathering = &endings;
  for (size_t i = 0; i < count; ++i) {
    if (state->Find(handles[i], rdma::Kind::kMemoryRegion) == nullptr) continue;
    ++promise->left;
    StateOf(env, handles[i])->waiting.push_back(promise);
    for (const uint32_t handle : state->Close(handles[i])) {
      gone.Set(gone.Length(), Napi::Number::New(env, handle));
    }
  }
  gathering = nullptr;
  if (!endings.empty()) EndLater(state, std::move(endings));
  promise->OneGone(env);
  Napi::Array result = Napi::Array::New(env, 2);
  result.Set(0u, gone);
  result.Set(1u, promise->deferred.Promise());
  return result;
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
