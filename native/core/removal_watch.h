#pragma once

#include <infiniband/verbs.h>

#include <cstdint>

namespace rdma {

/// Notices that a device is being removed. Drivers without disassociate_ucontext (rxe, siw) send no
/// IBV_EVENT_DEVICE_FATAL: the removal waits until all users have closed the device (kernel
/// core/uverbs_main.c ib_uverbs_remove_one). What can be seen is that the device file goes, which the kernel
/// announces as a uevent.
class RemovalWatch {
 public:
  explicit RemovalWatch(const ibv_device* device);
  ~RemovalWatch();
  RemovalWatch(const RemovalWatch&) = delete;
  RemovalWatch& operator=(const RemovalWatch&) = delete;

  /// Readable when there is something to check; -1 where uevents can not be had.
  int fd() const noexcept { return fd_; }

  enum class Seen : uint8_t { kNothing, kOtherRemoved, kRemoved };

  /// Takes what the descriptor has: whether a device has gone, and whether it was this one.
  Seen Check();

 private:
  const ibv_device* device_;
  int fd_;
};

}  // namespace rdma
