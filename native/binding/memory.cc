#include "../core/memory.h"

#include "args.h"
#include "kept_memory.h"
#include "work.h"

namespace binding {

namespace {

using rdma::Kind;
using rdma::MemoryRegion;
using rdma::MrPtr;
using rdma::ProtectionDomain;
using rdma::Slab;

/// What a region needs besides the registration: the JavaScript memory that must stay, and who waits for its
/// end.
struct RegionState {
  std::shared_ptr<ValueRef> memory;
  std::vector<Napi::Promise::Deferred> waiting;
  bool gone = false;
};

void ResolveAll(Napi::Env env, RegionState* state) {
  state->gone = true;
  state->memory.reset();
  for (const auto& deferred : std::exchange(state->waiting, {})) deferred.Resolve(env.Undefined());
}

Napi::Value DescribeRegion(Napi::Env env, uint32_t handle, const MemoryRegion& region) {
  Napi::Object result = Napi::Object::New(env);
  result.Set("handle", Napi::Number::New(env, handle));
  result.Set("addr", Napi::Number::New(env, static_cast<double>(region.addr())));
  result.Set("length", Napi::Number::New(env, static_cast<double>(region.length())));
  result.Set("lkey", Napi::Number::New(env, region.lkey()));
  result.Set("rkey", Napi::Number::New(env, region.rkey()));
  return result;
}

/// Makes a registration an object of the environment. ibv_dereg_mr(3) can block while a peer holds the region
/// (rxe), so the pool runs it, except when the environment ends.
Napi::Value AdoptRegion(Napi::Env env, const std::shared_ptr<ProtectionDomain>& pd, MrPtr mr, int access,
                        std::shared_ptr<ValueRef> memory) {
  EnvState* state = EnvState::From(env);
  auto region = MemoryRegion::Adopt(pd, std::move(mr), access);
  auto keep = std::make_shared<RegionState>();
  keep->memory = std::move(memory);
  region->on_idle = [state, keep](MrPtr idle) {
    if (state->closing()) {
      idle.reset();
      keep->memory.reset();
      return;
    }
    auto box = std::make_shared<MrPtr>(std::move(idle));
    Work::Queue(
        state->env(), [box] { box->reset(); },
        [state, keep](const std::optional<rdma::Error>&) { ResolveAll(state->env(), keep.get()); });
  };
  return DescribeRegion(env, state->Register(region, keep), *region);
}

int AccessFlags(const Napi::CallbackInfo& info, size_t i) { return static_cast<int>(U32(info, i)); }

/// regMrSync(pd, view, access)
Napi::Value RegMrSync(const Napi::CallbackInfo& info) {
  const auto pd = Object<ProtectionDomain>(info, 0, Kind::kProtectionDomain);
  const Bytes bytes = View(info, 1);
  const int access = AccessFlags(info, 2);
  auto memory = KeepMemory(info.Env(), info[1]);
  return AdoptRegion(info.Env(), pd, rdma::RegMr(pd->pd(), bytes.data, bytes.length, access, nullptr), access,
                     memory);
}

/// Settles [deferred] with what [make] returns, or with the error.
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

void CheckOpen(const std::shared_ptr<ProtectionDomain>& pd, const char* syscall) {
  if (pd->closed()) throw rdma::Error(syscall, EBADF, "the protection domain was closed meanwhile");
}

/// regMr(pd, view, access): Promise
Napi::Value RegMr(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto pd = Object<ProtectionDomain>(info, 0, Kind::kProtectionDomain);
  const Bytes bytes = View(info, 1);
  const int access = AccessFlags(info, 2);
  auto memory = KeepMemory(env, info[1]);
  auto mr = std::make_shared<MrPtr>();
  const auto deferred = Napi::Promise::Deferred::New(env);
  Work::Queue(
      env,
      [kernel_pd = pd->pd(), mr, bytes, access] {
        *mr = rdma::RegMr(kernel_pd, bytes.data, bytes.length, access, nullptr);
      },
      [env, pd, mr, access, memory, deferred](const std::optional<rdma::Error>& error) {
        Settle(EnvState::From(env), deferred, error, [&] {
          CheckOpen(pd, "ibv_reg_mr");
          return AdoptRegion(env, pd, std::move(*mr), access, memory);
        });
      });
  return deferred.Promise();
}

/// allocSlab(pd, length, access, hugePages): Promise of a region with `buffer`, the one ArrayBuffer over the
/// memory.
Napi::Value AllocSlab(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto pd = Object<ProtectionDomain>(info, 0, Kind::kProtectionDomain);
  const uint32_t length = U32(info, 1);
  const int access = AccessFlags(info, 2);
  const bool huge_pages = info[3].ToBoolean();
  auto slab = std::make_shared<std::shared_ptr<Slab>>();
  auto mr = std::make_shared<MrPtr>();
  const auto deferred = Napi::Promise::Deferred::New(env);
  Work::Queue(
      env,
      [kernel_pd = pd->pd(), slab, mr, length, access, huge_pages] {
        *slab = Slab::Create(length, huge_pages);
        *mr = rdma::RegMr(kernel_pd, (*slab)->addr(), length, access, *slab);
      },
      [env, pd, slab, mr, access, deferred](const std::optional<rdma::Error>& error) {
        Settle(EnvState::From(env), deferred, error, [&]() -> Napi::Value {
          CheckOpen(pd, "ibv_reg_mr");
          // The views of JavaScript may outlive the registration: the pages go when both have gone.
          auto* hold = new std::shared_ptr<Slab>(*slab);
          Napi::ArrayBuffer buffer = Napi::ArrayBuffer::New(
              env, (*slab)->addr(), (*slab)->length(),
              [](Napi::BasicEnv, void*, std::shared_ptr<Slab>* held) { delete held; }, hold);
          Napi::Value region = AdoptRegion(env, pd, std::move(*mr), access, nullptr);
          region.As<Napi::Object>().Set("buffer", buffer);
          return region;
        });
      });
  return deferred.Promise();
}

/// closeMr(handle): Promise that resolves when the registration has gone.
Napi::Value CloseMr(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  EnvState* state = EnvState::From(env);
  const auto deferred = Napi::Promise::Deferred::New(env);
  const uint32_t handle = U32(info, 0);
  if (state->Find(handle, Kind::kMemoryRegion) == nullptr) {
    deferred.Resolve(env.Undefined());
    return deferred.Promise();
  }
  static_cast<RegionState*>(state->Kept(handle))->waiting.push_back(deferred);
  state->Close(handle);
  return deferred.Promise();
}

/// addressOf(view): the address of the first byte. A small view is moved off V8's heap by this, and stays.
Napi::Value AddressOf(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(reinterpret_cast<uintptr_t>(View(info, 0).data)));
}

}  // namespace

void RegisterMemory(Napi::Env env, Napi::Object exports) {
  Export<RegMr>(env, exports, "regMr");
  Export<RegMrSync>(env, exports, "regMrSync");
  Export<AllocSlab>(env, exports, "allocSlab");
  Export<CloseMr>(env, exports, "closeMr");
  Export<AddressOf>(env, exports, "addressOf");
}

}  // namespace binding
