#include "shared_receive_queue.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

#include "error.h"

namespace rdma {

namespace {

void CheckSpec(const Device& device, const SharedReceiveQueueSpec& spec) {
  const ibv_device_attr& attr = device.attr();
  const auto refuse = [&](const char* name, uint32_t value, uint32_t min, int max) {
    std::string text = name;
    text.append(" ").append(std::to_string(value)).append(": the device takes ");
    text.append(std::to_string(min)).append(" to ").append(std::to_string(max));
    throw Error(spec.syscall(), EINVAL, text);
  };
  if (attr.max_srq == 0) {
    throw Error(spec.syscall(), EOPNOTSUPP, "device " + device.name() + " has no shared receive queues");
  }
  if (spec.xrcd && (attr.device_cap_flags & IBV_DEVICE_XRC) == 0) {
    throw Error(spec.syscall(), EOPNOTSUPP,
                "device " + device.name() + " has no extended reliable connections");
  }
  if (spec.cq && spec.cq->device()->context() != device.context()) {
    throw Error(
        spec.syscall(), EINVAL,
        "the completion queue is of device " + spec.cq->device()->name() + ", not of " + device.name());
  }
  if (spec.max_wr == 0 || spec.max_wr > static_cast<uint32_t>(attr.max_srq_wr) ||
      spec.max_wr > SharedRecvQueue::kMaxSlots) {
    refuse("maxWr", spec.max_wr, 1, std::min<int>(attr.max_srq_wr, SharedRecvQueue::kMaxSlots));
  }
  // siw refuses receives without an SGE, and an empty one takes a place.
  if (spec.max_sge == 0 || spec.max_sge > static_cast<uint32_t>(attr.max_srq_sge)) {
    refuse("maxSge", spec.max_sge, 1, attr.max_srq_sge);
  }
  if (spec.limit > spec.max_wr) refuse("limit", spec.limit, 0, static_cast<int>(spec.max_wr));
}

}  // namespace

std::shared_ptr<SharedReceiveQueue> SharedReceiveQueue::Create(const std::shared_ptr<ProtectionDomain>& pd,
                                                               const SharedReceiveQueueSpec& spec) {
  const auto& device = pd->device();
  CheckSpec(*device, spec);
  ibv_srq_init_attr_ex attr = {};
  attr.attr = {spec.max_wr, spec.max_sge, spec.limit};
  SrqPtr srq =
      CreateSrq(pd->pd(), spec.cq ? spec.cq->cq() : nullptr, spec.xrcd ? spec.xrcd->xrcd() : nullptr, &attr);
  QueueLimits limits = {};
  // What was asked for, not the rounded-up grant: completion queues have room for just these.
  limits.max_wr = spec.max_wr;
  limits.capacity = std::bit_ceil(spec.max_wr);
  limits.max_sge = spec.max_sge;
  limits.max_message = std::min<uint64_t>(device->QueryPort(1).max_msg_sz, 1u << 31);
  limits.rules = &device->rules();
  auto object = std::make_shared<SharedReceiveQueue>(std::move(srq), pd, spec.cq, limits);
  device->events().Track(object->srq_.get(), object);
  pd->Adopt(object);
  if (spec.cq) spec.cq->Adopt(object);
  if (spec.xrcd) spec.xrcd->Adopt(object);
  return object;
}

SharedReceiveQueue::SharedReceiveQueue(SrqPtr srq, const std::shared_ptr<ProtectionDomain>& pd,
                                       std::shared_ptr<CompletionQueue> cq, const QueueLimits& limits)
    : Object(Kind::kSharedReceiveQueue),
      device_(pd->device()),
      srq_(std::move(srq)),
      queue_(limits, pd->keys()),
      cq_(std::move(cq)) {}

void SharedReceiveQueue::Register() {
  if (cq_) membership_ = Join(cq_);
}

uint32_t SharedReceiveQueue::Number() const {
  uint32_t number = 0;
  Check(ibv_get_srq_num(srq_.get(), &number), "ibv_get_srq_num");
  return number;
}

SharedReceiveQueue::~SharedReceiveQueue() {
  if (!closed()) OnClose();
}

SharedReceiveQueue::Membership::Membership(SharedReceiveQueue* srq, std::shared_ptr<CompletionQueue> cq)
    : srq_(srq), cq_(std::move(cq)) {
  cq_->Reserve(srq_->queue_.limits().max_wr);
  if (srq_->queue_.outstanding() != 0) cq_->AddOutstanding(1);
}

SharedReceiveQueue::Membership::~Membership() {
  cq_->Unreserve(srq_->queue_.limits().max_wr);
  if (srq_->queue_.outstanding() != 0) cq_->AddOutstanding(-1);
}

std::shared_ptr<SharedReceiveQueue::Membership> SharedReceiveQueue::Join(
    const std::shared_ptr<CompletionQueue>& cq) {
  Member& member = members_[cq.get()];
  if (auto membership = member.membership.lock()) return membership;
  auto membership = std::make_shared<Membership>(this, cq);
  member = {cq, membership};
  cq->Attach(handle, std::static_pointer_cast<SharedReceiveQueue>(shared_from_this()));
  return membership;
}

void SharedReceiveQueue::NoteOutstanding(uint32_t before) {
  const bool busy = queue_.outstanding() != 0;
  if (busy == (before != 0)) return;
  for (const auto& [_, member] : members_) {
    if (const auto membership = member.membership.lock()) membership->cq_->AddOutstanding(busy ? 1 : -1);
  }
}

int SharedReceiveQueue::PostRecv(uint32_t count, PostStatus* status) {
  const uint32_t before = queue_.outstanding();
  const int err = queue_.Post(srq_.get(), uint64_t{handle | kReceiveQueueBit} << 32, count, status);
  NoteOutstanding(before);
  return err;
}

bool SharedReceiveQueue::Complete(bool, uint32_t name, const ibv_wc& wc, CompletionSlot* slot) {
  const uint32_t before = queue_.outstanding();
  if (!queue_.Complete(name)) return false;
  queue_.keys().windows().Received(wc);
  slot->implied = 0;
  slot->head = 0;
  NoteOutstanding(before);
  return true;
}

void SharedReceiveQueue::Resize(uint32_t max_wr, uint32_t capacity) {
  const uint32_t before = queue_.limits().max_wr;
  if (max_wr < queue_.outstanding()) {
    throw Error("ibv_modify_srq", EBUSY,
                "maxWr " + std::to_string(max_wr) + ": " + std::to_string(queue_.outstanding()) +
                    " receives are in flight");
  }
  // First room for what may come, last the return of what is no longer needed.
  std::vector<std::shared_ptr<Membership>> reserved;
  try {
    for (const auto& [_, member] : members_) {
      auto membership = member.membership.lock();
      if (!membership) continue;
      if (max_wr > before) membership->cq_->Reserve(max_wr - before);
      reserved.push_back(std::move(membership));
    }
    ResizeKernel(max_wr);
  } catch (const Error&) {
    if (max_wr > before) {
      for (const auto& membership : reserved) membership->cq_->Unreserve(max_wr - before);
    }
    throw;
  }
  queue_.Resize(max_wr, capacity);
  if (max_wr >= before) return;
  for (const auto& membership : reserved) membership->cq_->Unreserve(before - max_wr);
}

void SharedReceiveQueue::ResizeKernel(uint32_t max_wr) {
  const bool unmaps = device_->rules().Has(Rule::kResizeUnmaps);
  const uint32_t before = unmaps ? Query().max_wr : 0;
  if (unmaps && std::bit_ceil(max_wr + 1) - 1 == before) return;
  ibv_srq_attr attr = {max_wr, 0, 0};
  const int rc = ibv_modify_srq(srq_.get(), &attr, IBV_SRQ_MAX_WR);
  if (unmaps && rc != 0 && Query().max_wr != before) {
    throw Error("ibv_modify_srq", EIO,
                "its new memory could not be mapped (" + std::string(std::strerror(NormaliseErrno(rc))) +
                    "), and the old is gone: the shared receive queue is closed");
  }
  CheckSupported(rc, "ibv_modify_srq", "device " + device_->name() + " can not resize shared receive queues",
                 "max_wr " + std::to_string(max_wr));
}

void SharedReceiveQueue::SetLimit(uint32_t limit) {
  ibv_srq_attr attr = {0, 0, limit};
  CheckSupported(ibv_modify_srq(srq_.get(), &attr, IBV_SRQ_LIMIT), "ibv_modify_srq",
                 "device " + device_->name() + " has no limit on shared receive queues",
                 "srq_limit " + std::to_string(limit));
}

ibv_srq_attr SharedReceiveQueue::Query() const {
  ibv_srq_attr attr = {};
  CheckSupported(ibv_query_srq(srq_.get(), &attr), "ibv_query_srq",
                 "device " + device_->name() + " can not be asked about shared receive queues", {});
  return attr;
}

void SharedReceiveQueue::OnClose() {
  // The queue pairs have been destroyed, and nobody else writes to what the receives name.
  srq_.reset();
  for (const auto& [_, member] : members_) {
    if (const auto cq = member.cq.lock()) cq->Detach(handle);
  }
  if (cq_) cq_->Stash();
  membership_.reset();
  queue_.RetireAll();
}

}  // namespace rdma
