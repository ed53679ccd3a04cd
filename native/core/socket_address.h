#pragma once

#include <netinet/in.h>

#include <optional>
#include <string>

namespace rdma {

/// A numeric IP address and a port.
struct SocketAddress {
  std::string host;  // of a link-local IPv6 address with its zone: "fe80::1%eth0" or "fe80::1%2"
  uint16_t port = 0;
  bool v6 = false;
  uint32_t scope_id = 0;  // IPv6 only; FromSockaddr sets it, ToSockaddr takes it when the host has no zone

  /// "host:port" as it stands in messages.
  std::string Text() const;
};

/// @throws Error EINVAL when the host is not numeric, ENODEV when its zone is no interface
sockaddr_storage ToSockaddr(const SocketAddress& address);

/// Nothing for other families, and for what has not been set.
std::optional<SocketAddress> FromSockaddr(const sockaddr* address);

}  // namespace rdma
