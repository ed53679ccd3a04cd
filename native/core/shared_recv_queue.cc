#include "shared_recv_queue.h"

#include <cerrno>

#include "error.h"

namespace rdma {

namespace {

constexpr uint32_t kSlotMask = SharedRecvQueue::kMaxSlots - 1;
constexpr uint32_t kGenerationMask = UINT32_MAX >> SharedRecvQueue::kSlotBits;

}  // namespace

SharedRecvQueue::SharedRecvQueue(const QueueLimits& limits, std::shared_ptr<KeyTable> keys)
    : WorkQueue(limits, std::move(keys)),
      taken_(limits.capacity),
      states_(limits.capacity),
      wrs_(limits.capacity) {}

void SharedRecvQueue::Attach(const WorkRing& ring, const uint32_t* batch) noexcept {
  ring_ = ring;
  batch_ = batch;
}

void SharedRecvQueue::Resize(uint32_t max_wr, uint32_t capacity) {
  WorkQueue::Grow(max_wr, capacity);
  taken_.resize(capacity);
  states_.resize(capacity);
  wrs_.resize(capacity);
}

bool SharedRecvQueue::Take(uint32_t index, PostStatus* status) {
  const uint32_t slot = batch_[index];
  if (slot >= limits_.capacity || states_[slot].in_flight != 0) {
    return Refuse(status, PostCheck::kRing, slot, limits_.capacity);
  }
  states_[slot].in_flight = 1;
  taken_[index] = slot;
  pins_.Begin(slot, true);
  return true;
}

void SharedRecvQueue::Release(uint32_t slot) {
  pins_.Drop(slot);
  states_[slot].in_flight = 0;
  states_[slot].generation = (states_[slot].generation + 1) & kGenerationMask;
}

int SharedRecvQueue::Post(ibv_srq* srq, uint64_t wr_id_base, uint32_t count, PostStatus* status) {
  status->posted = 0;
  status->wr_index = 0;
  const uint32_t free = limits_.max_wr - outstanding_;
  if (count == 0 || count > free) {
    Refuse(status, PostCheck::kRing, count, free);
    return EINVAL;
  }
  for (uint32_t i = 0; i < count; ++i) {
    const bool taken = Take(i, status);
    uint32_t num_sge = 0;
    uint64_t length = 0;
    if (!taken || !Translate(taken_[i], i, true, status, &num_sge, &length)) {
      status->wr_index = i;
      for (uint32_t undo = 0; undo < i + (taken ? 1 : 0); ++undo) Release(taken_[undo]);
      return EINVAL;
    }
    const uint32_t name = states_[taken_[i]].generation << kSlotBits | taken_[i];
    wrs_[i] = {wr_id_base | name, i + 1 < count ? &wrs_[i + 1] : nullptr, Sges(i), static_cast<int>(num_sge)};
  }
  ibv_recv_wr* bad = nullptr;
  const int rc = ibv_post_srq_recv(srq, wrs_.data(), &bad);
  const uint32_t posted = bad == nullptr ? count : static_cast<uint32_t>(bad - wrs_.data());
  outstanding_ += posted;
  int err = NormaliseErrno(rc);
  if (err == 0 && bad == nullptr) return 0;
  if (err == 0) err = EINVAL;
  // An error that names no receive leaves open what the device saw: all of it stays pinned.
  for (uint32_t i = posted; i < count; ++i) Release(taken_[i]);
  status->posted = posted;
  status->wr_index = posted;
  status->check = static_cast<uint32_t>(bad != nullptr ? PostCheck::kNone : PostCheck::kUnclear);
  return err;
}

bool SharedRecvQueue::Complete(uint32_t name) {
  const uint32_t slot = name & kSlotMask;
  if (slot >= states_.size() || states_[slot].in_flight == 0 ||
      states_[slot].generation != name >> kSlotBits) {
    return false;
  }
  Release(slot);
  --outstanding_;
  return true;
}

void SharedRecvQueue::RetireAll() {
  for (uint32_t slot = 0; slot < states_.size(); ++slot) {
    if (states_[slot].in_flight != 0) Release(slot);
  }
  outstanding_ = 0;
}

}  // namespace rdma
