#include "completion_queue.h"

#include <arpa/inet.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

#include "error.h"

namespace rdma {

namespace {

/// Completions that are taken from the device at a time.
constexpr uint32_t kBatch = 64;

uint32_t QueueOf(const ibv_wc& wc) { return static_cast<uint32_t>(wc.wr_id >> 32); }

void CheckSpec(const Device& device, const CompletionQueueSpec& spec) {
  const auto vectors = static_cast<uint32_t>(std::max(device.context()->num_comp_vectors, 1));
  if (spec.comp_vector >= vectors) {
    throw Error("ibv_create_cq", EINVAL,
                "compVector " + std::to_string(spec.comp_vector) + ": the device has " +
                    std::to_string(vectors) + " completion vectors, numbered from 0");
  }
  if (spec.timestamps && device.rules().Has(Rule::kExtendedPoll)) {
    throw Error("ibv_create_cq_ex", EOPNOTSUPP,
                "the device " + device.name() + " has no completion timestamps");
  }
  if (spec.solicited_only && device.rules().Has(Rule::kSolicitedSilent)) {
    throw Error("ibv_req_notify_cq", EOPNOTSUPP,
                "solicitedOnly: the device " + device.name() + " makes no events for solicited receives");
  }
  if (spec.channel && spec.channel->device()->context() != device.context()) {
    throw Error("ibv_create_cq", EINVAL,
                "the completion channel is of device " + spec.channel->device()->name() + ", not of " +
                    device.name());
  }
}

}  // namespace

std::shared_ptr<CompletionQueue> CompletionQueue::Create(const std::shared_ptr<Device>& device,
                                                         const CompletionQueueSpec& spec) {
  CheckSpec(*device, spec);
  auto channel = spec.channel ? spec.channel : CompletionChannel::Create(device, false);
  CqPtr cq = CreateCq(device->context(), static_cast<int>(spec.cqe), channel->channel(),
                      static_cast<int>(spec.comp_vector), spec.timestamps);
  auto object = std::make_shared<CompletionQueue>(device, std::move(channel), std::move(cq), spec);
  device->events().Track(object->cq_->cq, object);
  device->Adopt(object);
  if (spec.channel) spec.channel->Adopt(object);
  return object;
}

CompletionQueue::CompletionQueue(std::shared_ptr<Device> device, std::shared_ptr<CompletionChannel> channel,
                                 CqPtr cq, const CompletionQueueSpec& spec)
    : Object(Kind::kCompletionQueue),
      device_(std::move(device)),
      channel_(std::move(channel)),
      cq_(std::move(cq)),
      own_channel_(!spec.channel),
      solicited_only_(spec.solicited_only),
      completions_(kBatch),
      scratch_(kBatch) {
  cq_->owner = this;
}

CompletionQueue::~CompletionQueue() {
  if (cq_) cq_->owner = nullptr;
}

void CompletionQueue::Reserve(uint32_t entries) {
  const auto have = static_cast<uint32_t>(cqe());
  if (entries > have - std::min(have, reserved_)) {
    throw Error("ibv_create_qp", ENOSPC,
                "the completion queue has " + std::to_string(have) + " entries, its queue pairs need " +
                    std::to_string(uint64_t{reserved_} + entries) +
                    ": every work request can complete with an error; create the queue with a larger cqe, or "
                    "resize it");
  }
  reserved_ += entries;
}

void CompletionQueue::Resize(uint32_t cqe) {
  if (cqe < reserved_) {
    throw Error("ibv_resize_cq", EBUSY,
                "cqe " + std::to_string(cqe) + ": the queue pairs of the completion queue need " +
                    std::to_string(reserved_) + " entries; close some first");
  }
  // What has completed must fit as well, also that of queue pairs which are gone.
  Stash();
  const auto before = static_cast<uint32_t>(this->cqe());
  const bool unmaps = device_->rules().Has(Rule::kResizeUnmaps);
  if (unmaps && std::bit_ceil(cqe + 1) - 1 == before) return;
  const int rc = ibv_resize_cq(cq_->cq, static_cast<int>(cqe));
  if (unmaps && rc != 0 && static_cast<uint32_t>(this->cqe()) != before) {
    cq_->lost = true;
    throw Error("ibv_resize_cq", EIO,
                "its new memory could not be mapped (" + std::string(std::strerror(NormaliseErrno(rc))) +
                    "), and the old is gone: the completion queue is closed");
  }
  CheckSupported(rc, "ibv_resize_cq", "device " + device_->name() + " can not resize completion queues",
                 "cqe " + std::to_string(cqe));
}

void CompletionQueue::Moderate(uint16_t count, uint16_t period) {
  ibv_modify_cq_attr attr = {};
  attr.attr_mask = IBV_CQ_ATTR_MODERATE;
  attr.moderate.cq_count = count;
  attr.moderate.cq_period = period;
  CheckSupported(ibv_modify_cq(cq_->cq, &attr), "ibv_modify_cq",
                 "device " + device_->name() + " has no moderation of completion events",
                 std::to_string(count) + " completions, " + std::to_string(period) + " µs");
}

std::shared_ptr<CompletionTarget> CompletionQueue::Target(const ibv_wc& wc) const {
  const auto it = targets_.find(QueueOf(wc) & ~kReceiveQueueBit);
  return it == targets_.end() ? nullptr : it->second.lock();
}

bool CompletionQueue::Deliver(ibv_wc* completion, uint64_t timestamp, LatestTarget* latest,
                              CompletionSlot* slot) const {
  ibv_wc& wc = *completion;
  CorrectCompletion(device_->rules(), &wc);
  const uint32_t queue = QueueOf(wc);
  const auto seq = static_cast<uint32_t>(wc.wr_id);
  if (const uint32_t handle = queue & ~kReceiveQueueBit; handle != latest->handle) {
    *latest = {handle, Target(wc)};
  }
  CompletionTarget* const target = latest->target.get();
  if (target == nullptr || !target->Complete((queue & kReceiveQueueBit) != 0, seq, wc, slot)) return false;
  slot->queue = queue;
  slot->seq = seq;
  slot->status = wc.status;
  slot->opcode = wc.opcode;
  slot->byte_len = wc.byte_len;
  slot->wc_flags = wc.wc_flags;
  slot->imm_data = (wc.wc_flags & IBV_WC_WITH_INV) != 0 ? wc.invalidated_rkey : ntohl(wc.imm_data);
  slot->vendor_err = wc.vendor_err;
  slot->qp_num = wc.qp_num;
  slot->src_qp = wc.src_qp;
  slot->pkey_index = wc.pkey_index;
  slot->path = uint32_t{wc.sl} | uint32_t{wc.dlid_path_bits} << 8 | uint32_t{wc.slid} << 16;
  slot->timestamp_lo = static_cast<uint32_t>(timestamp);
  slot->timestamp_hi = static_cast<uint32_t>(timestamp >> 32);
  return true;
}

uint32_t CompletionQueue::Poll(CompletionSlot* slots, uint32_t capacity) {
  // Delivering retires work requests and closes nothing, so targets stay while this runs.
  LatestTarget latest;
  uint32_t filled = 0;
  for (; filled < capacity && !stash_.empty(); stash_.pop_front()) {
    Completion& completion = stash_.front();
    if (Deliver(&completion.wc, completion.timestamp, &latest, &slots[filled])) ++filled;
  }
  const bool extended = !closed() && cq_->extended != nullptr;
  while (filled < capacity && !closed()) {
    const uint32_t want = std::min(capacity - filled, kBatch);
    const uint32_t got = extended ? ReadCompletions(*cq_, completions_.data(), scratch_.data(), want)
                                  : ReadPlain(*cq_, scratch_.data(), want);
    for (uint32_t i = 0; i < got; ++i) {
      ibv_wc* wc = extended ? &completions_[i].wc : &scratch_[i];
      const uint64_t timestamp = extended ? completions_[i].timestamp : 0;
      if (Deliver(wc, timestamp, &latest, &slots[filled])) ++filled;
      *wc = {};
    }
    if (got < want) break;
  }
  return filled;
}

void CompletionQueue::Stash() noexcept {
  if (closed()) return;
  uint32_t got = 0;
  do {
    try {
      got = ReadCompletions(*cq_, completions_.data(), scratch_.data(), kBatch);
      for (uint32_t i = 0; i < got; ++i) {
        if (Target(completions_[i].wc)) stash_.push_back(completions_[i]);
      }
    } catch (const Error&) {
      // A queue that has failed says so to whoever polls it next.
      return;
    }
  } while (got == kBatch);
}

void CompletionQueue::Arm() {
  Check(ibv_req_notify_cq(cq_->cq, solicited_only_ ? 1 : 0), "ibv_req_notify_cq");
}

void CompletionQueue::OnClose() {
  on_busy = nullptr;
  on_event = nullptr;
  targets_.clear();
  stash_.clear();
  cq_->owner = nullptr;
  cq_.reset();
  if (own_channel_) channel_->Close();
  channel_.reset();
}

}  // namespace rdma
