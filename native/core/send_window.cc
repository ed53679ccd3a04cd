// BIND_MW and LOCAL_INV: work requests that change a memory window.

#include <utility>

#include "memory_window.h"
#include "opcodes.h"
#include "send_queue.h"

namespace rdma {

namespace {

constexpr uint32_t kKeyMask = 0xff;  // the part of an rkey that its owner chooses (ibv_inc_rkey(3))
constexpr uint32_t kRemoteWrites = IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_ATOMIC;
constexpr uint32_t kWindowAccess = kRemoteWrites | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_ZERO_BASED;

}  // namespace

SendQueue::WindowState SendQueue::StateOf(const MemoryWindow& window) const noexcept {
  for (auto it = changes_.rbegin(); it != changes_.rend(); ++it) {
    if (it->window.get() == &window) return {it->range.rkey, it->region != nullptr};
  }
  return {window.rkey(), window.bound()};
}

bool SendQueue::PrepareBind(uint32_t seq, uint32_t index, const WorkRequestSlot& slot, ibv_send_wr* wr,
                            PostStatus* status) {
  MemoryWindow* window = keys_->windows().Find(slot.object);
  if (window == nullptr) return Refuse(status, PostCheck::kWindow, slot.object, 0);
  const bool type2 = window->type() == IBV_MW_TYPE_2;
  const WindowState state = StateOf(*window);
  if (type2 && state.bound) return Refuse(status, PostCheck::kWindowBound, state.rkey, 0);
  const uint32_t rkey = slot.rkey != 0 ? slot.rkey : ibv_inc_rkey(state.rkey);
  // ibv_bind_mw(3) chooses the key of type 1 itself.
  if (type2 ? ((rkey ^ state.rkey) & ~kKeyMask) != 0 : slot.rkey != 0) {
    return Refuse(status, PostCheck::kWindowKey, slot.rkey, type2 ? state.rkey : 0);
  }
  MemoryRegion* region = keys_->Find(slot.object2);
  if (region == nullptr) return Refuse(status, PostCheck::kWindowRegion, slot.object2, 0);
  if ((region->access() & IBV_ACCESS_MW_BIND) == 0) {
    return Refuse(status, PostCheck::kWindowAllow, slot.object2, 0);
  }
  const uint64_t addr = JoinWords(slot.arg_lo, slot.arg_hi);
  const uint64_t length = JoinWords(slot.arg2_lo, slot.arg2_hi);
  if (length == 0 && type2) return Refuse(status, PostCheck::kWindowLength, 0, 1);
  if (length != 0 && !region->Contains(addr, length)) {
    return Refuse(status, PostCheck::kWindowRange, slot.arg2_lo, static_cast<uint32_t>(region->length()));
  }
  const uint32_t access = slot.remote_qkey;
  const uint32_t allowed = type2 ? kWindowAccess : kWindowAccess & ~uint32_t{IBV_ACCESS_ZERO_BASED};
  if ((access & ~allowed) != 0) return Refuse(status, PostCheck::kWindowAccess, access, allowed);
  if ((access & kRemoteWrites) != 0 && (region->access() & IBV_ACCESS_LOCAL_WRITE) == 0) {
    return Refuse(status, PostCheck::kWindowLocalWrite, slot.object2, 0);
  }
  wr->bind_mw.mw = window->mw();
  wr->bind_mw.rkey = rkey;
  wr->bind_mw.bind_info = {region->mr(), addr, length, access};
  pins_.Add(seq, window);
  pins_.Add(seq, region);
  changes_.push_back({std::static_pointer_cast<MemoryWindow>(window->shared_from_this()),
                      index,
                      seq,
                      length == 0 ? nullptr : region,
                      {addr, length, static_cast<int>(access), rkey}});
  return true;
}

bool SendQueue::PrepareInvalidate(uint32_t seq, uint32_t index, const WorkRequestSlot& slot,
                                  PostStatus* status) {
  const uint32_t rkey = slot.imm_data;
  MemoryWindow* window = keys_->windows().Find(rkey);
  const WindowState state = window != nullptr ? StateOf(*window) : WindowState{};
  if (window == nullptr || window->type() != IBV_MW_TYPE_2 || !state.bound || state.rkey != rkey) {
    return Refuse(status, PostCheck::kInvalidate, rkey, 0);
  }
  pins_.Add(seq, window);
  changes_.push_back({std::static_pointer_cast<MemoryWindow>(window->shared_from_this()),
                      index,
                      seq,
                      nullptr,
                      {0, 0, 0, rkey}});
  return true;
}

int SendQueue::PostType1(ibv_qp* qp, ibv_send_wr* wr) {
  ibv_mw_bind bind = {};
  bind.wr_id = wr->wr_id;
  bind.send_flags = wr->send_flags;
  bind.bind_info = wr->bind_mw.bind_info;
  const int rc = ibv_bind_mw(qp, wr->bind_mw.mw, &bind);
  wr->bind_mw.rkey = wr->bind_mw.mw->rkey;
  return rc;
}

void SendQueue::NoteChanges(uint32_t end) {
  while (noted_ < changes_.size() && changes_[noted_].index < end) {
    WindowChange& change = changes_[noted_++];
    if (wrs_[change.index].opcode == IBV_WR_LOCAL_INV) {
      change.window->PostedInvalidate(owner_, change.seq);
    } else {
      change.range.rkey = wrs_[change.index].bind_mw.rkey;
      change.window->PostedBind(owner_, change.seq, change.region, change.range);
    }
    in_flight_.push_back({change.window, change.seq});
  }
}

void SendQueue::DropChanges() {
  changes_.clear();
  noted_ = 0;
}

void SendQueue::ConcludeChanges(uint32_t seq, bool success) {
  // An unsignalled one that a later completion has retired was carried out.
  std::erase_if(in_flight_, [&](const ChangeInFlight& change) {
    if (pins_.InFlight(change.seq)) return false;
    change.window->Completed(owner_, change.seq, change.seq != seq || success);
    return true;
  });
}

void SendQueue::RetireAll() {
  pins_.RetireAll();
  for (const ChangeInFlight& change : std::exchange(in_flight_, {})) {
    change.window->Completed(owner_, change.seq, false);
  }
}

}  // namespace rdma
