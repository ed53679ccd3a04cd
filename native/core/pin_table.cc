#include "pin_table.h"

namespace rdma {

PinTable::PinTable(uint32_t capacity, uint32_t max_pins, uint32_t first)
    : mask_(capacity - 1),
      max_pins_(max_pins),
      head_(first),
      tail_(first),
      pins_(size_t{capacity} * max_pins),
      counts_(capacity),
      states_(capacity, State::kDone) {}

void PinTable::Grow(uint32_t capacity) {
  mask_ = capacity - 1;
  pins_.resize(size_t{capacity} * max_pins_);
  counts_.resize(capacity);
  states_.resize(capacity, State::kDone);
}

void PinTable::Drop(uint32_t seq) {
  const uint32_t slot = seq & mask_;
  Pinnable** pins = &pins_[size_t{slot} * max_pins_];
  for (uint16_t i = 0; i < counts_[slot]; ++i) pins[i]->Unpin();
  counts_[slot] = 0;
}

void PinTable::Finish(uint32_t seq) {
  Drop(seq);
  states_[seq & mask_] = State::kDone;
}

bool PinTable::Complete(uint32_t seq) {
  if (!InFlight(seq)) return false;
  Finish(seq);
  for (uint32_t before = seq; before != head_ && states_[(before - 1) & mask_] == State::kUnsignalled;
       --before) {
    Finish(before - 1);
  }
  while (head_ != tail_ && states_[head_ & mask_] == State::kDone) ++head_;
  return true;
}

void PinTable::RetireAll() {
  for (; head_ != tail_; ++head_) Finish(head_);
}

}  // namespace rdma
