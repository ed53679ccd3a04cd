#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "pinnable.h"

namespace rdma {

/// The work requests in flight, sequence numbers [head, tail), and what each of them holds.
///
/// A completion retires its own work request and the unsignalled ones just before it. Signalled ones before
/// it have completions of their own, which may come later: siw completes a SEND while an earlier READ still
/// waits for its response (kernel sw/siw/siw_qp_tx.c siw_qp_sq_process).
class PinTable {
 public:
  /// Every work request can hold [max_pins] objects. The first one will be [first].
  PinTable(uint32_t capacity, uint32_t max_pins, uint32_t first = 0);

  /// Sequence numbers of the oldest in flight, and of the next one.
  uint32_t head() const noexcept { return head_; }
  uint32_t tail() const noexcept { return tail_; }
  uint32_t outstanding() const noexcept { return tail_ - head_; }

  void Begin(uint32_t seq, bool signalled) noexcept {
    At(seq) = {nullptr, 0, signalled ? State::kSignalled : State::kUnsignalled};
  }
  /// Both Begin and Add, of a work request that holds [object] alone.
  void BeginWith(uint32_t seq, bool signalled, Pinnable* object) noexcept {
    At(seq) = {object, 0, signalled ? State::kSignalled : State::kUnsignalled};
    object->Pin();
  }
  void Add(uint32_t seq, Pinnable* object) noexcept {
    Entry& entry = At(seq);
    if (entry.first != nullptr) return AddFurther(seq, object);
    entry.first = object;
    object->Pin();
  }
  /// [seq] has a completion of its own.
  void Signal(uint32_t seq) noexcept { At(seq).state = State::kSignalled; }
  void Drop(uint32_t seq) {
    Entry& entry = At(seq);
    if (entry.first != nullptr) std::exchange(entry.first, nullptr)->Unpin();
    if (entry.further != 0) DropFurther(seq);
  }

  /// Room for more, where slots are named and not sequence numbers: those in flight stay where they are.
  void Grow(uint32_t capacity);
  void Posted(uint32_t count) noexcept { tail_ += count; }

  bool InFlight(uint32_t seq) const noexcept {
    return seq - head_ < outstanding() && entries_[seq & mask_].state != State::kDone;
  }
  /// How many it retires: [seq] and those that it implies; 0 when [seq] is not in flight: a duplicate.
  uint32_t Complete(uint32_t seq) {
    if (!InFlight(seq)) return 0;
    Finish(seq);
    uint32_t first = seq;
    for (; first != head_ && At(first - 1).state == State::kUnsignalled; --first) Finish(first - 1);
    if (first == head_) {
      head_ = seq + 1;
      while (head_ != tail_ && At(head_).state == State::kDone) ++head_;
    }
    return seq + 1 - first;
  }
  void RetireAll();

 private:
  enum class State : uint16_t { kDone, kUnsignalled, kSignalled };

  /// Most work requests hold one object: those in flight take few lines of the cache.
  struct Entry {
    Pinnable* first = nullptr;
    uint16_t further = 0;
    State state = State::kDone;
  };

  Entry& At(uint32_t seq) noexcept { return entries_[seq & mask_]; }
  void AddFurther(uint32_t seq, Pinnable* object) noexcept;
  void DropFurther(uint32_t seq);
  void Finish(uint32_t seq) {
    Drop(seq);
    At(seq).state = State::kDone;
  }

  uint32_t mask_;
  const uint32_t max_pins_;
  uint32_t head_;
  uint32_t tail_;
  std::vector<Entry> entries_;
  std::vector<Pinnable*> further_;
};

}  // namespace rdma
