#pragma once

#include "queue_pair_spec.h"
#include "recv_queue.h"
#include "send_queue.h"

namespace rdma {

/// A queue pair of any type, made by hand or for an rdma_cm id.
class QueuePair : public Object, public CompletionTarget {
 public:
  static std::shared_ptr<QueuePair> Create(const QueuePairSpec& spec);

  QueuePair(const QueuePairSpec& spec, QpPtr qp, const QueueLimits& send, const QueueLimits& recv);
  ~QueuePair() override;

  /// Names the queue pair to its completion queues: its handle comes back in every completion.
  void Register();

  uint32_t qp_num() const { return qp_->qp_num; }
  ibv_qp_type type() const { return type_; }
  SendQueue& send_queue() { return send_; }
  RecvQueue& recv_queue() { return recv_; }

  int PostSend(uint32_t first, uint32_t count, PostStatus* status);
  int PostRecv(uint32_t first, uint32_t count, PostStatus* status);

  bool Complete(bool receive, uint32_t seq, const ibv_wc& wc, CompletionSlot* slot) override;

  /// Takes the next [count] sequence numbers for work requests that the device is not given.
  void Skip(bool receive, uint32_t count);

  ibv_qp_state QueryState() const;
  void ToError();

  /// ibv_modify_qp(3). What is in flight when the state becomes RESET never completes: see RetireAll.
  void Modify(const ibv_qp_attr& attr, int mask);
  ibv_qp_attr Query() const;
  /// Lets go of all that was in flight; after a move to RESET, when the device has let go of it.
  void RetireAll();

  ibv_ece QueryEce() const;
  void SetEce(const ibv_ece& ece);
  bool DataInOrder(ibv_wr_opcode opcode, uint32_t flags) const;
  void ModifyRateLimit(const ibv_qp_rate_limit_attr& attr);

  /// ibv_attach_mcast(3). The kernel does not destroy a queue pair that is attached
  /// (core/uverbs_std_types_qp.c uverbs_free_qp), so closing detaches it.
  void AttachMcast(const ibv_gid& gid, uint16_t lid);
  void DetachMcast(const ibv_gid& gid, uint16_t lid);

  /// librdmacm leaves the RNR timer at 0, which means 655 ms (ibv_modify_qp(3)).
  void SetMinRnrTimer(uint8_t timer);

 protected:
  void OnClose() override;

 private:
  struct Group {
    ibv_gid gid;
    uint16_t lid;
  };

  std::vector<Group>::iterator FindGroup(const ibv_gid& gid, uint16_t lid);
  void DetachAll() noexcept;

  WorkQueue& queue(bool receive) noexcept { return receive ? static_cast<WorkQueue&>(recv_) : send_; }

  const ibv_qp_type type_;
  QpPtr qp_;
  std::shared_ptr<CompletionQueue> send_cq_;
  std::shared_ptr<CompletionQueue> recv_cq_;
  std::shared_ptr<SharedReceiveQueue> srq_;
  std::shared_ptr<SharedReceiveQueue::Membership> membership_;
  SendQueue send_;
  RecvQueue recv_;
  std::vector<Group> groups_;
};

}  // namespace rdma
