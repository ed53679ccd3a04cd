#pragma once

#include <infiniband/verbs.h>
#include <napi.h>

#include <string>

namespace binding {

// Attributes of queue pairs and address handles as JavaScript objects; lib/native/queue-pair.ts has their
// types.

/// The number of the property [name]; 0 when it is absent.
uint32_t Field(const Napi::Object& object, const char* name);

/// A GID as the text of an IPv6 address.
std::string GidText(const ibv_gid& gid);
ibv_gid ParseGid(const std::string& text);

ibv_ah_attr ToAhAttr(const Napi::Object& from);
Napi::Object FromAhAttr(Napi::Env env, const ibv_ah_attr& attr);

ibv_qp_attr ToQpAttr(const Napi::Object& from);
Napi::Object FromQpAttr(Napi::Env env, const ibv_qp_attr& attr);

}  // namespace binding
