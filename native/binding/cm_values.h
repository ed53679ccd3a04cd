#pragma once

#include <rdma/rdma_cma.h>

#include <optional>

#include "../core/socket_address.h"
#include "args.h"

namespace binding {

// What rdma_cm gives and takes, as JavaScript values; lib/native/cm.ts has the types.

/// Arguments [i] … [i + 2]: host, port, scope id.
inline rdma::SocketAddress AddressAt(const Napi::CallbackInfo& info, size_t i) {
  const std::string host = Text(info, i);
  return {host, static_cast<uint16_t>(U32(info, i + 1)), host.find(':') != std::string::npos,
          U32(info, i + 2)};
}

Napi::Value AddressValue(Napi::Env env, const std::optional<rdma::SocketAddress>& address);
Napi::Value BytesValue(Napi::Env env, const std::vector<uint8_t>& bytes);
/// Only what [mask] (enum ibv_qp_attr_mask) says is there.
Napi::Object QpAttrValue(Napi::Env env, const ibv_qp_attr& attr, int mask);

void RegisterCmChannel(Napi::Env env, Napi::Object exports);
void RegisterCmMulticast(Napi::Env env, Napi::Object exports);
void RegisterCmAddrInfo(Napi::Env env, Napi::Object exports);

}  // namespace binding
