#include "work_queue.h"

#include <algorithm>
#include <cerrno>

#include "error.h"

namespace rdma {

namespace {

constexpr uint64_t kPageMask = 4095;

}  // namespace

bool Refuse(PostStatus* status, PostCheck check, uint32_t value, uint32_t limit, uint32_t sge) noexcept {
  status->check = static_cast<uint32_t>(check);
  status->value = value;
  status->limit = limit;
  status->sge_index = sge;
  return false;
}

size_t WorkRing::Bytes(uint32_t capacity, uint32_t max_sge, uint32_t max_inline) {
  return size_t{capacity} * (sizeof(WorkRequestSlot) + size_t{max_sge} * sizeof(SgeSlot) + max_inline);
}

WorkRing WorkRing::At(void* memory, uint32_t capacity, uint32_t max_sge) {
  auto* bytes = static_cast<uint8_t*>(memory);
  WorkRing ring;
  ring.slots = reinterpret_cast<WorkRequestSlot*>(bytes);
  bytes += size_t{capacity} * sizeof(WorkRequestSlot);
  ring.sges = reinterpret_cast<const SgeSlot*>(bytes);
  ring.inline_data = bytes + size_t{capacity} * max_sge * sizeof(SgeSlot);
  return ring;
}

WorkQueue::WorkQueue(const QueueLimits& limits, std::shared_ptr<KeyTable> keys)
    : limits_(limits),
      keys_(std::move(keys)),
      pins_(limits.capacity, limits.max_sge + kExtraPins),
      sges_(size_t{limits.capacity} * std::max(limits.max_sge, 2u)) {}

void WorkQueue::Grow(uint32_t max_wr, uint32_t capacity) {
  limits_.max_wr = max_wr;
  limits_.capacity = capacity;
  pins_.Grow(capacity);
  sges_.resize(size_t{capacity} * std::max(limits_.max_sge, 2u));
}

MemoryRegion* WorkQueue::Lookup(uint32_t lkey) noexcept {
  if (lkey != cached_lkey_ || keys_->version() != cached_version_) {
    cached_region_ = keys_->Find(lkey);
    cached_lkey_ = lkey;
    cached_version_ = cached_region_ != nullptr ? keys_->version() : 0;
  }
  return cached_region_;
}

bool WorkQueue::CheckRing(uint32_t first, uint32_t count, PostStatus* status) const noexcept {
  const uint32_t free = limits_.max_wr - pins_.outstanding();
  if (first != pins_.tail() || count > free) return Refuse(status, PostCheck::kRing, count, free);
  return true;
}

bool WorkQueue::Translate(uint32_t seq, uint32_t index, bool needs_write, PostStatus* status,
                          uint32_t* num_sge, uint64_t* length) {
  const uint32_t slot_index = seq & (limits_.capacity - 1);
  const WorkRequestSlot& slot = ring_.slots[slot_index];
  // Read once: JavaScript memory is shared, and what was checked is what must be used.
  const uint32_t wanted = slot.num_sge;
  if (wanted > limits_.max_sge) return Refuse(status, PostCheck::kNumSge, wanted, limits_.max_sge);
  const SgeSlot* from = ring_.sges + size_t{slot_index} * limits_.max_sge;
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

void WorkQueue::Undo(uint32_t first, uint32_t count) {
  for (uint32_t i = 0; i < count; ++i) pins_.Drop(first + i);
}

int WorkQueue::Settle(int rc, uint32_t first, uint32_t count, uint32_t bad, PostStatus* status, bool named) {
  int err = NormaliseErrno(rc);
  // libsiw may answer 0 and set bad_wr, or an error and leave it alone (providers/siw/siw.c siw_post_send).
  if (err == 0 && !named) {
    pins_.Posted(count);
    return 0;
  }
  if (err == 0) err = EINVAL;
  // An error that names no work request (a failed doorbell) leaves open what the device saw: all of it stays
  // pinned until the queue pair is destroyed.
  const uint32_t posted = bad;
  Undo(first + posted, count - posted);
  pins_.Posted(posted);
  status->posted = posted;
  status->wr_index = posted;
  status->check = static_cast<uint32_t>(named ? PostCheck::kNone : PostCheck::kUnclear);
  return err;
}

}  // namespace rdma
