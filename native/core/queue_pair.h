#pragma once

#include "cm.h"
#include "completion_queue.h"
#include "memory.h"
#include "recv_queue.h"
#include "send_queue.h"

namespace rdma {

/// What a queue pair is asked for, and what it was granted.
struct QueuePairCaps {
  uint32_t max_send_wr;
  uint32_t max_recv_wr;
  uint32_t max_send_sge;
  uint32_t max_recv_sge;
  uint32_t max_inline_data;
};

/// A reliable connected queue pair of an rdma_cm id.
class QueuePair : public Object {
 public:
  static std::shared_ptr<QueuePair> Create(const std::shared_ptr<CmId>& id,
                                           const std::shared_ptr<ProtectionDomain>& pd,
                                           const std::shared_ptr<CompletionQueue>& send_cq,
                                           const std::shared_ptr<CompletionQueue>& recv_cq,
                                           const QueuePairCaps& wanted);

  QueuePair(QpPtr qp, std::shared_ptr<CompletionQueue> send_cq, std::shared_ptr<CompletionQueue> recv_cq,
            const QueueLimits& send, const QueueLimits& recv, const std::shared_ptr<KeyTable>& keys);
  ~QueuePair() override;

  /// Names the queue pair to its completion queues: its handle comes back in every completion.
  void Register();

  uint32_t qp_num() const { return qp_->qp_num; }
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
  QpPtr qp_;
  std::shared_ptr<CompletionQueue> send_cq_;
  std::shared_ptr<CompletionQueue> recv_cq_;
  SendQueue send_;
  RecvQueue recv_;
};

}  // namespace rdma
