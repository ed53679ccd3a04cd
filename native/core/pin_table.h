#pragma once

#include <cstdint>
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

  uint32_t tail() const noexcept { return tail_; }
  uint32_t outstanding() const noexcept { return tail_ - head_; }

  void Begin(uint32_t seq, bool signalled) noexcept {
    counts_[seq & mask_] = 0;
    states_[seq & mask_] = signalled ? State::kSignalled : State::kUnsignalled;
  }
  void Add(uint32_t seq, Pinnable* object) noexcept {
    pins_[size_t{seq & mask_} * max_pins_ + counts_[seq & mask_]++] = object;
    object->Pin();
  }
  /// [seq] has a completion of its own.
  void Signal(uint32_t seq) noexcept { states_[seq & mask_] = State::kSignalled; }
  void Drop(uint32_t seq) {
    const uint32_t slot = seq & mask_;
    Pinnable** pins = &pins_[size_t{slot} * max_pins_];
    for (uint16_t i = 0; i < counts_[slot]; ++i) pins[i]->Unpin();
    counts_[slot] = 0;
  }

  /// Room for more, where slots are named and not sequence numbers: those in flight stay where they are.
  void Grow(uint32_t capacity);
  void Posted(uint32_t count) noexcept { tail_ += count; }

  bool InFlight(uint32_t seq) const noexcept {
    return seq - head_ < outstanding() && states_[seq & mask_] != State::kDone;
  }
  /// False when [seq] is not in flight: a duplicate.
  bool Complete(uint32_t seq) {
    if (!InFlight(seq)) return false;
    Finish(seq);
    for (uint32_t before = seq; before != head_ && states_[(before - 1) & mask_] == State::kUnsignalled;
         --before) {
      Finish(before - 1);
    }
    while (head_ != tail_ && states_[head_ & mask_] == State::kDone) ++head_;
    return true;
  }
  void RetireAll();

 private:
  enum class State : uint8_t { kDone, kUnsignalled, kSignalled };

  void Finish(uint32_t seq) {
    Drop(seq);
    states_[seq & mask_] = State::kDone;
  }

  uint32_t mask_;
  const uint32_t max_pins_;
  uint32_t head_;
  uint32_t tail_;
  std::vector<Pinnable*> pins_;
  std::vector<uint16_t> counts_;
  std::vector<State> states_;
};

}  // namespace rdma
