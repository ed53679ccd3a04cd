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

}  // namespace

std::shared_ptr<QueuePair> QueuePair::Create(const std::shared_ptr<CmId>& id,
                                             const std::shared_ptr<ProtectionDomain>& pd,
                                             const std::shared_ptr<CompletionQueue>& send_cq,
                                             const std::shared_ptr<CompletionQueue>& recv_cq,
                                             const QueuePairCaps& wanted) {
  const auto& device = pd->device();
  if (id->id()->verbs != pd->pd()->context) {
    throw Error("rdma_create_qp", EINVAL,
                "the protection domain is of device " + device->name() + ", the connection id is bound to " +
                    (id->DeviceName().empty() ? "none (resolve its address first)" : id->DeviceName()));
  }
  if (id->id()->qp != nullptr)
    throw Error("rdma_create_qp", EEXIST, "the connection id already has a queue pair");
  Reservation send_room(send_cq.get(), wanted.max_send_wr);
  Reservation recv_room(recv_cq.get(), wanted.max_recv_wr);
  ibv_qp_init_attr attr = {};
  attr.qp_type = IBV_QPT_RC;
  attr.cap.max_send_wr = wanted.max_send_wr;
  attr.cap.max_recv_wr = wanted.max_recv_wr;
  attr.cap.max_send_sge = wanted.max_send_sge;
  attr.cap.max_recv_sge = wanted.max_recv_sge;
  attr.cap.max_inline_data = wanted.max_inline_data;
  QpPtr qp = CreateQp(id->id(), pd->pd(), send_cq->cq(), recv_cq->cq(), &attr);

  // The work requests are what was asked for, not the rounded-up grant: the CQ has room for just these.
  const uint64_t max_message = std::min<uint64_t>(device->QueryPort(id->id()->port_num).max_msg_sz, 1u << 31);
  const auto read_sge = static_cast<uint32_t>(std::max(device->attr().max_sge_rd, 1));
  QueueLimits send = {wanted.max_send_wr,       std::bit_ceil(std::max(wanted.max_send_wr, 1u)),
                      attr.cap.max_send_sge,    std::min(attr.cap.max_send_sge, read_sge),
                      attr.cap.max_inline_data, max_message,
                      device->provider()};
  QueueLimits recv = {wanted.max_recv_wr,
                      std::bit_ceil(std::max(wanted.max_recv_wr, 1u)),
                      attr.cap.max_recv_sge,
                      0,
                      0,
                      max_message,
                      device->provider()};
  auto object = std::make_shared<QueuePair>(std::move(qp), send_cq, recv_cq, send, recv, pd->keys());
  id->SetQueuePair(object->qp_);
  send_room.Keep();
  recv_room.Keep();
  pd->Adopt(object);
  id->Adopt(object);
  return object;
}

QueuePair::QueuePair(QpPtr qp, std::shared_ptr<CompletionQueue> send_cq,
                     std::shared_ptr<CompletionQueue> recv_cq, const QueueLimits& send,
                     const QueueLimits& recv, const std::shared_ptr<KeyTable>& keys)
    : Object(Kind::kQueuePair),
      qp_(std::move(qp)),
      send_cq_(std::move(send_cq)),
      recv_cq_(std::move(recv_cq)),
      send_(send, keys),
      recv_(recv, keys) {}

QueuePair::~QueuePair() {
  if (!closed()) OnClose();
}

void QueuePair::Register() {
  const auto self = std::static_pointer_cast<QueuePair>(shared_from_this());
  send_cq_->Attach(handle, self);
  if (recv_cq_ != send_cq_) recv_cq_->Attach(handle, self);
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

bool QueuePair::Complete(bool receive, uint32_t seq) {
  PinTable& pins = receive ? recv_.pins() : send_.pins();
  const uint32_t before = pins.outstanding();
  if (!pins.Complete(seq)) return false;
  (receive ? recv_cq_ : send_cq_)->AddOutstanding(-static_cast<int32_t>(before - pins.outstanding()));
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
  Check(ibv_modify_qp(qp_.get(), &attr, IBV_QP_STATE), "ibv_modify_qp", "to ERR");
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
  if (qp_.use_count() > 1) {
    ibv_qp_attr attr = {};
    attr.qp_state = IBV_QPS_ERR;
    ReportDestroy(ibv_modify_qp(qp_.get(), &attr, IBV_QP_STATE), "ibv_modify_qp");
  }
  qp_.reset();
  send_cq_->AddOutstanding(-static_cast<int32_t>(send_.pins().outstanding()));
  recv_cq_->AddOutstanding(-static_cast<int32_t>(recv_.pins().outstanding()));
  send_.pins().RetireAll();
  recv_.pins().RetireAll();
  send_cq_->Detach(handle);
  recv_cq_->Detach(handle);
  send_cq_->Unreserve(send_.limits().max_wr);
  recv_cq_->Unreserve(recv_.limits().max_wr);
}

}  // namespace rdma
