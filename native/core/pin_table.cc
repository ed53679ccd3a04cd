#include "pin_table.h"

namespace rdma {

PinTable::PinTable(uint32_t capacity, uint32_t max_pins, uint32_t first)
    : mask_(capacity - 1),
      max_pins_(max_pins),
      head_(first),
      tail_(first),
      entries_(capacity),
      further_(size_t{capacity} * (max_pins - 1)) {}

void PinTable::Grow(uint32_t capacity) {
  mask_ = capacity - 1;
  entries_.resize(capacity);
  further_.resize(size_t{capacity} * (max_pins_ - 1));
}

void PinTable::AddFurther(uint32_t seq, Pinnable* object) noexcept {
  Entry& entry = At(seq);
  further_[size_t{seq & mask_} * (max_pins_ - 1) + entry.further++] = object;
  object->Pin();
}

void PinTable::DropFurther(uint32_t seq) {
  Entry& entry = At(seq);
  Pinnable** pins = &further_[size_t{seq & mask_} * (max_pins_ - 1)];
  for (uint16_t i = 0; i < entry.further; ++i) pins[i]->Unpin();
  entry.further = 0;
}

void PinTable::RetireAll() {
  for (; head_ != tail_; ++head_) Finish(head_);
}

}  // namespace rdma
