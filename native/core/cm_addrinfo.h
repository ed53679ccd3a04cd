#pragma once

#include <rdma/rdma_cma.h>

#include <string>
#include <vector>

#include "socket_address.h"

namespace rdma {

/// What rdma_getaddrinfo(3) is asked for; empty and 0 leave it open.
struct AddrInfoRequest {
  std::string node;
  std::string service;
  int flags = 0;  // RAI_*
  int family = 0;
  int qp_type = 0;
  int port_space = 0;
};

/// One of its answers.
struct AddrInfo {
  int flags;
  int family;
  int qp_type;
  int port_space;
  std::optional<SocketAddress> source;
  std::optional<SocketAddress> target;
  std::string source_name;
  std::string target_name;
  std::vector<uint8_t> route;
  std::vector<uint8_t> connect_data;
};

/// Blocks; for any thread. Errors of getaddrinfo(3) come with libuv's numbers, which are positive here.
std::vector<AddrInfo> GetAddrInfo(const AddrInfoRequest& request);

}  // namespace rdma
