#include "work_queue.h"

#include <algorithm>
#include <cerrno>

#include "error.h"

namespace rdma {

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
  ring.slots = reinterpret_cast<const WorkRequestSlot*>(bytes);
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

bool WorkQueue::CheckRing(uint32_t first, uint32_t count, PostStatus* status) const noexcept {
  const uint32_t free = limits_.max_wr - pins_.outstanding();
  if (first != pins_.tail() || count > free) return Refuse(status, PostCheck::kRing, count, free);
  return true;
}

void WorkQueue::Skip(uint32_t count) {
  if (count > limits_.max_wr - pins_.outstanding())
    throw Error("ibv_post_send", ENOBUFS, "the queue is full");
  for (uint32_t i = 0; i < count; ++i) pins_.Begin(pins_.tail() + i, true);
  pins_.Posted(count);
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
