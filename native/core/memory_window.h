#pragma once

#include <memory>
#include <vector>

#include "memory.h"

namespace rdma {

/// What a bind gives a window.
struct WindowRange {
  uint64_t addr = 0;  // as the region is addressed
  uint64_t length = 0;
  int access = 0;
  uint32_t rkey = 0;
};

/// A memory window: an rkey for a part of a region, bound and invalidated by work requests (ibv_alloc_mw(3)).
///
/// A region can not be deregistered while a window is bound to it, and rxe's queue pair can not be destroyed
/// (IBA 10.6.7.2.6; kernel sw/rxe/rxe_mw.c rxe_do_bind_mw). So a window holds the regions that it may be
/// bound to, from the post of the bind until another operation on it is known to have been carried out; a
/// region that is closed closes the windows that hold it, and a queue pair its windows of type 2.
class MemoryWindow : public Pinnable {
 public:
  static std::shared_ptr<MemoryWindow> Alloc(const std::shared_ptr<ProtectionDomain>& pd, ibv_mw_type type);

  MemoryWindow(std::shared_ptr<KeyTable> keys, MwPtr mw);
  ~MemoryWindow() override;

  ibv_mw* mw() const noexcept { return mw_.get(); }
  ibv_mw_type type() const noexcept { return type_; }
  const std::shared_ptr<KeyTable>& keys() const noexcept { return keys_; }
  /// The rkey after the last operation that was posted.
  uint32_t rkey() const noexcept { return rkey_; }

  /// True when the last operation that was posted is a bind, and has not failed.
  bool bound() const noexcept {
    return !operations_.empty() && operations_.back().region != nullptr &&
           operations_.back().state != State::kFailed;
  }
  /// True when that bind is known to have been carried out.
  bool confirmed() const noexcept { return bound() && operations_.back().state == State::kDone; }
  /// What it is bound to, when bound().
  const WindowRange& range() const noexcept { return operations_.back().range; }
  const MemoryRegion* region() const noexcept { return operations_.back().region; }

  /// Notes a bind that has been posted as work request [seq] of [queue], after ibv_post_send(3), which reads
  /// the old rkey, or ibv_bind_mw(3). [region] is null for a bind of length 0, which unbinds type 1.
  void PostedBind(const void* queue, uint32_t seq, MemoryRegion* region, const WindowRange& range);
  /// Notes a LOCAL_INV that has been posted.
  void PostedInvalidate(const void* queue, uint32_t seq);
  /// Concludes the operation [seq] of [queue], if it is one of this window. Until a later one has succeeded,
  /// one that failed leaves open what the window is bound to: a flushed work request may have been carried
  /// out.
  void Completed(const void* queue, uint32_t seq, bool success);
  /// The peer has invalidated [rkey]: a receive completed with IBV_WC_WITH_INV.
  void Invalidated(uint32_t rkey);

  bool MayBeBoundTo(const MemoryRegion* region) const noexcept;
  bool MayBeBoundBy(const void* queue) const noexcept;

  /// Deallocates the kernel's window although work requests may still name it: they fail (rkey look-up). For
  /// a queue pair that is about to be destroyed.
  void Abandon();

 protected:
  void Unlist() override {}
  void Release() override;

 private:
  enum class State : uint8_t { kPosted, kDone, kFailed };

  struct Operation {
    const void* queue;
    uint32_t seq;
    MemoryRegion* region;  // pinned; null when it unbinds
    WindowRange range;
    uint32_t old_rkey;
    State state;
  };

  void Forget(size_t count);
  void SetRkey(uint32_t rkey) noexcept;

  std::shared_ptr<KeyTable> keys_;
  MwPtr mw_;
  const ibv_mw_type type_;
  uint32_t rkey_;
  std::vector<Operation> operations_;  // in the order of posting; all that may be the window's state
};

}  // namespace rdma
