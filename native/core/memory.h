#pragma once

#include <functional>
#include <memory>
#include <unordered_map>

#include "device.h"
#include "handles.h"
#include "pinnable.h"
#include "window_table.h"

namespace rdma {

class MemoryRegion;

/// The local keys that a protection domain can vouch for. Providers report a bad lkey late, as a flush of
/// everything (rxe), or not at all, so every key and range is looked up here before a work request is posted.
class KeyTable {
 public:
  MemoryRegion* Find(uint32_t lkey) const noexcept;
  void Insert(uint32_t lkey, MemoryRegion* region);
  void Remove(uint32_t lkey);

  /// Address handles, by the handle that work requests name them with.
  Pinnable* FindObject(uint32_t handle, Kind kind) const noexcept;
  void InsertObject(uint32_t handle, Pinnable* object) { objects_[handle] = object; }
  void RemoveObject(uint32_t handle) { objects_.erase(handle); }

  /// Changes whenever a key goes, so that a cached look-up can be checked with one compare.
  uint32_t version() const noexcept { return version_; }

  WindowTable& windows() noexcept { return windows_; }

 private:
  std::unordered_map<uint32_t, MemoryRegion*> regions_;
  std::unordered_map<uint32_t, Pinnable*> objects_;
  uint32_t version_ = 1;
  WindowTable windows_;
};

class ProtectionDomain : public Object {
 public:
  static std::shared_ptr<ProtectionDomain> Alloc(const std::shared_ptr<Device>& device);

  ProtectionDomain(std::shared_ptr<Device> device, PdPtr pd);

  const PdPtr& pd() const { return pd_; }
  const std::shared_ptr<Device>& device() const { return device_; }
  const std::shared_ptr<KeyTable>& keys() const { return keys_; }
  void Adopt(const std::shared_ptr<Object>& child) { AddChild(child); }

 protected:
  void OnClose() override { pd_.reset(); }

 private:
  std::shared_ptr<Device> device_;
  PdPtr pd_;
  std::shared_ptr<KeyTable> keys_ = std::make_shared<KeyTable>();
};

/// A registered range.
class MemoryRegion : public Pinnable {
 public:
  /// Takes a registration that has been made, perhaps on another thread, into the domain.
  static std::shared_ptr<MemoryRegion> Adopt(const std::shared_ptr<ProtectionDomain>& pd, MrPtr mr,
                                             int access);

  MemoryRegion(std::shared_ptr<KeyTable> keys, MrPtr mr, int access);
  ~MemoryRegion() override;

  ibv_mr* mr() const noexcept { return mr_.get(); }
  const std::shared_ptr<KeyTable>& keys() const noexcept { return keys_; }
  uint64_t addr() const noexcept { return addr_; }
  uint64_t length() const noexcept { return length_; }
  int access() const noexcept { return access_; }
  uint32_t lkey() const noexcept { return lkey_; }
  uint32_t rkey() const noexcept { return rkey_; }

  bool Contains(uint64_t addr, uint64_t length) const noexcept {
    return addr >= addr_ && length <= length_ && addr - addr_ <= length_ - length;
  }

  /// Receives the registration once it is idle and closed. It decides on which thread ibv_dereg_mr(3) runs,
  /// which may block; without it the registration goes at once.
  std::function<void(MrPtr)> on_idle;

 protected:
  void Unlist() override;
  void Release() override;

 private:
  std::shared_ptr<KeyTable> keys_;
  MrPtr mr_;
  const uint64_t addr_;
  const uint64_t length_;
  const uint32_t lkey_;
  const uint32_t rkey_;
  const int access_;
};

/// Anonymous shared memory of a memfd, page aligned: fork-safe, and its pages can be mapped a second time.
class Slab {
 public:
  static std::shared_ptr<Slab> Create(size_t length, bool huge_pages);
  Slab(int fd, void* addr, size_t length) : fd_(fd), addr_(addr), length_(length) {}
  ~Slab();
  Slab(const Slab&) = delete;
  Slab& operator=(const Slab&) = delete;

  void* addr() const noexcept { return addr_; }
  size_t length() const noexcept { return length_; }

 private:
  int fd_;
  void* addr_;
  size_t length_;
};

}  // namespace rdma
