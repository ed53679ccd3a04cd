#include "../core/address_window.h"

#include <string>

#include "../core/registration.h"
#include "args.h"
#include "region.h"
#include "work.h"

namespace binding {

namespace {

using rdma::AddressWindowObject;
using rdma::Kind;
using rdma::MemoryRegion;
using rdma::ProtectionDomain;

/// reserveWindow(pd, bytes): [handle, addr]
Napi::Value ReserveWindow(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto pd = Object<ProtectionDomain>(info, 0, Kind::kProtectionDomain);
  const auto window = AddressWindowObject::Reserve(pd, U32(info, 1));
  Napi::Array result = Napi::Array::New(env, 2);
  result.Set(0u, Napi::Number::New(env, EnvState::From(env)->Register(window)));
  result.Set(
      1u, Napi::Number::New(env, static_cast<double>(reinterpret_cast<uintptr_t>(window->window()->addr()))));
  return result;
}

/// Words of a link: [offset, handle of the slab's region, offset in the slab, bytes].
constexpr size_t kWords = 4;

/// Undoes [count] links. Neighbours go together: taking one out of a mapping that they share would split it,
/// which fails when the process has as many mappings as it may.
void UnlinkAll(rdma::AddressWindow& window, const uint32_t* words, size_t count) {
  for (size_t i = 0; i < count;) {
    const uint32_t start = words[i * kWords];
    uint32_t end = start;
    for (; i < count && words[i * kWords] == end; ++i) end += words[i * kWords + 3];
    window.Unlink(start, end - start);
  }
}

/// linkWindow(window, links): links one after another. All of them, or none and an error that names the first
/// that failed.
Napi::Value LinkWindow(const Napi::CallbackInfo& info) {
  const auto object = Object<AddressWindowObject>(info, 0, Kind::kAddressWindow);
  const Bytes bytes = View(info, 1);
  const auto* words = reinterpret_cast<const uint32_t*>(bytes.data);
  const size_t count = bytes.length / (kWords * sizeof(uint32_t));
  for (size_t i = 0; i < count; ++i) {
    const uint32_t* link = words + i * kWords;
    try {
      auto* region =
          static_cast<MemoryRegion*>(EnvState::From(info.Env())->Find(link[1], Kind::kMemoryRegion));
      if (region == nullptr || region->slab() == nullptr) {
        throw rdma::Error("mmap", EBADF, "not an open slab");
      }
      object->window()->Link(link[0], *region->slab(), link[2], link[3]);
    } catch (const rdma::Error& error) {
      UnlinkAll(*object->window(), words, i);
      throw rdma::Error(error.syscall(), error.err(), "link " + std::to_string(i) + ": " + error.detail());
    }
  }
  return info.Env().Undefined();
}

/// unlinkWindow(window, offset, bytes)
Napi::Value UnlinkWindow(const Napi::CallbackInfo& info) {
  Object<AddressWindowObject>(info, 0, Kind::kAddressWindow)->window()->Unlink(U32(info, 1), U32(info, 2));
  return info.Env().Undefined();
}

/// regWindow(window, offset, bytes, access, wholePages): Promise of a region
Napi::Value RegWindow(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto object = Object<AddressWindowObject>(info, 0, Kind::kAddressWindow);
  const uint32_t offset = U32(info, 1);
  const auto window = object->window();
  rdma::RegionRequest request;
  request.length = U32(info, 2);
  request.access = static_cast<int>(U32(info, 3));
  request.whole_pages = info[4].ToBoolean();
  if (offset > window->length() || request.length > window->length() - offset) {
    throw rdma::Error("ibv_reg_mr", EINVAL, "the range is not inside the window");
  }
  request.addr = request.iova = reinterpret_cast<uintptr_t>(window->addr()) + offset;
  const auto pd = object->pd();
  rdma::CheckRegistration(*pd->device(), request);
  auto mr = std::make_shared<rdma::MrPtr>();
  const auto deferred = Napi::Promise::Deferred::New(env);
  Work::Queue(
      env,
      [kernel_pd = pd->pd(), mr, window, request] {
        *mr = rdma::RegMr(kernel_pd, reinterpret_cast<void*>(request.addr), request.length, request.access,
                          window);
      },
      [env, pd, mr, request, deferred](const std::optional<rdma::Error>& error) {
        Settle(EnvState::From(env), deferred, error, [&] {
          CheckOpen(pd, "ibv_reg_mr");
          return AdoptRegion(env, pd, std::move(*mr), request, nullptr);
        });
      });
  return deferred.Promise();
}

}  // namespace

void RegisterAddressWindow(Napi::Env env, Napi::Object exports) {
  Export<ReserveWindow>(env, exports, "reserveWindow");
  Export<LinkWindow>(env, exports, "linkWindow");
  Export<UnlinkWindow>(env, exports, "unlinkWindow");
  Export<RegWindow>(env, exports, "regWindow");
}

}  // namespace binding
