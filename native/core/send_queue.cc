#include "send_queue.h"

#include <arpa/inet.h>

#include <cerrno>
#include <cstring>

#include "address_handle.h"
#include "error.h"
#include "opcodes.h"

namespace rdma {

namespace {

/// From this many bytes on siw gives pages to TCP without copying them (kernel sw/siw/siw.h SENDPAGE_THRESH).
constexpr uint64_t kZeroCopy = 4096;
constexpr uint32_t kMaxQpn = 0xffffff;

template <typename Qp>
void Flush(Qp* qp, const ibv_send_wr& wr) {
  if constexpr (HasFlush<Qp>) {
    const auto kind = wr.wr.atomic.swap;
    qp->wr_flush(qp, wr.wr.atomic.rkey, wr.wr.atomic.remote_addr, wr.wr.atomic.compare_add,
                 static_cast<uint8_t>(kind), static_cast<uint8_t>(kind >> 32));
  } else {
    static_cast<void>(qp);
    static_cast<void>(wr);
  }
}

/// The opcodes that a queue takes: what its type has, its provider carries out and it was created for.
uint32_t OpcodesOf(const QueueLimits& limits) {
  uint32_t opcodes = limits.rules->opcodes(limits.type) & ~kExtended;
  if ((limits.send_ops & kQpExWithAtomicWrite) != 0) opcodes |= OpcodeBit(kWrAtomicWrite);
  if (kFlushIsThere && (limits.send_ops & kQpExWithFlush) != 0) opcodes |= OpcodeBit(kWrFlush);
  return opcodes;
}

/// Messages of how many bytes or more are signalled, whether asked for or not.
uint64_t SignalledFrom(const QueueLimits& limits) {
  if (limits.signal_all) return 0;
  return limits.rules->Has(Rule::kZeroCopyTransmit) ? kZeroCopy : UINT64_MAX;
}

uint32_t PlainOpcodes(const QueueLimits& limits) {
  const bool connected = limits.type == IBV_QPT_RC || limits.type == IBV_QPT_UC;
  const uint32_t plain = OpcodeBit(IBV_WR_SEND) | OpcodeBit(IBV_WR_SEND_WITH_IMM) | kWrites;
  return connected ? OpcodesOf(limits) & plain : 0;
}

}  // namespace

SendQueue::SendQueue(const QueueLimits& limits, std::shared_ptr<KeyTable> keys, const void* owner)
    : WorkQueue(limits, std::move(keys)),
      opcodes_(OpcodesOf(limits)),
      plain_(PlainOpcodes(limits)),
      common_(limits.rules->Has(Rule::kTinyStraddle) ? 0 : plain_),
      signalled_from_(SignalledFrom(limits)),
      wrs_(limits.capacity),
      routes_(limits.capacity),
      owner_(owner) {}

bool SendQueue::TranslateInline(uint32_t seq, const WorkRequestSlot& slot, uint32_t index, PostStatus* status,
                                uint32_t* num_sge, uint64_t* length) {
  if (slot.num_sge != 0) {
    if (!Translate(seq, index, false, status, num_sge, length)) return false;
  } else {
    *length = slot.inline_length;
    *num_sge = 1;
  }
  if (*length > limits_.max_inline) {
    return Refuse(status, PostCheck::kInlineLength, static_cast<uint32_t>(*length), limits_.max_inline);
  }
  if (slot.num_sge == 0) {
    *Sges(index) = {reinterpret_cast<uintptr_t>(InlineArea(seq)), slot.inline_length, 0};
  }
  return true;
}

bool SendQueue::FillAddress(uint32_t seq, const WorkRequestSlot& slot, ibv_send_wr* wr, PostStatus* status) {
  switch (limits_.type) {
    case IBV_QPT_UD: {
      auto* ah = static_cast<AddressHandle*>(keys_->FindObject(slot.object, Kind::kAddressHandle));
      if (ah == nullptr) return Refuse(status, PostCheck::kAddressHandle, slot.object, 0);
      if (slot.remote_qpn > kMaxQpn) return Refuse(status, PostCheck::kRemoteQpn, slot.remote_qpn, kMaxQpn);
      pins_.Add(seq, ah);
      wr->wr.ud.ah = ah->ah();
      wr->wr.ud.remote_qpn = slot.remote_qpn;
      wr->wr.ud.remote_qkey = slot.remote_qkey;
      return true;
    }
    case IBV_QPT_XRC_SEND:
      wr->qp_type.xrc.remote_srqn = slot.remote_qpn;
      return true;
    default:
      return true;
  }
}

void SendQueue::Fill(const WorkRequestSlot& slot, ibv_send_wr* wr) const noexcept {
  const uint64_t remote_addr = JoinWords(slot.remote_addr_lo, slot.remote_addr_hi);
  switch (slot.opcode) {
    case IBV_WR_RDMA_WRITE_WITH_IMM:
    case IBV_WR_RDMA_WRITE:
    case IBV_WR_RDMA_READ:
      wr->wr.rdma.remote_addr = remote_addr;
      wr->wr.rdma.rkey = slot.rkey;
      [[fallthrough]];
    case IBV_WR_SEND_WITH_IMM:
      wr->imm_data = htonl(slot.imm_data);
      break;
    case IBV_WR_SEND_WITH_INV:
      // libsiw takes the key from the other field.
      wr->wr.rdma.rkey = slot.imm_data;
      [[fallthrough]];
    case IBV_WR_LOCAL_INV:
      wr->invalidate_rkey = slot.imm_data;
      break;
    case IBV_WR_ATOMIC_CMP_AND_SWP:
    case IBV_WR_ATOMIC_FETCH_AND_ADD:
    case kWrFlush:
    case kWrAtomicWrite:
      wr->wr.atomic.remote_addr = remote_addr;
      wr->wr.atomic.rkey = slot.rkey;
      wr->wr.atomic.compare_add = JoinWords(slot.arg_lo, slot.arg_hi);
      wr->wr.atomic.swap = JoinWords(slot.arg2_lo, slot.arg2_hi);
      break;
    default:
      break;
  }
}

bool SendQueue::PrepareOther(uint32_t seq, uint32_t index, const WorkRequestSlot& slot, PostStatus* status,
                             uint32_t* num_sge, uint64_t* length) {
  if (!CheckOpcode(slot.opcode, status) || !CheckFlags(slot, status)) return false;
  const uint32_t bit = OpcodeBit(slot.opcode);
  ibv_send_wr& wr = wrs_[index];
  std::memset(&wr, 0, sizeof wr);
  if ((kWithoutSges & bit) != 0) {
    if (slot.num_sge != 0) return Refuse(status, PostCheck::kNoSges, slot.opcode, 0);
  } else if ((slot.send_flags & IBV_SEND_INLINE) != 0) {
    if (!TranslateInline(seq, slot, index, status, num_sge, length)) return false;
  } else {
    const bool written = slot.opcode == IBV_WR_RDMA_READ || (kAtomics & bit) != 0;
    if (!Translate(seq, index, written, status, num_sge, length)) return false;
  }
  if (!CheckRemote(slot, *num_sge, *length, status)) return false;
  Fill(slot, &wr);
  if (!FillAddress(seq, slot, &wr, status)) return false;
  if ((kExtended & bit) != 0) routes_[index] = Route::kExtended;
  if (slot.opcode == IBV_WR_BIND_MW) {
    if (!PrepareBind(seq, index, slot, &wr, status)) return false;
    routes_[index] = wr.bind_mw.mw->type == IBV_MW_TYPE_1 ? Route::kBindType1 : Route::kBind;
  }
  return slot.opcode != IBV_WR_LOCAL_INV || PrepareInvalidate(seq, index, slot, status);
}

inline bool SendQueue::PrepareCommon(uint32_t seq, uint32_t index, const WorkRequestSlot& slot) {
  const uint32_t opcode = slot.opcode;
  uint32_t flags = slot.send_flags;
  if (slot.num_sge != kSgeInSlot || (common_ & OpcodeBit(opcode)) == 0 ||
      (flags & ~uint32_t{IBV_SEND_SIGNALED}) != 0) {
    return false;
  }
  const SgeSlot sge = SgeIn(slot);
  const uint64_t addr = JoinWords(sge.addr_lo, sge.addr_hi);
  MemoryRegion* region = Lookup(sge.lkey);
  if (sge.length == 0 || region == nullptr || !region->Contains(addr, sge.length) || region->page_starts() ||
      sge.length > limits_.max_message) {
    return false;
  }
  if (sge.length >= signalled_from_) flags |= IBV_SEND_SIGNALED;
  pins_.BeginWith(seq, (flags & IBV_SEND_SIGNALED) != 0, region);
  routes_[index] = Route::kList;
  *Sges(index) = {addr, sge.length, sge.lkey};
  ibv_send_wr& wr = wrs_[index];
  wr.sg_list = Sges(index);
  wr.num_sge = 1;
  wr.opcode = static_cast<ibv_wr_opcode>(opcode);
  wr.send_flags = flags;
  wr.imm_data = htonl(slot.imm_data);
  wr.wr.rdma = {JoinWords(slot.remote_addr_lo, slot.remote_addr_hi), slot.rkey};
  return true;
}

bool SendQueue::Prepare(uint32_t seq, uint32_t index, PostStatus* status) {
  // Every word is read once: JavaScript memory is shared, and what was checked is what must be used.
  const WorkRequestSlot& slot = Slot(seq);
  const ProviderRules& rules = *limits_.rules;
  uint32_t opcode = slot.opcode;
  uint32_t flags = slot.send_flags;
  pins_.Begin(seq, false);
  routes_[index] = Route::kList;

  uint32_t num_sge = 0;
  uint64_t length = 0;
  ibv_send_wr& wr = wrs_[index];
  if ((plain_ & OpcodeBit(opcode)) != 0 && (flags & ~uint32_t{IBV_SEND_SIGNALED}) == 0) {
    if (!Translate(seq, index, false, status, &num_sge, &length)) return false;
    // All that these opcodes have.
    wr.imm_data = htonl(slot.imm_data);
    wr.wr.rdma = {JoinWords(slot.remote_addr_lo, slot.remote_addr_hi), slot.rkey};
  } else {
    const WorkRequestSlot copy = slot;
    if (!PrepareOther(seq, index, copy, status, &num_sge, &length)) return false;
    opcode = copy.opcode;
    flags = copy.send_flags;
  }
  const bool is_inline = (flags & IBV_SEND_INLINE) != 0;
  if (!is_inline && opcode != IBV_WR_RDMA_READ && rules.Has(Rule::kTinyStraddle)) {
    SplitAtPage(Sges(index), &num_sge);
  }
  const bool late = opcode == IBV_WR_RDMA_READ && rules.Has(Rule::kReadCompletesLate);
  if (late || length >= signalled_from_) flags |= IBV_SEND_SIGNALED;
  if ((flags & IBV_SEND_SIGNALED) != 0) pins_.Signal(seq);

  wr.sg_list = Sges(index);
  wr.num_sge = static_cast<int>(num_sge);
  wr.opcode = static_cast<ibv_wr_opcode>(opcode);
  wr.send_flags = flags;
  return true;
}

SendQueue::Outcome SendQueue::PostList(ibv_qp* qp, uint32_t begin, uint32_t end) {
  ibv_send_wr* bad = nullptr;
  const int rc = ibv_post_send(qp, &wrs_[begin], &bad);
  return {rc, bad == nullptr ? end : static_cast<uint32_t>(bad - wrs_.data()), bad != nullptr};
}

SendQueue::Outcome SendQueue::PostExtended(ibv_qp* qp, uint32_t begin, uint32_t end) {
  ibv_qp_ex* ex = ibv_qp_to_qp_ex(qp);
  ibv_wr_start(ex);
  for (uint32_t i = begin; i < end; ++i) {
    const ibv_send_wr& wr = wrs_[i];
    ex->wr_id = wr.wr_id;
    ex->wr_flags = wr.send_flags;
    if (wr.opcode == static_cast<ibv_wr_opcode>(kWrAtomicWrite)) {
      ibv_wr_atomic_write(ex, wr.wr.atomic.rkey, wr.wr.atomic.remote_addr, &wr.wr.atomic.compare_add);
    } else {
      Flush(ex, wr);
    }
  }
  // When this fails, nothing since the start has been posted (ibv_wr_post(3)).
  const int rc = ibv_wr_complete(ex);
  return {rc, rc == 0 ? end : begin, rc != 0};
}

SendQueue::Outcome SendQueue::PostBind(ibv_qp* qp, uint32_t index) {
  if (routes_[index] == Route::kBind) return PostList(qp, index, index + 1);
  const int rc = PostType1(qp, &wrs_[index]);
  return {rc, rc == 0 ? index + 1 : index, rc != 0};
}

SendQueue::Outcome SendQueue::PostRoutes(ibv_qp* qp, uint32_t count) {
  for (uint32_t begin = 0; begin < count;) {
    const Route route = routes_[begin];
    const bool together = route == Route::kList || route == Route::kExtended;
    uint32_t end = begin + 1;
    while (together && end < count && routes_[end] == route) ++end;
    wrs_[end - 1].next = nullptr;
    const Outcome outcome = route == Route::kList       ? PostList(qp, begin, end)
                            : route == Route::kExtended ? PostExtended(qp, begin, end)
                                                        : PostBind(qp, begin);
    NoteChanges(outcome.bad);
    if (outcome.rc != 0 || outcome.named) return outcome;
    begin = end;
  }
  return {0, count, false};
}

int SendQueue::Post(ibv_qp* qp, uint64_t wr_id_base, uint32_t first, uint32_t count, PostStatus* status) {
  status->posted = 0;
  status->wr_index = 0;
  if (!CheckRing(first, count, status)) return EINVAL;
  if (!Ready(qp, status)) return ENOTCONN;
  bool one_list = true;
  for (uint32_t i = 0; i < count; ++i) {
    if (!PrepareCommon(first + i, i, Slot(first + i)) && !Prepare(first + i, i, status)) {
      status->wr_index = i;
      Undo(first, i + 1);
      DropChanges();
      return EINVAL;
    }
    wrs_[i].wr_id = wr_id_base | (first + i);
    wrs_[i].next = i + 1 < count ? &wrs_[i + 1] : nullptr;
    one_list = one_list && routes_[i] == Route::kList;
  }
  const Outcome outcome = one_list ? PostList(qp, 0, count) : PostRoutes(qp, count);
  if (!changes_.empty()) {
    NoteChanges(outcome.bad);
    DropChanges();
  }
  return Settle(outcome.rc, first, count, outcome.bad, status, outcome.named);
}

}  // namespace rdma
