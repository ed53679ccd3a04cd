#include "../core/address_handle.h"

#include <cstring>

#include "../core/xrc_domain.h"
#include "args.h"
#include "qp_attr.h"

namespace binding {

namespace {

using rdma::Kind;

Napi::Value RegisterAh(Napi::Env env, const std::shared_ptr<rdma::ProtectionDomain>& pd,
                       const ibv_ah_attr& attr) {
  const auto ah = rdma::AddressHandle::Create(pd, attr);
  const uint32_t handle = EnvState::From(env)->Register(ah);
  ah->Register();
  Napi::Object result = Napi::Object::New(env);
  result.Set("handle", Napi::Number::New(env, handle));
  result.Set("attr", FromAhAttr(env, attr));
  return result;
}

/// createAh(pd, attr)
Napi::Value CreateAh(const Napi::CallbackInfo& info) {
  const auto pd = Object<rdma::ProtectionDomain>(info, 0, Kind::kProtectionDomain);
  return RegisterAh(info.Env(), pd, ToAhAttr(info[1].As<Napi::Object>()));
}

/// createAhFromWc(pd, port, wcFlags, srcQp, slid, sl, dlidPathBits, grh)
Napi::Value CreateAhFromWc(const Napi::CallbackInfo& info) {
  const auto pd = Object<rdma::ProtectionDomain>(info, 0, Kind::kProtectionDomain);
  ibv_wc wc = {};
  wc.wc_flags = U32(info, 2);
  wc.src_qp = U32(info, 3);
  wc.slid = static_cast<uint16_t>(U32(info, 4));
  wc.sl = static_cast<uint8_t>(U32(info, 5));
  wc.dlid_path_bits = static_cast<uint8_t>(U32(info, 6));
  const Bytes bytes = View(info, 7);
  // A copy: the struct wants an alignment that a view need not have.
  alignas(8) uint8_t grh[sizeof(ibv_grh)] = {};
  if (bytes.length < sizeof grh) throw Napi::RangeError::New(info.Env(), "grh: 40 bytes");
  std::memcpy(grh, bytes.data, sizeof grh);
  return RegisterAh(
      info.Env(), pd,
      rdma::ReplyAddress(pd, static_cast<uint8_t>(U32(info, 1)), &wc, reinterpret_cast<ibv_grh*>(grh)));
}

/// openXrcd(device, fd, oflags): fd -1 for none
Napi::Value OpenXrcd(const Napi::CallbackInfo& info) {
  const auto device = Object<rdma::Device>(info, 0, Kind::kDevice);
  const int fd = info[1].As<Napi::Number>().Int32Value();
  const auto xrcd = rdma::XrcDomain::Open(device, fd, static_cast<int>(U32(info, 2)));
  return Napi::Number::New(info.Env(), EnvState::From(info.Env())->Register(xrcd));
}

}  // namespace

void RegisterAddressHandle(Napi::Env env, Napi::Object exports) {
  Export<CreateAh>(env, exports, "createAh");
  Export<CreateAhFromWc>(env, exports, "createAhFromWc");
  Export<OpenXrcd>(env, exports, "openXrcd");
}

}  // namespace binding
