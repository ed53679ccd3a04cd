#include "../core/device.h"

#include "../core/memory.h"

#include "args.h"
#include "async_event_poller.h"

namespace binding {

namespace {

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

Napi::Value QueryDevice(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto device = Object<rdma::Device>(info, 0, rdma::Kind::kDevice);
  const ibv_device_attr& attr = device->attr();
  Napi::Object result = Napi::Object::New(env);
  const auto number = [&](const char* name, double value) {
    result.Set(name, Napi::Number::New(env, value));
  };
  result.Set("name", device->name());
  result.Set("provider", std::string(device->rules().name()));
  result.Set("transport", TransportName(device->transport()));
  result.Set("fwVer", std::string(attr.fw_ver));
  number("vendorId", attr.vendor_id);
  number("vendorPartId", attr.vendor_part_id);
  number("physPortCnt", attr.phys_port_cnt);
  number("maxMrSize", static_cast<double>(attr.max_mr_size));
  number("maxQp", attr.max_qp);
  number("maxQpWr", attr.max_qp_wr);
  number("maxSge", attr.max_sge);
  number("maxSgeRd", attr.max_sge_rd);
  number("maxCq", attr.max_cq);
  number("maxCqe", attr.max_cqe);
  number("maxMr", attr.max_mr);
  number("maxPd", attr.max_pd);
  number("maxQpRdAtom", attr.max_qp_rd_atom);
  number("maxQpInitRdAtom", attr.max_qp_init_rd_atom);
  return result;
}

Napi::Value QueryPort(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto device = Object<rdma::Device>(info, 0, rdma::Kind::kDevice);
  const ibv_port_attr attr = device->QueryPort(static_cast<uint8_t>(U32(info, 1)));
  Napi::Object result = Napi::Object::New(env);
  const auto number = [&](const char* name, double value) {
    result.Set(name, Napi::Number::New(env, value));
  };
  number("state", attr.state);
  number("maxMtu", attr.max_mtu);
  number("activeMtu", attr.active_mtu);
  number("maxMsgSz", attr.max_msg_sz);
  number("linkLayer", attr.link_layer);
  number("gidTblLen", attr.gid_tbl_len);
  return result;
}

Napi::Value AllocPd(const Napi::CallbackInfo& info) {
  const auto pd = rdma::ProtectionDomain::Alloc(Object<rdma::Device>(info, 0, rdma::Kind::kDevice));
  return Napi::Number::New(info.Env(), EnvState::From(info.Env())->Register(pd));
}

}  // namespace

void RegisterDevice(Napi::Env env, Napi::Object exports) {
  Export<ListDevices>(env, exports, "listDevices");
  Export<OpenDevice>(env, exports, "openDevice");
  Export<QueryDevice>(env, exports, "queryDevice");
  Export<QueryPort>(env, exports, "queryPort");
  Export<AllocPd>(env, exports, "allocPd");
}

}  // namespace binding
