#include "../core/device_memory.h"

#include "args.h"
#include "region.h"

namespace binding {

namespace {

using rdma::DeviceMemory;
using rdma::Kind;

/// allocDm(device, length, logAlign)
Napi::Value AllocDm(const Napi::CallbackInfo& info) {
  const auto device = Object<rdma::Device>(info, 0, Kind::kDevice);
  const auto dm = DeviceMemory::Alloc(device, U53(info, 1), U32(info, 2));
  return Napi::Number::New(info.Env(), EnvState::From(info.Env())->Register(dm));
}

/// memcpyToDm(dm, offset, view)
Napi::Value MemcpyToDm(const Napi::CallbackInfo& info) {
  const Bytes bytes = View(info, 2);
  Object<DeviceMemory>(info, 0, Kind::kDeviceMemory)->CopyTo(U53(info, 1), bytes.data, bytes.length);
  return info.Env().Undefined();
}

/// memcpyFromDm(view, dm, offset)
Napi::Value MemcpyFromDm(const Napi::CallbackInfo& info) {
  const Bytes bytes = View(info, 0);
  Object<DeviceMemory>(info, 1, Kind::kDeviceMemory)->CopyFrom(bytes.data, U53(info, 2), bytes.length);
  return info.Env().Undefined();
}

/// regDmMr(pd, dm, offset, length, access)
Napi::Value RegDmMr(const Napi::CallbackInfo& info) {
  const auto pd = Object<rdma::ProtectionDomain>(info, 0, Kind::kProtectionDomain);
  const auto dm = Object<DeviceMemory>(info, 1, Kind::kDeviceMemory);
  rdma::RegionRequest request;
  request.source = rdma::RegionRequest::Source::kDeviceMemory;
  request.addr = U53(info, 2);
  request.length = U53(info, 3);
  request.access = static_cast<int>(U32(info, 4));
  rdma::MrPtr mr = dm->Register(pd, request.addr, request.length, request.access);
  const Napi::Value region = AdoptRegion(info.Env(), pd, std::move(mr), request, nullptr);
  const uint32_t handle = region.As<Napi::Object>().Get("handle").As<Napi::Number>().Uint32Value();
  dm->Adopt(EnvState::From(info.Env())->Find(handle, Kind::kMemoryRegion)->shared_from_this());
  return region;
}

}  // namespace

void RegisterDeviceMemory(Napi::Env env, Napi::Object exports) {
  Export<AllocDm>(env, exports, "allocDm");
  Export<MemcpyToDm>(env, exports, "memcpyToDm");
  Export<MemcpyFromDm>(env, exports, "memcpyFromDm");
  Export<RegDmMr>(env, exports, "regDmMr");
}

}  // namespace binding
