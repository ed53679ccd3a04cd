#include "queues.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "error.h"

namespace rdma {

namespace {

bool Refuse(PostStatus* status, PostCheck check, uint32_t value, uint32_t limit, uint32_t sge = 0) noexcept {
  status->check = static_cast<uint32_t>(check);
  status->value = value;
  status->limit = limit;
  status->sge_index = sge;
  return false;
}

uint64_t Join(uint32_t lo, uint32_t hi) noexcept { return uint64_t{hi} << 32 | lo; }

constexpr uint32_t kKnownFlags = IBV_SEND_FENCE | IBV_SEND_SIGNALED | IBV_SEND_SOLICITED | IBV_SEND_INLINE;

}  // namespace

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

PinTable::PinTable(uint32_t capacity, uint32_t max_sge)
    : mask_(capacity - 1),
      max_sge_(max_sge),
      pins_(size_t{capacity} * max_sge),
      counts_(capacity),
      states_(capacity, State::kDone) {}

void PinTable::Drop(uint32_t seq) {
  const uint32_t slot = seq & mask_;
  MemoryRegion** pins = &pins_[size_t{slot} * max_sge_];
  for (uint16_t i = 0; i < counts_[slot]; ++i) pins[i]->Unpin();
  counts_[slot] = 0;
}

void PinTable::Finish(uint32_t seq) {
  Drop(seq);
  states_[seq & mask_] = State::kDone;
}

bool PinTable::Complete(uint32_t seq) {
  if (seq - head_ >= outstanding() || states_[seq & mask_] == State::kDone) return false;
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

WorkQueue::WorkQueue(const QueueLimits& limits, std::shared_ptr<KeyTable> keys)
    : limits_(limits),
      keys_(std::move(keys)),
      pins_(limits.capacity, std::max(limits.max_sge, 1u)),
      sges_(size_t{limits.capacity} * std::max(limits.max_sge, 1u)),
      send_(limits.capacity),
      recv_(limits.capacity) {}

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

bool WorkQueue::CheckSend(const WorkRequestSlot& slot, PostStatus* status) const noexcept {
  if (!OpcodeAllowed(limits_.provider, slot.opcode))
    return Refuse(status, PostCheck::kOpcode, slot.opcode, 0);
  if ((slot.send_flags & ~kKnownFlags) != 0) {
    return Refuse(status, PostCheck::kFlags, slot.send_flags, kKnownFlags);
  }
  if ((slot.send_flags & IBV_SEND_INLINE) != 0 && !InlineAllowed(slot.opcode)) {
    return Refuse(status, PostCheck::kInlineOpcode, slot.opcode, 0);
  }
  if ((slot.send_flags & IBV_SEND_FENCE) != 0 && !FenceAllowed(limits_.provider, slot.opcode)) {
    return Refuse(status, PostCheck::kFenceRead, slot.opcode, 0);
  }
  if (slot.opcode == IBV_WR_RDMA_READ && slot.num_sge > limits_.max_sge_read) {
    return Refuse(status, PostCheck::kReadSge, slot.num_sge, limits_.max_sge_read);
  }
  return true;
}

bool WorkQueue::Translate(uint32_t seq, uint32_t index, bool needs_write, PostStatus* status,
                          uint32_t* num_sge) {
  const uint32_t slot_index = seq & (limits_.capacity - 1);
  const WorkRequestSlot& slot = ring_.slots[slot_index];
  // Read once: JavaScript memory is shared, and what was checked is what must be used.
  const uint32_t wanted = slot.num_sge;
  if (wanted > limits_.max_sge) return Refuse(status, PostCheck::kNumSge, wanted, limits_.max_sge);
  const SgeSlot* from = ring_.sges + size_t{slot_index} * limits_.max_sge;
  ibv_sge* to = &sges_[size_t{index} * std::max(limits_.max_sge, 1u)];
  uint64_t total = 0;
  uint32_t used = 0;
  for (uint32_t i = 0; i < wanted; ++i) {
    const SgeSlot sge = from[i];
    // A zero-length SGE in a list panics siw's sender and leaks a pin in its receiver (kernel
    // sw/siw/siw_qp_tx.c).
    if (sge.length == 0) continue;
    MemoryRegion* region = Lookup(sge.lkey);
    if (region == nullptr) return Refuse(status, PostCheck::kLkey, sge.lkey, 0, i);
    const uint64_t addr = Join(sge.addr_lo, sge.addr_hi);
    if (!region->Contains(addr, sge.length)) {
      return Refuse(status, PostCheck::kRange, sge.length, static_cast<uint32_t>(region->length()), i);
    }
    if (needs_write && (region->access() & IBV_ACCESS_LOCAL_WRITE) == 0) {
      return Refuse(status, PostCheck::kLocalWrite, sge.lkey, 0, i);
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
  return true;
}

bool WorkQueue::TranslateInline(uint32_t seq, const WorkRequestSlot& slot, uint32_t index, PostStatus* status,
                                uint32_t* num_sge) {
  if (slot.num_sge != 0) {
    if (!Translate(seq, index, false, status, num_sge)) return false;
    uint64_t total = 0;
    const ibv_sge* sges = &sges_[size_t{index} * limits_.max_sge];
    for (uint32_t i = 0; i < *num_sge; ++i) total += sges[i].length;
    if (total > limits_.max_inline) {
      return Refuse(status, PostCheck::kInlineLength, static_cast<uint32_t>(total), limits_.max_inline);
    }
    return true;
  }
  const uint32_t length = slot.inline_length;
  if (length > limits_.max_inline)
    return Refuse(status, PostCheck::kInlineLength, length, limits_.max_inline);
  const uint8_t* data = ring_.inline_data + size_t{seq & (limits_.capacity - 1)} * limits_.max_inline;
  sges_[size_t{index} * std::max(limits_.max_sge, 1u)] = {reinterpret_cast<uintptr_t>(data), length, 0};
  *num_sge = 1;
  return true;
}

void WorkQueue::Undo(uint32_t first, uint32_t count) {
  for (uint32_t i = 0; i < count; ++i) pins_.Drop(first + i);
}

int WorkQueue::Settle(int rc, uint32_t first, uint32_t count, uint32_t bad, PostStatus* status) {
  int err = NormaliseErrno(rc);
  // libsiw may answer 0 and set bad_wr, or an error and leave it alone (providers/siw/siw.c siw_post_send).
  if (err == 0 && bad == count) {
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
  status->check = static_cast<uint32_t>(PostCheck::kNone);
  return err;
}

int WorkQueue::PostSend(ibv_qp* qp, uint64_t wr_id_base, uint32_t first, uint32_t count, PostStatus* status) {
  status->posted = 0;
  status->wr_index = 0;
  if (!CheckRing(first, count, status)) return EINVAL;
  const uint32_t stride = std::max(limits_.max_sge, 1u);
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t seq = first + i;
    WorkRequestSlot slot = ring_.slots[seq & (limits_.capacity - 1)];
    if (MustSignal(limits_.provider, slot.opcode)) slot.send_flags |= IBV_SEND_SIGNALED;
    pins_.Begin(seq, (slot.send_flags & IBV_SEND_SIGNALED) != 0);
    uint32_t num_sge = 0;
    const bool ok = CheckSend(slot, status) &&
                    ((slot.send_flags & IBV_SEND_INLINE) != 0
                         ? TranslateInline(seq, slot, i, status, &num_sge)
                         : Translate(seq, i, slot.opcode == IBV_WR_RDMA_READ, status, &num_sge));
    if (!ok) {
      status->wr_index = i;
      Undo(first, i + 1);
      return EINVAL;
    }
    ibv_send_wr& wr = send_[i];
    std::memset(&wr, 0, sizeof wr);
    wr.wr_id = wr_id_base | seq;
    wr.next = i + 1 < count ? &send_[i + 1] : nullptr;
    wr.sg_list = &sges_[size_t{i} * stride];
    wr.num_sge = static_cast<int>(num_sge);
    wr.opcode = static_cast<ibv_wr_opcode>(slot.opcode);
    wr.send_flags = slot.send_flags;
    wr.imm_data = htonl(slot.imm_data);
    wr.wr.rdma.remote_addr = Join(slot.remote_addr_lo, slot.remote_addr_hi);
    wr.wr.rdma.rkey = slot.rkey;
  }
  ibv_send_wr* bad = nullptr;
  const int rc = ibv_post_send(qp, send_.data(), &bad);
  return Settle(rc, first, count, bad == nullptr ? count : static_cast<uint32_t>(bad - send_.data()), status);
}

int WorkQueue::PostRecv(ibv_qp* qp, uint64_t wr_id_base, uint32_t first, uint32_t count, PostStatus* status) {
  status->posted = 0;
  status->wr_index = 0;
  if (!CheckRing(first, count, status)) return EINVAL;
  const uint32_t stride = std::max(limits_.max_sge, 1u);
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t seq = first + i;
    pins_.Begin(seq, true);
    uint32_t num_sge = 0;
    if (!Translate(seq, i, true, status, &num_sge)) {
      status->wr_index = i;
      Undo(first, i + 1);
      return EINVAL;
    }
    recv_[i] = {wr_id_base | seq, i + 1 < count ? &recv_[i + 1] : nullptr, &sges_[size_t{i} * stride],
                static_cast<int>(num_sge)};
  }
  ibv_recv_wr* bad = nullptr;
  const int rc = ibv_post_recv(qp, recv_.data(), &bad);
  return Settle(rc, first, count, bad == nullptr ? count : static_cast<uint32_t>(bad - recv_.data()), status);
}

}  // namespace rdma
