#pragma once

#include <span>
#include <vector>

#include "layout.h"
#include "memory.h"
#include "provider.h"

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
  Provider provider;
};

/// The work requests in flight, sequence numbers [head, tail), and the regions that each of them holds.
///
/// A completion retires its own work request and the unsignalled ones just before it. Signalled ones before
/// it have completions of their own, which may come later: siw completes a SEND while an earlier READ still
/// waits for its response (kernel sw/siw/siw_qp_tx.c siw_qp_sq_process).
class PinTable {
 public:
  PinTable(uint32_t capacity, uint32_t max_sge);

  uint32_t tail() const noexcept { return tail_; }
  uint32_t outstanding() const noexcept { return tail_ - head_; }

  void Begin(uint32_t seq, bool signalled) noexcept {
    counts_[seq & mask_] = 0;
    states_[seq & mask_] = signalled ? State::kSignalled : State::kUnsignalled;
  }
  void Add(uint32_t seq, MemoryRegion* region) noexcept {
    pins_[size_t{seq & mask_} * max_sge_ + counts_[seq & mask_]++] = region;
    region->Pin();
  }
  void Drop(uint32_t seq);
  void Posted(uint32_t count) noexcept { tail_ += count; }

  /// False when [seq] is not in flight: a duplicate.
  bool Complete(uint32_t seq);
  void RetireAll();

 private:
  enum class State : uint8_t { kDone, kUnsignalled, kSignalled };

  void Finish(uint32_t seq);

  const uint32_t mask_;
  const uint32_t max_sge_;
  uint32_t head_ = 0;
  uint32_t tail_ = 0;
  std::vector<MemoryRegion*> pins_;
  std::vector<uint16_t> counts_;
  std::vector<State> states_;
};

/// Checks slots, turns them into work requests of libibverbs and posts them with one call.
class WorkQueue {
 public:
  WorkQueue(const QueueLimits& limits, std::shared_ptr<KeyTable> keys);

  void Attach(const WorkRing& ring) noexcept { ring_ = ring; }
  const QueueLimits& limits() const noexcept { return limits_; }
  PinTable& pins() noexcept { return pins_; }

  /// Posts [count] slots from sequence number [first]. Returns 0, or an errno with the rest in [status].
  int PostSend(ibv_qp* qp, uint64_t wr_id_base, uint32_t first, uint32_t count, PostStatus* status);
  int PostRecv(ibv_qp* qp, uint64_t wr_id_base, uint32_t first, uint32_t count, PostStatus* status);

 private:
  bool CheckRing(uint32_t first, uint32_t count, PostStatus* status) const noexcept;
  bool CheckSend(const WorkRequestSlot& slot, PostStatus* status) const noexcept;
  bool Translate(uint32_t seq, uint32_t index, bool needs_write, PostStatus* status, uint32_t* num_sge);
  bool TranslateInline(uint32_t seq, const WorkRequestSlot& slot, uint32_t index, PostStatus* status,
                       uint32_t* num_sge);
  MemoryRegion* Lookup(uint32_t lkey) noexcept;
  int Settle(int rc, uint32_t first, uint32_t count, uint32_t bad, PostStatus* status);
  void Undo(uint32_t first, uint32_t count);

  QueueLimits limits_;
  std::shared_ptr<KeyTable> keys_;
  PinTable pins_;
  WorkRing ring_;
  std::vector<ibv_sge> sges_;
  std::vector<ibv_send_wr> send_;
  std::vector<ibv_recv_wr> recv_;
  uint32_t cached_lkey_ = 0;
  uint32_t cached_version_ = 0;
  MemoryRegion* cached_region_ = nullptr;
};

}  // namespace rdma
