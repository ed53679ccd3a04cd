#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "../core/memory.h"
#include "args.h"

namespace binding {

/// A promise that resolves when a number of regions have gone.
struct GonePromise {
  Napi::Promise::Deferred deferred;
  size_t left;

  void OneGone(Napi::Env env) {
    if (--left == 0) deferred.Resolve(env.Undefined());
  }
};

/// What a region needs besides the registration: the JavaScript memory that must stay, and who waits for its
/// end.
struct RegionState {
  std::vector<std::shared_ptr<ValueRef>> memory;
  std::vector<std::shared_ptr<GonePromise>> waiting;
};

/// The state of the open region [handle].
RegionState* StateOf(napi_env env, uint32_t handle);

/// Makes a registration an object of the environment. ibv_dereg_mr(3) can block while a peer holds the region
/// (rxe), so the pool runs it, except when the environment ends.
Napi::Value AdoptRegion(Napi::Env env, const std::shared_ptr<rdma::ProtectionDomain>& pd, rdma::MrPtr mr,
                        const rdma::RegionRequest& request, std::shared_ptr<ValueRef> memory);

/// Closes the open regions among [handles]: one piece of work for the pool, however many they are. Returns
/// the handles of all objects that have gone, and a promise that resolves when the registrations have gone.
Napi::Value CloseRegions(const Napi::CallbackInfo& info);

/// {handle, addr, length, lkey, rkey}
Napi::Value DescribeRegion(Napi::Env env, const rdma::MemoryRegion& region);

/// Settles [deferred] with what [make] returns, or with the error.
void Settle(EnvState* state, const Napi::Promise::Deferred& deferred, const std::optional<rdma::Error>& error,
            const std::function<Napi::Value()>& make);

/// Throws when [pd] was closed while the pool worked for it.
void CheckOpen(const std::shared_ptr<rdma::ProtectionDomain>& pd, const char* syscall);

/// reregMr and adviseMr.
void RegisterRereg(Napi::Env env, Napi::Object exports);

}  // namespace binding
