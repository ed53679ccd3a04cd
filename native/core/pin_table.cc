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

void PinTable::RetireAll() {
  for (; head_ != tail_; ++head_) Finish(head_);
}

}  // namespace rdma
