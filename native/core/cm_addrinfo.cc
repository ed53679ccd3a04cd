#include "cm_addrinfo.h"

#include <netdb.h>

#include <array>
#include <cerrno>
#include <memory>
#include <utility>

#include "error.h"

namespace rdma {

namespace {

/// getaddrinfo(3)'s errors, and libuv's numbers for them (uv/errno.h), by which Node names errors.
constexpr std::array<std::pair<int, int>, 9> kResolverErrors = {{{EAI_AGAIN, 3001},
                                                                 {EAI_BADFLAGS, 3002},
                                                                 {EAI_FAIL, 3004},
                                                                 {EAI_FAMILY, 3005},
                                                                 {EAI_MEMORY, 3006},
                                                                 {EAI_NODATA, 3007},
                                                                 {EAI_NONAME, 3008},
                                                                 {EAI_SERVICE, 3010},
                                                                 {EAI_SOCKTYPE, 3011}}};

[[noreturn]] void ThrowResolver(int rc, int err, const AddrInfoRequest& request) {
  const std::string what = "node \"" + request.node + "\", service \"" + request.service + "\"";
  // -1 is both EAI_BADFLAGS and librdmacm's own failure, which sets errno.
  if (rc == EAI_SYSTEM || (rc == -1 && err != 0)) throw Error("rdma_getaddrinfo", err, what);
  for (const auto& [eai, uv] : kResolverErrors) {
    if (eai == rc) throw Error("rdma_getaddrinfo", uv, std::string(gai_strerror(rc)) + ": " + what);
  }
  throw Error("rdma_getaddrinfo", EIO, std::string(gai_strerror(rc)) + ": " + what);
}

std::string TextOf(const char* text) { return text == nullptr ? std::string() : std::string(text); }

std::vector<uint8_t> BytesOf(const void* data, size_t length) {
  const auto* bytes = static_cast<const uint8_t*>(data);
  return bytes == nullptr ? std::vector<uint8_t>() : std::vector<uint8_t>(bytes, bytes + length);
}

}  // namespace

std::vector<AddrInfo> GetAddrInfo(const AddrInfoRequest& request) {
  rdma_addrinfo hints = {};
  hints.ai_flags = request.flags;
  hints.ai_family = request.family;
  hints.ai_qp_type = request.qp_type;
  hints.ai_port_space = request.port_space;
  rdma_addrinfo* list = nullptr;
  errno = 0;
  const int rc = rdma_getaddrinfo(request.node.empty() ? nullptr : request.node.c_str(),
                                  request.service.empty() ? nullptr : request.service.c_str(), &hints, &list);
  if (rc != 0) ThrowResolver(rc, errno, request);
  const std::shared_ptr<rdma_addrinfo> guard(list, rdma_freeaddrinfo);
  std::vector<AddrInfo> result;
  for (const rdma_addrinfo* info = list; info != nullptr; info = info->ai_next) {
    result.push_back({info->ai_flags, info->ai_family, info->ai_qp_type, info->ai_port_space,
                      FromSockaddr(info->ai_src_addr), FromSockaddr(info->ai_dst_addr),
                      TextOf(info->ai_src_canonname), TextOf(info->ai_dst_canonname),
                      BytesOf(info->ai_route, info->ai_route_len),
                      BytesOf(info->ai_connect, info->ai_connect_len)});
  }
  return result;
}

}  // namespace rdma
