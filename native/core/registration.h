#pragma once

#include <memory>

#include "device.h"
#include "handles.h"

namespace rdma {

/// What is to be registered.
struct RegionRequest {
  enum class Source : uint8_t { kMemory, kDmaBuf, kImplicitOdp, kDeviceMemory };

  Source source = Source::kMemory;
  uint64_t addr = 0;  // of this process; for a dma-buf or device memory the offset in it
  uint64_t length = 0;
  uint64_t iova = 0;  // the address of the first byte in work requests
  int access = 0;
  int fd = -1;  // of a dma-buf
  // The caller knows that nothing will be accessed but from the start of a page (Rule::kOnDemandOffset).
  bool whole_pages = false;
};

/// Deregisters. A region can be moved to another protection domain (ibv_rereg_mr(3)), so what it holds can
/// change.
struct MrDeleter {
  PdPtr pd;
  std::shared_ptr<void> memory;  // the registered pages, where they are not JavaScript's

  void operator()(ibv_mr* mr) const;
};

/// Throws Error when the provider of [device] would take [request] and do something else than it says.
void CheckRegistration(const Device& device, const RegionRequest& request);

/// Registers (ibv_reg_mr(3), ibv_reg_dmabuf_mr(3)); may run on any thread.
MrPtr Register(const PdPtr& pd, const RegionRequest& request, std::shared_ptr<void> memory = nullptr);

/// Registers [length] bytes at [addr], which are [memory]'s.
MrPtr RegMr(const PdPtr& pd, void* addr, size_t length, int access, std::shared_ptr<void> memory);

/// A region that discards what is written and reads as zeros (ibv_alloc_null_mr(3)).
MrPtr AllocNullMr(const PdPtr& pd);

/// A range of device memory, addressed from 0 (ibv_reg_dm_mr(3)).
MrPtr RegDmMr(const PdPtr& pd, const DmPtr& dm, uint64_t offset, uint64_t length, int access);

/// What ibv_rereg_mr(3) leaves behind.
enum class ReregOutcome : uint8_t { kChanged, kChangedNotForkSafe, kUnchanged, kInvalid };

struct ReregResult {
  ReregOutcome outcome;
  int err;  // positive errno unless kChanged
};

/// Changes what [flags] (IBV_REREG_MR_*) name; may run on any thread.
ReregResult Rereg(ibv_mr* mr, int flags, ibv_pd* pd, void* addr, size_t length, int access) noexcept;

/// How to get more locked memory, and how much there is (getrlimit(2), RLIMIT_MEMLOCK).
std::string LockedMemoryHint();

}  // namespace rdma
