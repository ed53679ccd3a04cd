#include "memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "error.h"
#include "thread_domain.h"

namespace rdma {

MemoryRegion* KeyTable::Find(uint32_t lkey) const noexcept {
  const auto it = regions_.find(lkey);
  return it == regions_.end() ? nullptr : it->second;
}

void KeyTable::Insert(uint32_t lkey, MemoryRegion* region) { regions_[lkey] = region; }

void KeyTable::Remove(uint32_t lkey, const MemoryRegion* region) {
  const auto it = regions_.find(lkey);
  // Another region has the key when the kernel has given it again.
  if (it == regions_.end() || it->second != region) return;
  regions_.erase(it);
  ++version_;
}

Pinnable* KeyTable::FindObject(uint32_t handle, Kind kind) const noexcept {
  const auto it = objects_.find(handle);
  return it == objects_.end() || it->second->kind() != kind ? nullptr : it->second;
}

std::shared_ptr<ProtectionDomain> ProtectionDomain::Alloc(const std::shared_ptr<Device>& device) {
  auto pd = std::make_shared<ProtectionDomain>(device, AllocPd(device->context()));
  device->Adopt(pd);
  return pd;
}

std::shared_ptr<ProtectionDomain> ProtectionDomain::AllocParent(const std::shared_ptr<ProtectionDomain>& pd,
                                                                const std::shared_ptr<ThreadDomain>& td) {
  if (td && td->td()->context != pd->pd()->context) {
    throw Error("ibv_alloc_parent_domain", EINVAL,
                "the thread domain is of another device than the protection domain");
  }
  auto parent = std::make_shared<ProtectionDomain>(
      pd->device(), AllocParentDomain(pd->pd(), td ? td->td() : nullptr), pd->keys());
  pd->Adopt(parent);
  if (td) td->Adopt(parent);
  return parent;
}

ProtectionDomain::ProtectionDomain(std::shared_ptr<Device> device, PdPtr pd, std::shared_ptr<KeyTable> keys)
    : Object(Kind::kProtectionDomain),
      device_(std::move(device)),
      pd_(std::move(pd)),
      keys_(std::move(keys)) {}

std::shared_ptr<MemoryRegion> MemoryRegion::Adopt(const std::shared_ptr<ProtectionDomain>& pd, MrPtr mr,
                                                  const RegionRequest& request) {
  auto region = std::make_shared<MemoryRegion>(pd, std::move(mr), request);
  pd->Adopt(region);
  return region;
}

MemoryRegion::MemoryRegion(const std::shared_ptr<ProtectionDomain>& pd, MrPtr mr,
                           const RegionRequest& request)
    : Pinnable(Kind::kMemoryRegion),
      pd_(pd),
      keys_(pd->keys()),
      mr_(std::move(mr)),
      request_(request),
      lkey_(mr_->lkey),
      rkey_(mr_->rkey),
      page_starts_((request.access & IBV_ACCESS_ON_DEMAND) != 0 &&
                   pd->device()->rules().Has(Rule::kOnDemandOffset)) {
  keys_->Insert(lkey_, this);
}

MemoryRegion::~MemoryRegion() {
  if (!closed()) keys_->Remove(lkey_, this);
}

void MemoryRegion::Unlist() {
  keys_->Remove(lkey_, this);
  // The kernel refuses to deregister a region with windows (IBA 10.6.7.2.6).
  keys_->windows().CloseBoundTo(this);
}

void MemoryRegion::BeginRereg() {
  Pin();
  keys_->Remove(lkey_, this);
}

void MemoryRegion::EndRereg(ReregOutcome outcome, const RegionRequest& request,
                            const std::shared_ptr<ProtectionDomain>& pd, const PdPtr& kernel_pd) {
  const auto self = shared_from_this();
  if (outcome == ReregOutcome::kChanged || outcome == ReregOutcome::kChangedNotForkSafe) {
    request_ = request;
    lkey_ = mr_->lkey;
    rkey_ = mr_->rkey;
    if (pd != nullptr) MoveTo(pd, kernel_pd);
  }
  if (!closed() && outcome != ReregOutcome::kInvalid) keys_->Insert(lkey_, this);
  Unpin();
}

void MemoryRegion::MoveTo(const std::shared_ptr<ProtectionDomain>& pd, const PdPtr& kernel_pd) {
  // The kernel counts the region for the new domain, which must outlive it from now on.
  std::get_deleter<MrDeleter>(mr_)->pd = kernel_pd;
  if (const auto old = pd_.lock()) old->Disown(this);
  pd_ = pd;
  keys_ = pd->keys();
  pd->Adopt(shared_from_this());
}

void MemoryRegion::Release() {
  if (on_idle) {
    std::exchange(on_idle, nullptr)(std::move(mr_));
  } else {
    mr_.reset();
  }
}

std::shared_ptr<Slab> Slab::Create(size_t length, bool huge_pages) {
  const unsigned int flags = MFD_CLOEXEC | (huge_pages ? MFD_HUGETLB : 0u);
  const int fd = memfd_create("node-rdma-arena", flags);
  if (fd < 0) ThrowErrno("memfd_create", huge_pages ? "huge pages: is vm.nr_hugepages set?" : "");
  if (ftruncate(fd, static_cast<off_t>(length)) != 0) {
    const int err = errno;
    close(fd);
    throw Error("ftruncate", err, std::to_string(length) + " bytes of memfd");
  }
  void* addr = mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (addr == MAP_FAILED) {
    const int err = errno;
    close(fd);
    throw Error("mmap", err, std::to_string(length) + " bytes of memfd");
  }
  return std::make_shared<Slab>(fd, addr, length);
}

Slab::~Slab() {
  munmap(addr_, length_);
  close(fd_);
}

}  // namespace rdma
