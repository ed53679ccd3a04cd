#pragma once

#include "memory.h"

namespace rdma {

/// Memory of the device itself (ibv_alloc_dm(3)).
class DeviceMemory : public Object {
 public:
  /// [length] bytes, at an address that is a multiple of 2^[log_align].
  static std::shared_ptr<DeviceMemory> Alloc(const std::shared_ptr<Device>& device, uint64_t length,
                                             uint32_t log_align);

  DeviceMemory(DmPtr dm, uint64_t length)
      : Object(Kind::kDeviceMemory), dm_(std::move(dm)), length_(length) {}

  const DmPtr& dm() const noexcept { return dm_; }

  /// ibv_memcpy_to_dm(3)
  void CopyTo(uint64_t offset, const void* data, size_t length);
  /// ibv_memcpy_from_dm(3)
  void CopyFrom(void* data, uint64_t offset, size_t length) const;

  /// Checks the range and registers it: its addresses count from 0, at byte [offset] (ibv_reg_dm_mr(3)).
  MrPtr Register(const std::shared_ptr<ProtectionDomain>& pd, uint64_t offset, uint64_t length, int access);
  /// Regions of the memory are closed before it.
  void Adopt(const std::shared_ptr<Object>& child) { AddChild(child); }

 protected:
  /// The memory goes when the last registration of it has gone.
  void OnClose() override { dm_.reset(); }

 private:
  void CheckRange(const char* syscall, uint64_t offset, uint64_t length) const;

  DmPtr dm_;
  const uint64_t length_;
};

}  // namespace rdma
