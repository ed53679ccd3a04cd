#pragma once

#include "cm.h"
#include "completion_queue.h"
#include "memory.h"
#include "shared_receive_queue.h"
#include "xrc_domain.h"

namespace rdma {

/// What a queue pair is asked for, and what it was granted.
struct QueuePairCaps {
  uint32_t max_send_wr;
  uint32_t max_recv_wr;
  uint32_t max_send_sge;
  uint32_t max_recv_sge;
  uint32_t max_inline_data;
};

/// All that a queue pair is made from (ibv_create_qp_ex(3)), by hand or for an rdma_cm id.
struct QueuePairSpec {
  ibv_qp_type type = IBV_QPT_RC;
  std::shared_ptr<ProtectionDomain> pd;
  std::shared_ptr<CompletionQueue> send_cq;
  std::shared_ptr<CompletionQueue> recv_cq;
  std::shared_ptr<SharedReceiveQueue> srq;  // takes its receives from there, instead of a queue of its own
  std::shared_ptr<CmId> id;                 // the id that it belongs to; none: made by hand
  std::shared_ptr<XrcDomain> xrcd;          // of XRC_RECV, and of no other
  QueuePairCaps caps = {};
  uint8_t port = 1;  // whose limits apply; that of the id, when there is one
  bool signal_all = false;
  uint32_t create_flags = 0;
  uint32_t source_qpn = 0;

  bool has_send_queue() const { return type != IBV_QPT_XRC_RECV; }
  bool has_recv_queue() const { return type != IBV_QPT_XRC_SEND && type != IBV_QPT_XRC_RECV; }
  /// Receives that are posted to the queue pair itself.
  uint32_t recv_wr() const { return has_recv_queue() && !srq ? caps.max_recv_wr : 0; }
  const char* syscall() const { return id ? "rdma_create_qp" : "ibv_create_qp"; }
};

struct CreatedQueuePair {
  QpPtr qp;
  QueuePairCaps granted;
  uint64_t send_ops;  // IBV_QP_EX_WITH_* that ibv_wr_post(3) can do; 0: only ibv_post_send(3)
};

/// Creates the kernel's queue pair. Asks for the operations that only ibv_wr_post(3) has, and does without
/// where the provider has none of that; ibv_post_send(3) works on both kinds.
CreatedQueuePair CreateQp(const QueuePairSpec& spec);

}  // namespace rdma
