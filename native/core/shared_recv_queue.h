#pragma once

#include <vector>

#include "work_queue.h"

namespace rdma {

/// The receives of a shared receive queue.
///
/// They come back in any order, and one may stay out for as long as its connection is silent. So a receive is
/// not named by its place in a sequence but by a slot, taken from a free list that JavaScript keeps, and the
/// slot's generation.
class SharedRecvQueue : public WorkQueue {
 public:
  /// Bits of a receive's name that are the slot; the rest is the generation.
  static constexpr uint32_t kSlotBits = 20;
  static constexpr uint32_t kMaxSlots = 1u << kSlotBits;

  SharedRecvQueue(const QueueLimits& limits, std::shared_ptr<KeyTable> keys);

  /// [batch] is where a post finds the numbers of its slots; it has room for all.
  void Attach(const WorkRing& ring, const uint32_t* batch) noexcept;

  /// Changes the limit; the slots grow to [capacity], which is never less than before. A larger ring must be
  /// attached before the next post.
  void Resize(uint32_t max_wr, uint32_t capacity);

  uint32_t outstanding() const noexcept { return outstanding_; }

  /// Posts the first [count] slots of the batch. Returns 0, or an errno with the rest in [status].
  int Post(ibv_srq* srq, uint64_t wr_id_base, uint32_t count, PostStatus* status);

  /// Retires the receive that is named [name]; false when it is not in flight (a duplicate).
  bool Complete(uint32_t name);
  void RetireAll();

 private:
  struct SlotState {
    uint32_t generation : 31;
    uint32_t in_flight : 1;
  };

  /// Takes the slot of the batch's receive [index] for it; false when JavaScript named one that is not free.
  bool Take(uint32_t index, PostStatus* status);
  void Release(uint32_t slot);

  const uint32_t* batch_ = nullptr;
  std::vector<uint32_t> taken_;  // the slots of the batch in hand: JavaScript's memory is read once
  std::vector<SlotState> states_;
  std::vector<ibv_recv_wr> wrs_;
  uint32_t outstanding_ = 0;
};

}  // namespace rdma
