#include "removal_watch.h"

#include <linux/netlink.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string_view>

namespace rdma {

namespace {

constexpr uint32_t kKernelGroup = 1;  // the kernel's own messages; udev's have another

int OpenUevents() {
  const int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT);
  if (fd < 0) return -1;
  sockaddr_nl address = {};
  address.nl_family = AF_NETLINK;
  address.nl_groups = kKernelGroup;
  if (bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return fd;
  close(fd);
  return -1;
}

}  // namespace

RemovalWatch::RemovalWatch(const ibv_device* device) : device_(device), fd_(OpenUevents()) {}

RemovalWatch::~RemovalWatch() {
  if (fd_ >= 0) close(fd_);
}

RemovalWatch::Seen RemovalWatch::Check() {
  // 'remove@/devices/…/infiniband_verbs/uverbs0', then NUL and variables.
  constexpr std::string_view kClass = "/infiniband_verbs/";
  Seen seen = Seen::kNothing;
  std::array<char, 4096> message;
  while (fd_ >= 0 && seen != Seen::kRemoved) {
    sockaddr_nl sender = {};
    socklen_t size = sizeof sender;
    const ssize_t length =
        recvfrom(fd_, message.data(), message.size() - 1, 0, reinterpret_cast<sockaddr*>(&sender), &size);
    if (length < 0 && errno == EINTR) continue;
    if (length < 0 && errno == ENOBUFS) {
      // Messages were lost: look whether the device is still there.
      seen = access(device_->dev_path, F_OK) == 0 ? Seen::kOtherRemoved : Seen::kRemoved;
      continue;
    }
    if (length <= 0) break;
    if (sender.nl_pid != 0) continue;
    message[static_cast<size_t>(length)] = '\0';
    const std::string_view head(message.data());
    const size_t at = head.rfind(kClass);
    if (!head.starts_with("remove@") || at == std::string_view::npos) continue;
    seen = head.substr(at + kClass.size()) == device_->dev_name ? Seen::kRemoved : Seen::kOtherRemoved;
  }
  return seen;
}

}  // namespace rdma
