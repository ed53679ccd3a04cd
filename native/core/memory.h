#pragma once

#include <functional>
#include <memory>
#include <unordered_map>

#include "device.h"
#include "handles.h"
#include "pinnable.h"
#include "registration.h"
#include "window_table.h"

namespace rdma {

class MemoryRegion;
class ThreadDomain;

/// The local keys that a protection domain can vouch for. Providers report a bad lkey late, as a flush of
/// everything (rxe), or not at all, so every key and range is looked up here before a work request is posted.
class KeyTable {
 public:
  MemoryRegion* Find(uint32_t lkey) const noexcept;
  void Insert(uint32_t lkey, MemoryRegion* region);
  void Remove(uint32_t lkey, const MemoryRegion* region);

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

  /// A domain that can be used wherever [pd] can, and has its keys; [td] may be null
  /// (ibv_alloc_parent_domain(3)).
  static std::shared_ptr<ProtectionDomain> AllocParent(const std::shared_ptr<ProtectionDomain>& pd,
                                                       const std::shared_ptr<ThreadDomain>& td);

  ProtectionDomain(std::shared_ptr<Device> device, PdPtr pd,
                   std::shared_ptr<KeyTable> keys = std::make_shared<KeyTable>());

  const PdPtr& pd() const { return pd_; }
  const std::shared_ptr<Device>& device() const { return device_; }
  const std::shared_ptr<KeyTable>& keys() const { return keys_; }
  void Adopt(const std::shared_ptr<Object>& child) { AddChild(child); }
  void Disown(const Object* child) { RemoveChild(child); }

 protected:
  void OnClose() override { pd_.reset(); }

 private:
  std::shared_ptr<Device> device_;
  PdPtr pd_;
  std::shared_ptr<KeyTable> keys_;
};

class Slab;

/// A registered range.
class MemoryRegion : public Pinnable {
 public:
  /// Takes a registration that has been made, perhaps on another thread, into the domain.
  static std::shared_ptr<MemoryRegion> Adopt(const std::shared_ptr<ProtectionDomain>& pd, MrPtr mr,
                                             const RegionRequest& request);

  MemoryRegion(const std::shared_ptr<ProtectionDomain>& pd, MrPtr mr, const RegionRequest& request);
  ~MemoryRegion() override;

  ibv_mr* mr() const noexcept { return mr_.get(); }
  /// Null when it has gone, and the region with it.
  std::shared_ptr<ProtectionDomain> pd() const noexcept { return pd_.lock(); }
  const std::shared_ptr<KeyTable>& keys() const noexcept { return keys_; }
  /// Address of the first byte in work requests.
  uint64_t addr() const noexcept { return request_.iova; }
  uint64_t length() const noexcept { return request_.length; }
  int access() const noexcept { return request_.access; }
  const RegionRequest& request() const noexcept { return request_; }
  uint32_t lkey() const noexcept { return lkey_; }
  uint32_t rkey() const noexcept { return rkey_; }

  /// True when the provider carries out only what begins with a page of it (Rule::kOnDemandOffset).
  bool page_starts() const noexcept { return page_starts_; }

  bool Contains(uint64_t addr, uint64_t length) const noexcept {
    return addr >= request_.iova && length <= request_.length &&
           addr - request_.iova <= request_.length - length;
  }

  /// The slab that the region was made with; null for other memory.
  const std::shared_ptr<Slab>& slab() const noexcept { return slab_; }
  void SetSlab(std::shared_ptr<Slab> slab) { slab_ = std::move(slab); }

  /// Takes the keys away and pins the region while ibv_rereg_mr(3) runs, perhaps on another thread. EndRereg
  /// must follow; a close meanwhile waits for it.
  void BeginRereg();
  /// When [outcome] says that the region has changed, [request] holds, and it belongs to [pd], whose kernel
  /// object is [kernel_pd], unless that is null. One that has become invalid keeps no key: it can only be
  /// closed.
  void EndRereg(ReregOutcome outcome, const RegionRequest& request,
                const std::shared_ptr<ProtectionDomain>& pd, const PdPtr& kernel_pd);

  /// Receives the registration once it is idle and closed. It decides on which thread ibv_dereg_mr(3) runs,
  /// which may block; without it the registration goes at once.
  std::function<void(MrPtr)> on_idle;

 protected:
  void Unlist() override;
  void Release() override;

 private:
  void MoveTo(const std::shared_ptr<ProtectionDomain>& pd, const PdPtr& kernel_pd);

  std::weak_ptr<ProtectionDomain> pd_;
  std::shared_ptr<KeyTable> keys_;
  MrPtr mr_;
  RegionRequest request_;
  uint32_t lkey_;
  uint32_t rkey_;
  const bool page_starts_;
  std::shared_ptr<Slab> slab_;
};

/// Anonymous shared memory of a memfd, page aligned: fork-safe, and its pages can be mapped a second time.
class Slab {
 public:
  static std::shared_ptr<Slab> Create(size_t length, bool huge_pages);
  Slab(int fd, void* addr, size_t length) : fd_(fd), addr_(addr), length_(length) {}
  ~Slab();
  Slab(const Slab&) = delete;
  Slab& operator=(const Slab&) = delete;

  int fd() const noexcept { return fd_; }
  void* addr() const noexcept { return addr_; }
  size_t length() const noexcept { return length_; }

 private:
  int fd_;
  void* addr_;
  size_t length_;
};

}  // namespace rdma
