#include "device_memory.h"

#include <cerrno>

#include "error.h"

namespace rdma {

std::shared_ptr<DeviceMemory> DeviceMemory::Alloc(const std::shared_ptr<Device>& device, uint64_t length,
                                                  uint32_t log_align) {
  const uint64_t max = device->attr_ex().max_dm_size;
  if (max == 0) {
    throw Error("ibv_alloc_dm", EOPNOTSUPP, "device " + device->name() + " has no memory of its own");
  }
  if (length == 0 || length > max) {
    throw Error(
        "ibv_alloc_dm", EINVAL,
        "length " + std::to_string(length) + ": the device has 1 to " + std::to_string(max) + " bytes");
  }
  auto object = std::make_shared<DeviceMemory>(AllocDm(device->context(), length, log_align), length);
  device->Adopt(object);
  return object;
}

void DeviceMemory::CheckRange(const char* syscall, uint64_t offset, uint64_t length) const {
  if (offset <= length_ && length <= length_ - offset) return;
  throw Error(syscall, EINVAL,
              "offset " + std::to_string(offset) + ", length " + std::to_string(length) +
                  ": the device memory has " + std::to_string(length_) + " bytes");
}

void DeviceMemory::CopyTo(uint64_t offset, const void* data, size_t length) {
  CheckRange("ibv_memcpy_to_dm", offset, length);
  if (length == 0) return;
  CheckSupported(ibv_memcpy_to_dm(dm_.get(), offset, data, length), "ibv_memcpy_to_dm",
                 "the device can not be written to by the processor",
                 "offset " + std::to_string(offset) + ", length " + std::to_string(length));
}

void DeviceMemory::CopyFrom(void* data, uint64_t offset, size_t length) const {
  CheckRange("ibv_memcpy_from_dm", offset, length);
  if (length == 0) return;
  CheckSupported(ibv_memcpy_from_dm(data, dm_.get(), offset, length), "ibv_memcpy_from_dm",
                 "the device can not be read by the processor",
                 "offset " + std::to_string(offset) + ", length " + std::to_string(length));
}

MrPtr DeviceMemory::Register(const std::shared_ptr<ProtectionDomain>& pd, uint64_t offset, uint64_t length,
                             int access) {
  if (pd->pd()->context != dm_->context) {
    throw Error("ibv_reg_dm_mr", EINVAL, "the protection domain is of another device than the memory");
  }
  CheckRange("ibv_reg_dm_mr", offset, length);
  return RegDmMr(pd->pd(), dm_, offset, length, access);
}

}  // namespace rdma
