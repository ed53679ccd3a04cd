#pragma once

#include <algorithm>
#include <vector>

#include "layout.h"
#include "memory.h"
#include "pin_table.h"
#include "providers/rules.h"

namespace rdma {

/// The memory that JavaScript fills and C++ reads: slots, then their SGEs, then their inline areas.
struct WorkRing {
  const WorkRequestSlot* slots = nullptr;
  const SgeSlot* sges = nullptr;
  uint8_t* inline_data = nullptr;

  /// Bytes of a ring of this shape; lib/ring/work-ring.ts computes the same.
  static size_t Bytes(uint32_t capacity, uint32_t max_sge, uint32_t max_inline);
  static WorkRing At(void* memory, uint32_t capacity, uint32_t max_sge);
};

/// What a queue may take. `capacity` is the ring's size, a power of two not smaller than `max_wr`.
struct QueueLimits {
  uint32_t max_wr;
  uint32_t capacity;
  uint32_t max_sge;
  uint32_t max_sge_read;  // of an RDMA READ's sink
  uint32_t max_inline;
  uint64_t max_message;  // bytes
  const ProviderRules* rules;
  ibv_qp_type type;   // of the queue pair
  bool signal_all;    // every work request completes, signalled or not (sq_sig_all)
  uint64_t send_ops;  // IBV_QP_EX_WITH_* that ibv_wr_post(3) can do; 0: only ibv_post_send(3)
};

/// Notes in [status] why a work request is refused; always false.
bool Refuse(PostStatus* status, PostCheck check, uint32_t value, uint32_t limit, uint32_t sge = 0) noexcept;

/// What send and receive queues share: the ring that JavaScript fills, the checks of its SGEs, and the pins.
class WorkQueue {
 public:
  WorkQueue(const QueueLimits& limits, std::shared_ptr<KeyTable> keys);
  WorkQueue(const WorkQueue&) = delete;
  WorkQueue& operator=(const WorkQueue&) = delete;

  void Attach(const WorkRing& ring) noexcept { ring_ = ring; }
  const QueueLimits& limits() const noexcept { return limits_; }
  PinTable& pins() noexcept { return pins_; }
  /// The next [count] work requests are in flight and hold nothing. Throws Error when there is no room.
  void Skip(uint32_t count);
  KeyTable& keys() const noexcept { return *keys_; }

 protected:
  /// Objects that a work request can pin besides its SGEs' regions: a window and its region, or an address
  /// handle.
  static constexpr uint32_t kExtraPins = 2;
  static constexpr uint64_t kPageMask = 4095;

  const WorkRequestSlot& Slot(uint32_t seq) const noexcept {
    return ring_.slots[seq & (limits_.capacity - 1)];
  }
  uint8_t* InlineArea(uint32_t seq) const noexcept {
    return ring_.inline_data + size_t{seq & (limits_.capacity - 1)} * limits_.max_inline;
  }
  static const SgeSlot& SgeIn(const WorkRequestSlot& slot) noexcept {
    return reinterpret_cast<const SgeSlot&>(slot.arg_lo);
  }
  /// The SGEs of the batch's work request [index]; there is room for two at least.
  ibv_sge* Sges(uint32_t index) noexcept { return &sges_[size_t{index} * std::max(limits_.max_sge, 2u)]; }

  /// Changes how many work requests there may be, and the ring's capacity, in a queue that names slots.
  void Grow(uint32_t max_wr, uint32_t capacity);
  bool CheckRing(uint32_t first, uint32_t count, PostStatus* status) const noexcept;
  /// Checks the SGEs of [seq] and copies them to Sges([index]); [length] is their sum, in bytes.
  bool Translate(uint32_t seq, uint32_t index, bool needs_write, PostStatus* status, uint32_t* num_sge,
                 uint64_t* length);
  MemoryRegion* Lookup(uint32_t lkey) noexcept;
  /// Concludes a post: [rc] is the provider's answer, [bad] the index of the first work request not posted,
  /// [named] whether the provider has said so.
  int Settle(int rc, uint32_t first, uint32_t count, uint32_t bad, PostStatus* status, bool named);
  void Undo(uint32_t first, uint32_t count);

  QueueLimits limits_;
  const std::shared_ptr<KeyTable> keys_;
  PinTable pins_;
  WorkRing ring_;

 private:
  std::vector<ibv_sge> sges_;
  uint32_t cached_lkey_ = 0;
  uint32_t cached_version_ = 0;
  MemoryRegion* cached_region_ = nullptr;
};

// Inlined into every kind of queue, since they run for every SGE.

inline MemoryRegion* WorkQueue::Lookup(uint32_t lkey) noexcept {
  if (lkey != cached_lkey_ || keys_->version() != cached_version_) {
    cached_region_ = keys_->Find(lkey);
    cached_lkey_ = lkey;
    cached_version_ = cached_region_ != nullptr ? keys_->version() : 0;
  }
  return cached_region_;
}

inline bool WorkQueue::Translate(uint32_t seq, uint32_t index, bool needs_write, PostStatus* status,
                                 uint32_t* num_sge, uint64_t* length) {
  const uint32_t slot_index = seq & (limits_.capacity - 1);
  const WorkRequestSlot& slot = ring_.slots[slot_index];
  // Read once: JavaScript memory is shared, and what was checked is what must be used.
  const uint32_t num = slot.num_sge;
  const bool in_slot = num == kSgeInSlot;
  const uint32_t wanted = in_slot ? 1 : num;
  if (wanted > limits_.max_sge) return Refuse(status, PostCheck::kNumSge, wanted, limits_.max_sge);
  const SgeSlot* from = in_slot ? &SgeIn(slot) : ring_.sges + size_t{slot_index} * limits_.max_sge;
  ibv_sge* to = Sges(index);
  uint64_t total = 0;
  uint32_t used = 0;
  for (uint32_t i = 0; i < wanted; ++i) {
    const SgeSlot sge = from[i];
    // A zero-length SGE in a list panics siw's sender and leaks a pin in its receiver (kernel
    // sw/siw/siw_qp_tx.c).
    if (sge.length == 0) continue;
    MemoryRegion* region = Lookup(sge.lkey);
    if (region == nullptr) return Refuse(status, PostCheck::kLkey, sge.lkey, 0, i);
    const uint64_t addr = JoinWords(sge.addr_lo, sge.addr_hi);
    if (!region->Contains(addr, sge.length)) {
      return Refuse(status, PostCheck::kRange, sge.length, static_cast<uint32_t>(region->length()), i);
    }
    if (needs_write && (region->access() & IBV_ACCESS_LOCAL_WRITE) == 0) {
      return Refuse(status, PostCheck::kLocalWrite, sge.lkey, 0, i);
    }
    const bool by_device = needs_write || (slot.send_flags & IBV_SEND_INLINE) == 0;
    if (region->page_starts() && by_device && ((addr | total) & kPageMask) != 0) {
      return Refuse(status, PostCheck::kPageStart, static_cast<uint32_t>((addr | total) & kPageMask), 0, i);
    }
    pins_.Add(seq, region);
    to[used++] = {addr, sge.length, sge.lkey};
    total += sge.length;
  }
  if (total > limits_.max_message) {
    return Refuse(status, PostCheck::kMessageLength, static_cast<uint32_t>(total),
                  static_cast<uint32_t>(limits_.max_message));
  }
  if (used == 0 && limits_.max_sge > 0) to[used++] = {0, 0, 0};
  *num_sge = used;
  *length = total;
  return true;
}

}  // namespace rdma
