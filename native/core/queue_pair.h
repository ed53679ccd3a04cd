#pragma once

#include "queue_pair_spec.h"
#include "recv_queue.h"
#include "send_queue.h"

namespace rdma {

/// A queue pair of any type, made by hand or for an rdma_cm id.
class QueuePair : public Object {
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

  /// Retires [seq]; false when it is not in flight (a duplicate).
  bool Complete(bool receive, uint32_t seq);

  ibv_qp_state QueryState() const;
  void ToError();

  /// librdmacm leaves the RNR timer at 0, which means 655 ms (ibv_modify_qp(3)).
  void SetMinRnrTimer(uint8_t timer);

 protected:
  void OnClose() override;

 private:
  const ibv_qp_type type_;
  QpPtr qp_;
  std::shared_ptr<CompletionQueue> send_cq_;
  std::shared_ptr<CompletionQueue> recv_cq_;
  SendQueue send_;
  RecvQueue recv_;
};

}  // namespace rdma
