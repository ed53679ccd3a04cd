#include "../core/device.h"
#include "args.h"

namespace binding {

namespace {

/// deviceQuirks(device): the rules of its provider, for people.
Napi::Value DeviceQuirks(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto device = Object<rdma::Device>(info, 0, rdma::Kind::kDevice);
  Napi::Array list = Napi::Array::New(env);
  for (const rdma::Quirk& quirk : device->rules().quirks()) {
    Napi::Object entry = Napi::Object::New(env);
    entry.Set("name", quirk.name);
    entry.Set("reason", quirk.reason);
    entry.Set("source", quirk.source);
    list.Set(list.Length(), entry);
  }
  return list;
}

}  // namespace

void RegisterQuirks(Napi::Env env, Napi::Object exports) {
  Export<DeviceQuirks>(env, exports, "deviceQuirks");
}

}  // namespace binding
