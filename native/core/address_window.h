#pragma once

#include <cstddef>
#include <memory>

#include "memory.h"
#include "object.h"

namespace rdma {

/// A range of addresses in which pages of slabs are mapped a second time, side by side: what an IOMMU's
/// address space is to the kernel (dma_iova_link() and friends, kernel drivers/iommu/dma-iommu.c). Not
/// linked, it is PROT_NONE and costs no memory.
class AddressWindow {
 public:
  static std::shared_ptr<AddressWindow> Reserve(size_t length);
  AddressWindow(void* addr, size_t length) : addr_(addr), length_(length) {}
  ~AddressWindow();
  AddressWindow(const AddressWindow&) = delete;
  AddressWindow& operator=(const AddressWindow&) = delete;

  void* addr() const noexcept { return addr_; }
  size_t length() const noexcept { return length_; }

  /// Maps [length] bytes of [slab] from [slab_offset] at [offset]; all of them whole pages inside both. What
  /// was linked there before is gone.
  void Link(size_t offset, const Slab& slab, size_t slab_offset, size_t length);
  /// Makes [length] bytes from [offset] inaccessible again.
  void Unlink(size_t offset, size_t length);

 private:
  char* At(size_t offset, size_t length, const char* what) const;

  void* const addr_;
  const size_t length_;
  // Held while something may be linked and given up to unlink it: at the limit of mappings no mmap(2)
  // succeeds.
  void* spare_ = nullptr;
};

/// A window as a child of its protection domain. Regions over it keep the addresses until they have gone.
class AddressWindowObject : public Object {
 public:
  static std::shared_ptr<AddressWindowObject> Reserve(const std::shared_ptr<ProtectionDomain>& pd,
                                                      size_t length);
  AddressWindowObject(std::shared_ptr<ProtectionDomain> pd, std::shared_ptr<AddressWindow> window)
      : Object(Kind::kAddressWindow), pd_(std::move(pd)), window_(std::move(window)) {}

  const std::shared_ptr<ProtectionDomain>& pd() const { return pd_; }
  const std::shared_ptr<AddressWindow>& window() const { return window_; }

 protected:
  void OnClose() override { window_.reset(); }

 private:
  std::shared_ptr<ProtectionDomain> pd_;
  std::shared_ptr<AddressWindow> window_;
};

}  // namespace rdma
