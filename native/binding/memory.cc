#include "../core/memory.h"

#include <fcntl.h>
#include <unistd.h>

#include "args.h"
#include "kept_memory.h"
#include "region.h"
#include "work.h"

namespace binding {

namespace {

using rdma::Kind;
using rdma::MrPtr;
using rdma::ProtectionDomain;
using rdma::RegionRequest;
using rdma::Slab;

/// Registers on the pool; [memory] is what must stay of JavaScript.
Napi::Value RegisterLater(Napi::Env env, const std::shared_ptr<ProtectionDomain>& pd,
                          const RegionRequest& request, std::shared_ptr<ValueRef> memory,
                          std::shared_ptr<void> native = nullptr) {
  rdma::CheckRegistration(*pd->device(), request);
  auto mr = std::make_shared<MrPtr>();
  const auto deferred = Napi::Promise::Deferred::New(env);
  Work::Queue(
      env, [kernel_pd = pd->pd(), mr, request, native] { *mr = rdma::Register(kernel_pd, request, native); },
      [env, pd, mr, request, memory = std::move(memory), deferred](const std::optional<rdma::Error>& error) {
        Settle(EnvState::From(env), deferred, error, [&] {
          CheckOpen(pd, "ibv_reg_mr");
          return AdoptRegion(env, pd, std::move(*mr), request, memory);
        });
      });
  return deferred.Promise();
}

/// The request of regMr's arguments: (pd, view, access, iova or undefined, whole pages).
RegionRequest ViewRequest(const Napi::CallbackInfo& info) {
  const Bytes bytes = View(info, 1);
  RegionRequest request;
  request.addr = reinterpret_cast<uintptr_t>(bytes.data);
  request.length = bytes.length;
  request.access = static_cast<int>(U32(info, 2));
  request.iova = info[3].IsUndefined() ? request.addr : U53(info, 3);
  request.whole_pages = info[4].ToBoolean();
  return request;
}

/// regMrSync(pd, view, access, iova?, wholePages?)
Napi::Value RegMrSync(const Napi::CallbackInfo& info) {
  const auto pd = Object<ProtectionDomain>(info, 0, Kind::kProtectionDomain);
  const RegionRequest request = ViewRequest(info);
  rdma::CheckRegistration(*pd->device(), request);
  auto memory = KeepMemory(info.Env(), info[1]);
  return AdoptRegion(info.Env(), pd, rdma::Register(pd->pd(), request), request, memory);
}

/// regMr(pd, view, access, iova?, wholePages?): Promise
Napi::Value RegMr(const Napi::CallbackInfo& info) {
  const auto pd = Object<ProtectionDomain>(info, 0, Kind::kProtectionDomain);
  const RegionRequest request = ViewRequest(info);
  return RegisterLater(info.Env(), pd, request, KeepMemory(info.Env(), info[1]));
}

/// regMrFromAddress(pd, address, length, access, iova, wholePages, keep): Promise
Napi::Value RegMrFromAddress(const Napi::CallbackInfo& info) {
  const auto pd = Object<ProtectionDomain>(info, 0, Kind::kProtectionDomain);
  RegionRequest request;
  request.addr = U53(info, 1);
  request.length = U53(info, 2);
  request.access = static_cast<int>(U32(info, 3));
  request.iova = U53(info, 4);
  request.whole_pages = info[5].ToBoolean();
  auto keep = info[6].IsObject() ? std::make_shared<ValueRef>(info.Env(), info[6]) : nullptr;
  return RegisterLater(info.Env(), pd, request, std::move(keep));
}

/// regDmabufMr(pd, fd, offset, length, iova, access): Promise
Napi::Value RegDmabufMr(const Napi::CallbackInfo& info) {
  const auto pd = Object<ProtectionDomain>(info, 0, Kind::kProtectionDomain);
  const auto fd = static_cast<int>(U32(info, 1));
  RegionRequest request;
  request.source = RegionRequest::Source::kDmaBuf;
  request.addr = U53(info, 2);
  request.length = U53(info, 3);
  request.iova = U53(info, 4);
  request.access = static_cast<int>(U32(info, 5));
  // A duplicate, because the number may name another file when the pool gets to it.
  request.fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (request.fd < 0) rdma::ThrowErrno("ibv_reg_dmabuf_mr", "fd " + std::to_string(fd));
  const std::shared_ptr<void> duplicate(nullptr, [copy = request.fd](void*) { close(copy); });
  return RegisterLater(info.Env(), pd, request, nullptr, duplicate);
}

/// regImplicitOdp(pd, access): Promise
Napi::Value RegImplicitOdp(const Napi::CallbackInfo& info) {
  const auto pd = Object<ProtectionDomain>(info, 0, Kind::kProtectionDomain);
  RegionRequest request;
  request.source = RegionRequest::Source::kImplicitOdp;
  request.length = SIZE_MAX;
  request.access = static_cast<int>(U32(info, 1)) | IBV_ACCESS_ON_DEMAND;
  return RegisterLater(info.Env(), pd, request, nullptr);
}

/// allocNullMr(pd)
Napi::Value AllocNullMr(const Napi::CallbackInfo& info) {
  const auto pd = Object<ProtectionDomain>(info, 0, Kind::kProtectionDomain);
  RegionRequest request;
  request.length = SIZE_MAX;
  request.access = IBV_ACCESS_LOCAL_WRITE;
  return AdoptRegion(info.Env(), pd, rdma::AllocNullMr(pd->pd()), request, nullptr);
}

/// allocSlab(pd, length, access, hugePages, wholePages): Promise of a region with `buffer`, the one
/// ArrayBuffer over the memory.
Napi::Value AllocSlab(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto pd = Object<ProtectionDomain>(info, 0, Kind::kProtectionDomain);
  const uint32_t length = U32(info, 1);
  RegionRequest request;
  request.length = length;
  request.access = static_cast<int>(U32(info, 2));
  request.whole_pages = info[4].ToBoolean();
  rdma::CheckRegistration(*pd->device(), request);
  const bool huge_pages = info[3].ToBoolean();
  auto slab = std::make_shared<std::shared_ptr<Slab>>();
  auto mr = std::make_shared<MrPtr>();
  const auto deferred = Napi::Promise::Deferred::New(env);
  Work::Queue(
      env,
      [kernel_pd = pd->pd(), slab, mr, request, huge_pages] {
        *slab = Slab::Create(request.length, huge_pages);
        *mr = rdma::RegMr(kernel_pd, (*slab)->addr(), request.length, request.access, *slab);
      },
      [env, pd, slab, mr, request, deferred](const std::optional<rdma::Error>& error) {
        Settle(EnvState::From(env), deferred, error, [&]() -> Napi::Value {
          CheckOpen(pd, "ibv_reg_mr");
          // The views of JavaScript may outlive the registration: the pages go when both have gone.
          auto hold = std::make_unique<std::shared_ptr<Slab>>(*slab);
          Napi::ArrayBuffer buffer = Napi::ArrayBuffer::New(
              env, (*slab)->addr(), (*slab)->length(),
              [](Napi::BasicEnv, void*, std::shared_ptr<Slab>* held) { delete held; }, hold.get());
          hold.release();
          RegionRequest placed = request;
          placed.addr = placed.iova = reinterpret_cast<uintptr_t>((*slab)->addr());
          Napi::Value region = AdoptRegion(env, pd, std::move(*mr), placed, nullptr);
          const uint32_t handle = region.As<Napi::Object>().Get("handle").As<Napi::Number>().Uint32Value();
          auto* object = EnvState::From(env)->Find(handle, Kind::kMemoryRegion);
          static_cast<rdma::MemoryRegion*>(object)->SetSlab(*slab);
          region.As<Napi::Object>().Set("buffer", buffer);
          return region;
        });
      });
  return deferred.Promise();
}

/// whenMrGone(mr): Promise that resolves when the registration has gone, which closing it begins.
Napi::Value WhenMrGone(const Napi::CallbackInfo& info) {
  const auto deferred = Napi::Promise::Deferred::New(info.Env());
  Object<rdma::MemoryRegion>(info, 0, Kind::kMemoryRegion);
  StateOf(info.Env(), U32(info, 0))
      ->waiting.push_back(std::make_shared<GonePromise>(GonePromise{deferred, 1}));
  return deferred.Promise();
}

/// addressOf(view): the address of the first byte. A small view is moved off V8's heap by this, and stays.
Napi::Value AddressOf(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(reinterpret_cast<uintptr_t>(View(info, 0).data)));
}

/// forkStatus(): enum ibv_fork_status
Napi::Value ForkStatus(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), ibv_is_fork_initialized());
}

}  // namespace

void RegisterMemory(Napi::Env env, Napi::Object exports) {
  Export<RegMr>(env, exports, "regMr");
  Export<RegMrSync>(env, exports, "regMrSync");
  Export<AllocSlab>(env, exports, "allocSlab");
  Export<RegMrFromAddress>(env, exports, "regMrFromAddress");
  Export<RegDmabufMr>(env, exports, "regDmabufMr");
  Export<RegImplicitOdp>(env, exports, "regImplicitOdp");
  Export<AllocNullMr>(env, exports, "allocNullMr");
  Export<WhenMrGone>(env, exports, "whenMrGone");
  Export<CloseRegions>(env, exports, "closeRegions");
  Export<AddressOf>(env, exports, "addressOf");
  Export<ForkStatus>(env, exports, "forkStatus");
  RegisterRereg(env, exports);
}

}  // namespace binding
