#include "completion_queue.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "error.h"
#include "queue_pair.h"

namespace rdma {

namespace {

constexpr unsigned int kAckBatch = 64;

}  // namespace

std::shared_ptr<CompletionQueue> CompletionQueue::Create(const std::shared_ptr<Device>& device, int cqe) {
  ChannelPtr channel = CreateCompChannel(device->context());
  CqPtr cq = CreateCq(device->context(), cqe, channel);
  auto object = std::make_shared<CompletionQueue>(device, std::move(cq), std::move(channel));
  device->events().Track(object->cq_->cq, object);
  device->Adopt(object);
  return object;
}

CompletionQueue::CompletionQueue(std::shared_ptr<Device> device, CqPtr cq, ChannelPtr channel)
    : Object(Kind::kCompletionQueue),
      device_(std::move(device)),
      cq_(std::move(cq)),
      channel_(std::move(channel)),
      wcs_(64) {}

void CompletionQueue::Reserve(uint32_t entries) {
  const auto have = static_cast<uint32_t>(cqe());
  if (entries > have - std::min(have, reserved_)) {
    throw Error("ibv_create_qp", ENOSPC,
                "the completion queue has " + std::to_string(have) + " entries, its queue pairs need " +
                    std::to_string(uint64_t{reserved_} + entries) +
                    ": every work request can complete with an error; create the queue with a larger cqe");
  }
  reserved_ += entries;
}

void CompletionQueue::Attach(uint32_t handle, const std::shared_ptr<QueuePair>& qp) {
  queue_pairs_[handle] = qp;
  AddChild(qp);
}

uint32_t CompletionQueue::Poll(CompletionSlot* slots, uint32_t capacity) {
  uint32_t filled = 0;
  while (filled < capacity && !closed()) {
    const auto want = std::min<uint32_t>(capacity - filled, static_cast<uint32_t>(wcs_.size()));
    // libsiw leaves fields of ibv_wc unwritten.
    std::memset(wcs_.data(), 0, want * sizeof(ibv_wc));
    const int got = ibv_poll_cq(cq_->cq, static_cast<int>(want), wcs_.data());
    if (got < 0) throw Error("ibv_poll_cq", NormaliseErrno(got));
    for (int i = 0; i < got; ++i) {
      const ibv_wc& wc = wcs_[static_cast<size_t>(i)];
      const auto queue = static_cast<uint32_t>(wc.wr_id >> 32);
      const auto seq = static_cast<uint32_t>(wc.wr_id);
      const auto it = queue_pairs_.find(queue & ~kReceiveQueueBit);
      const std::shared_ptr<QueuePair> qp = it == queue_pairs_.end() ? nullptr : it->second.lock();
      if (!qp || !qp->Complete((queue & kReceiveQueueBit) != 0, seq)) continue;
      CompletionSlot& slot = slots[filled++];
      slot.queue = queue;
      slot.seq = seq;
      slot.status = wc.status;
      slot.opcode = wc.opcode;
      slot.byte_len = wc.byte_len;
      slot.wc_flags = wc.wc_flags;
      slot.imm_data = ntohl(wc.imm_data);
      slot.vendor_err = wc.vendor_err;
      slot.qp_num = wc.qp_num;
      slot.src_qp = wc.src_qp;
      slot.pkey_index = wc.pkey_index;
      slot.slid = wc.slid;
      slot.sl = uint32_t{wc.sl} | uint32_t{wc.dlid_path_bits} << 8;
      slot.reserved = 0;
      slot.timestamp_lo = 0;
      slot.timestamp_hi = 0;
    }
    if (got < static_cast<int>(want)) break;
  }
  return filled;
}

void CompletionQueue::DrainEvents() {
  ibv_cq* cq = nullptr;
  void* context = nullptr;
  while (ibv_get_cq_event(channel_.get(), &cq, &context) == 0) {
    if (++cq_->unacked < kAckBatch) continue;
    ibv_ack_cq_events(cq_->cq, cq_->unacked);
    cq_->unacked = 0;
  }
}

void CompletionQueue::Arm() { Check(ibv_req_notify_cq(cq_->cq, 0), "ibv_req_notify_cq"); }

void CompletionQueue::AddOutstanding(int32_t delta) {
  const bool was_busy = outstanding_ != 0;
  outstanding_ += static_cast<uint32_t>(delta);
  if (on_busy && was_busy != (outstanding_ != 0)) on_busy(outstanding_ != 0);
}

void CompletionQueue::OnClose() {
  on_busy = nullptr;
  queue_pairs_.clear();
  cq_.reset();
  channel_.reset();
}

}  // namespace rdma
