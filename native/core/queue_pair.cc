#include "queue_pair.h"

#include <algorithm>
#include <bit>
#include <cerrno>

#include "error.h"

namespace rdma {

namespace {

/// Room in a CQ that is given back when the creation of a queue pair fails.
class Reservation {
 public:
  Reservation(CompletionQueue* cq, uint32_t entries) : cq_(cq), entries_(entries) { cq->Reserve(entries); }
  ~Reservation() {
    if (cq_ != nullptr) cq_->Unreserve(entries_);
  }
  Reservation(const Reservation&) = delete;
  Reservation& operator=(const Reservation&) = delete;
  void Keep() { cq_ = nullptr; }

 private:
  CompletionQueue* cq_;
  const uint32_t entries_;
};

void CheckId(const QueuePairSpec& spec) {
  if (spec.id->id()->verbs != spec.pd->pd()->context) {
    const std::string bound = spec.id->DeviceName();
    throw Error(spec.syscall(), EINVAL,
                "the protection domain is of device " + spec.pd->device()->name() +
                    ", the connection id is bound to " +
                    (bound.empty() ? "none (resolve its address first)" : bound));
  }
  if (spec.id->id()->qp != nullptr)
    throw Error(spec.syscall(), EEXIST, "the connection id already has a queue pair");
}

/// The kernel knows a queue by a number that counts in its own context: that of another would name another
/// queue.
void CheckQueue(const QueuePairSpec& spec, const CompletionQueue& queue) {
  if (queue.cq()->cq->context == spec.pd->pd()->context) return;
  throw Error(spec.syscall(), EINVAL,
              "the protection domain is of device " + spec.pd->device()->name() +
                  ", a completion queue of another opening, of " + queue.device()->name());
}

void CheckSrq(const QueuePairSpec& spec) {
  if (spec.srq->srq()->context == spec.pd->pd()->context) return;
  throw Error(spec.syscall(), EINVAL,
              "the protection domain is of device " + spec.pd->device()->name() +
                  ", the shared receive queue of " + ibv_get_device_name(spec.srq->srq()->context->device));
}

}  // namespace

std::shared_ptr<QueuePair> QueuePair::Create(const QueuePairSpec& spec) {
  const auto& device = spec.pd->device();
  if (spec.id) CheckId(spec);
  if (spec.srq) CheckSrq(spec);
  CheckQueue(spec, *spec.send_cq);
  CheckQueue(spec, *spec.recv_cq);
  const uint32_t send_wr = spec.has_send_queue() ? spec.caps.max_send_wr : 0;
  const uint32_t recv_wr = spec.recv_wr();
  Reservation send_room(spec.send_cq.get(), send_wr);
  Reservation recv_room(spec.recv_cq.get(), recv_wr);
  auto membership = spec.srq && spec.has_recv_queue() ? spec.srq->Join(spec.recv_cq) : nullptr;
  CreatedQueuePair created = CreateQp(spec);

  const ibv_port_attr port = device->QueryPort(spec.id ? spec.id->id()->port_num : spec.port);
  const uint64_t max_message = std::min<uint64_t>(port.max_msg_sz, 1u << 31);
  // The work requests are what was asked for, not the rounded-up grant: the CQ has room for just these.
  QueueLimits send = {};
  send.max_wr = send_wr;
  send.capacity = std::bit_ceil(std::max(send_wr, 1u));
  send.max_sge = created.granted.max_send_sge;
  send.max_sge_read = std::min(send.max_sge, static_cast<uint32_t>(std::max(device->attr().max_sge_rd, 1)));
  send.max_inline = created.granted.max_inline_data;
  // A datagram is one packet.
  send.max_message = spec.type == IBV_QPT_UD ? 128u << port.active_mtu : max_message;
  send.rules = &device->rules();
  send.type = spec.type;
  send.signal_all = spec.signal_all;
  send.send_ops = created.send_ops;
  QueueLimits recv = {};
  recv.max_wr = recv_wr;
  recv.capacity = std::bit_ceil(std::max(recv_wr, 1u));
  recv.max_sge = created.granted.max_recv_sge;
  recv.max_message = max_message;
  recv.rules = &device->rules();
  recv.type = spec.type;
  auto object = std::make_shared<QueuePair>(spec, std::move(created.qp), send, recv);
  object->membership_ = std::move(membership);
  if (spec.id) spec.id->SetQueuePair(object->qp_);
  send_room.Keep();
  recv_room.Keep();
  device->events().Track(object->qp_.get(), object);
  spec.pd->Adopt(object);
  if (spec.srq) spec.srq->Adopt(object);
  if (spec.id) spec.id->Adopt(object);
  if (spec.xrcd) spec.xrcd->Adopt(object);
  return object;
}

QueuePair::QueuePair(const QueuePairSpec& spec, QpPtr qp, const QueueLimits& send, const QueueLimits& recv)
    : Object(Kind::kQueuePair),
      type_(spec.type),
      qp_(std::move(qp)),
      send_cq_(spec.send_cq),
      recv_cq_(spec.recv_cq),
      srq_(spec.srq),
      send_(send, spec.pd->keys(), this),
      recv_(recv, spec.pd->keys()) {}

QueuePair::~QueuePair() {
  if (!closed()) OnClose();
}

void QueuePair::Register() {
  const auto self = std::static_pointer_cast<QueuePair>(shared_from_this());
  send_cq_->Attach(handle, self);
  send_cq_->Adopt(self);
  if (recv_cq_ == send_cq_) return;
  recv_cq_->Attach(handle, self);
  recv_cq_->Adopt(self);
}

int QueuePair::PostSend(uint32_t first, uint32_t count, PostStatus* status) {
  const uint32_t before = send_.pins().tail();
  const int err = send_.Post(qp_.get(), uint64_t{handle} << 32, first, count, status);
  send_cq_->AddOutstanding(static_cast<int32_t>(send_.pins().tail() - before));
  return err;
}

int QueuePair::PostRecv(uint32_t first, uint32_t count, PostStatus* status) {
  const uint32_t before = recv_.pins().tail();
  const int err = recv_.Post(qp_.get(), uint64_t{handle | kReceiveQueueBit} << 32, first, count, status);
  recv_cq_->AddOutstanding(static_cast<int32_t>(recv_.pins().tail() - before));
  return err;
}

void QueuePair::Skip(bool receive, uint32_t count) {
  queue(receive).Skip(count);
  (receive ? recv_cq_ : send_cq_)->AddOutstanding(static_cast<int32_t>(count));
}

bool QueuePair::Complete(bool receive, uint32_t seq, const ibv_wc& wc, CompletionSlot* slot) {
  const PinTable& pins = queue(receive).pins();
  const uint32_t before = pins.head();
  const bool success = wc.status == IBV_WC_SUCCESS;
  const uint32_t retired = receive ? recv_.pins().Complete(seq) : send_.Complete(seq, success);
  if (retired == 0) return false;
  if (receive) recv_.keys().windows().Received(wc);
  slot->implied = retired - 1;
  slot->head = pins.head();
  if (slot->head != before) {
    (receive ? recv_cq_ : send_cq_)->AddOutstanding(-static_cast<int32_t>(slot->head - before));
  }
  return true;
}

ibv_qp_state QueuePair::QueryState() const {
  ibv_qp_attr attr = {};
  ibv_qp_init_attr init = {};
  Check(ibv_query_qp(qp_.get(), &attr, IBV_QP_STATE, &init), "ibv_query_qp");
  return attr.qp_state;
}

void QueuePair::ToError() {
  ibv_qp_attr attr = {};
  attr.qp_state = IBV_QPS_ERR;
  Check(ibv_modify_qp(qp_.get(), &attr, IBV_QP_STATE), "ibv_modify_qp",
        "to ERR; only from RESET is there no way, where nothing is in flight");
}

void QueuePair::SetMinRnrTimer(uint8_t timer) {
  ibv_qp_attr attr = {};
  attr.min_rnr_timer = timer;
  Check(ibv_modify_qp(qp_.get(), &attr, IBV_QP_MIN_RNR_TIMER), "ibv_modify_qp", "min_rnr_timer");
}

void QueuePair::OnClose() {
  // Only a destroyed queue pair is known not to touch memory; after that the pins may go. One that another
  // thread is connecting is destroyed a moment later: it has carried nothing yet, and in the error state it
  // never will.
  if (qp_.use_count() > 1 || srq_) {
    ibv_qp_attr attr = {};
    attr.qp_state = IBV_QPS_ERR;
    // One that is about to be destroyed may refuse this: then it has nothing to complete.
    const int rc = ibv_modify_qp(qp_.get(), &attr, IBV_QP_STATE);
    if (qp_.use_count() > 1) ReportDestroy(rc, "ibv_modify_qp");
  }
  // rxe destroys a queue pair only when its windows have gone (kernel sw/rxe/rxe_mw.c rxe_do_bind_mw).
  send_.keys().windows().AbandonBoundBy(this);
  DetachAll();
  // What came from the shared queue belongs to that, and must not go with the queue pair.
  if (srq_) recv_cq_->Stash();
  qp_.reset();
  send_cq_->Detach(handle);
  recv_cq_->Detach(handle);
  RetireAll();
  membership_.reset();
  send_cq_->Unreserve(send_.limits().max_wr);
  recv_cq_->Unreserve(recv_.limits().max_wr);
}

}  // namespace rdma
