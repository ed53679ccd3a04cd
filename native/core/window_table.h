#pragma once

#include <infiniband/verbs.h>

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

namespace rdma {

class MemoryRegion;
class MemoryWindow;

/// The memory windows of a protection domain, by the part of the rkey that never changes (ibv_inc_rkey(3)).
/// A closed window stays here until the kernel's object has gone.
class WindowTable {
 public:
  /// The open window that has, had or will have [rkey].
  MemoryWindow* Find(uint32_t rkey) const noexcept;
  void Insert(MemoryWindow* window);
  void Remove(const MemoryWindow* window);

  /// Notes what a completed receive has invalidated.
  void Received(const ibv_wc& wc);

  void CloseBoundTo(const MemoryRegion* region);
  /// Closes and deallocates the windows of type 2 that work requests of [queue] may have bound: a queue pair
  /// asks for it before it is destroyed.
  void AbandonBoundBy(const void* queue);

 private:
  template <typename Predicate>
  std::vector<std::shared_ptr<MemoryWindow>> Select(Predicate predicate) const;

  std::unordered_map<uint32_t, MemoryWindow*> windows_;
};

}  // namespace rdma
