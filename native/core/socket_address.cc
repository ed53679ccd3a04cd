#include "socket_address.h"

#include <arpa/inet.h>
#include <net/if.h>

#include <cerrno>
#include <charconv>

#include "error.h"

namespace rdma {

namespace {

[[noreturn]] void NotNumeric(const std::string& host) {
  throw Error("inet_pton", EINVAL, "\"" + host + "\" is not a numeric IP address");
}

uint32_t ScopeOf(const std::string& zone, const std::string& host) {
  uint32_t scope = 0;
  const auto [end, error] = std::from_chars(zone.data(), zone.data() + zone.size(), scope);
  if (error == std::errc() && end == zone.data() + zone.size() && scope != 0) return scope;
  scope = if_nametoindex(zone.c_str());
  if (scope == 0)
    throw Error("if_nametoindex", ENODEV, "the zone of \"" + host + "\" is no network interface");
  return scope;
}

}  // namespace

std::string SocketAddress::Text() const {
  return (v6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

sockaddr_storage ToSockaddr(const SocketAddress& address) {
  sockaddr_storage storage = {};
  if (!address.v6) {
    auto* in = reinterpret_cast<sockaddr_in*>(&storage);
    in->sin_family = AF_INET;
    in->sin_port = htons(address.port);
    if (inet_pton(AF_INET, address.host.c_str(), &in->sin_addr) != 1) NotNumeric(address.host);
    return storage;
  }
  const size_t percent = address.host.find('%');
  auto* in6 = reinterpret_cast<sockaddr_in6*>(&storage);
  in6->sin6_family = AF_INET6;
  in6->sin6_port = htons(address.port);
  if (inet_pton(AF_INET6, address.host.substr(0, percent).c_str(), &in6->sin6_addr) != 1)
    NotNumeric(address.host);
  in6->sin6_scope_id = percent == std::string::npos ? address.scope_id
                                                    : ScopeOf(address.host.substr(percent + 1), address.host);
  return storage;
}

std::optional<SocketAddress> FromSockaddr(const sockaddr* address) {
  char text[INET6_ADDRSTRLEN] = {};
  if (address == nullptr) return std::nullopt;
  if (address->sa_family == AF_INET) {
    const auto* in = reinterpret_cast<const sockaddr_in*>(address);
    inet_ntop(AF_INET, &in->sin_addr, text, sizeof text);
    return SocketAddress{text, ntohs(in->sin_port)};
  }
  if (address->sa_family == AF_INET6) {
    const auto* in6 = reinterpret_cast<const sockaddr_in6*>(address);
    inet_ntop(AF_INET6, &in6->sin6_addr, text, sizeof text);
    SocketAddress result = {text, ntohs(in6->sin6_port), true, in6->sin6_scope_id};
    if (in6->sin6_scope_id != 0 && IN6_IS_ADDR_LINKLOCAL(&in6->sin6_addr)) {
      char name[IF_NAMESIZE] = {};
      const bool known = if_indextoname(in6->sin6_scope_id, name) != nullptr;
      result.host += "%" + (known ? std::string(name) : std::to_string(in6->sin6_scope_id));
    }
    return result;
  }
  return std::nullopt;
}

}  // namespace rdma
