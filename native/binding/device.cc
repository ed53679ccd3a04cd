#include "../core/device.h"

#include "../core/memory.h"

#include "args.h"
#include "async_event_poller.h"

namespace binding {

const char* TransportName(ibv_transport_type transport) {
  switch (transport) {
    case IBV_TRANSPORT_IB:
      return "ib";
    case IBV_TRANSPORT_IWARP:
      return "iwarp";
    default:
      return "unknown";
  }
}

namespace {

Napi::Value ListDevices(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto devices = rdma::ListDevices();
  Napi::Array list = Napi::Array::New(env, devices.size());
  for (uint32_t i = 0; i < devices.size(); ++i) {
    Napi::Object entry = Napi::Object::New(env);
    entry.Set("name", devices[i].name);
    entry.Set("guid", Napi::BigInt::New(env, devices[i].guid));
    entry.Set("transport", TransportName(devices[i].transport));
    list.Set(i, entry);
  }
  return list;
}

/// openDevice(name, callback): handle. callback(type, port, object) for each asynchronous event.
Napi::Value OpenDevice(const Napi::CallbackInfo& info) {
  EnvState* state = EnvState::From(info.Env());
  const Napi::Function callback = Callback(info, 1);
  const auto device = rdma::Device::Open(Text(info, 0));
  const auto poller =
      std::make_shared<AsyncEventPoller>(state, device, std::make_unique<ValueRef>(info.Env(), callback));
  device->on_closing = [poller] { poller->Stop(); };
  return Napi::Number::New(info.Env(), state->Register(device, poller));
}

Napi::Value AllocPd(const Napi::CallbackInfo& info) {
  const auto pd = rdma::ProtectionDomain::Alloc(Object<rdma::Device>(info, 0, rdma::Kind::kDevice));
  return Napi::Number::New(info.Env(), EnvState::From(info.Env())->Register(pd));
}

}  // namespace

void RegisterDevice(Napi::Env env, Napi::Object exports) {
  Export<ListDevices>(env, exports, "listDevices");
  Export<OpenDevice>(env, exports, "openDevice");
  Export<AllocPd>(env, exports, "allocPd");
}

}  // namespace binding
