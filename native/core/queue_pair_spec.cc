#include "queue_pair_spec.h"

#include <algorithm>
#include <cerrno>

#include "error.h"
#include "opcodes.h"

namespace rdma {

namespace {

/// librxe's ibv_post_send(3) sends ATOMIC_WRITE with rkey 0 (providers/rxe/rxe.c convert_send_wr), so such
/// work goes through ibv_wr_post(3). A batch that holds some goes there as a whole, hence the other
/// operations.
uint64_t WantedSendOps(ibv_qp_type type) {
  if (type != IBV_QPT_RC) return 0;
  return IBV_QP_EX_WITH_RDMA_WRITE | IBV_QP_EX_WITH_RDMA_WRITE_WITH_IMM | IBV_QP_EX_WITH_SEND |
         IBV_QP_EX_WITH_SEND_WITH_IMM | IBV_QP_EX_WITH_RDMA_READ | IBV_QP_EX_WITH_ATOMIC_CMP_AND_SWP |
         IBV_QP_EX_WITH_ATOMIC_FETCH_AND_ADD | IBV_QP_EX_WITH_LOCAL_INV | IBV_QP_EX_WITH_BIND_MW |
         IBV_QP_EX_WITH_SEND_WITH_INV | IBV_QP_EX_WITH_ATOMIC_WRITE | (kFlushIsThere ? kQpExWithFlush : 0);
}

uint32_t RecvWrToAsk(const QueuePairSpec& spec) {
  const bool mapped = spec.pd->device()->rules().Has(Rule::kEmptyRecvQueue);
  return mapped ? std::max(spec.caps.max_recv_wr, 1u) : spec.caps.max_recv_wr;
}

ibv_qp_init_attr_ex Attributes(const QueuePairSpec& spec, uint64_t send_ops) {
  ibv_qp_init_attr_ex attr = {};
  attr.qp_type = spec.type;
  attr.sq_sig_all = spec.signal_all ? 1 : 0;
  if (spec.xrcd) {
    attr.comp_mask = IBV_QP_INIT_ATTR_XRCD;
    attr.xrcd = spec.xrcd->xrcd().get();
  } else {
    attr.comp_mask = IBV_QP_INIT_ATTR_PD;
    attr.pd = spec.pd->pd().get();
  }
  if (spec.has_send_queue()) {
    attr.send_cq = spec.send_cq->cq()->cq;
    attr.cap.max_send_wr = spec.caps.max_send_wr;
    attr.cap.max_send_sge = spec.caps.max_send_sge;
    attr.cap.max_inline_data = spec.caps.max_inline_data;
  }
  if (spec.has_recv_queue()) {
    attr.recv_cq = spec.recv_cq->cq()->cq;
    if (spec.srq) {
      attr.srq = spec.srq->srq().get();
    } else {
      attr.cap.max_recv_wr = RecvWrToAsk(spec);
      attr.cap.max_recv_sge = spec.caps.max_recv_sge;
    }
  }
  if (spec.create_flags != 0) {
    attr.comp_mask |= IBV_QP_INIT_ATTR_CREATE_FLAGS;
    attr.create_flags = spec.create_flags;
    attr.source_qpn = spec.source_qpn;
  }
  if (send_ops != 0) {
    attr.comp_mask |= IBV_QP_INIT_ATTR_SEND_OPS_FLAGS;
    attr.send_ops_flags = send_ops;
  }
  return attr;
}

/// Null, with errno, when it fails.
ibv_qp* TryCreate(const QueuePairSpec& spec, ibv_qp_init_attr_ex* attr) {
  errno = 0;
  if (!spec.id) return ibv_create_qp_ex(spec.pd->pd()->context, attr);
  rdma_cm_id* id = spec.id->id().get();
  const int err = NormaliseErrno(rdma_create_qp_ex(id, attr));
  errno = err;
  return err == 0 ? id->qp : nullptr;
}

const char* TypeName(ibv_qp_type type) {
  switch (type) {
    case IBV_QPT_RC:
      return "RC";
    case IBV_QPT_UC:
      return "UC";
    case IBV_QPT_UD:
      return "UD";
    case IBV_QPT_RAW_PACKET:
      return "RAW_PACKET";
    case IBV_QPT_XRC_SEND:
      return "XRC_SEND";
    case IBV_QPT_XRC_RECV:
      return "XRC_RECV";
    default:
      return "such";
  }
}

[[noreturn]] void ThrowFailure(const QueuePairSpec& spec) {
  const int err = errno != 0 ? errno : EIO;
  if (err == EOPNOTSUPP || err == ENOSYS) {
    throw Error(spec.syscall(), EOPNOTSUPP,
                "device " + spec.pd->device()->name() + " has no " + TypeName(spec.type) + " queue pairs" +
                    (spec.create_flags == 0 ? "" : ", or not with these createFlags"));
  }
  if (err == EPERM && spec.type == IBV_QPT_RAW_PACKET) {
    throw Error(spec.syscall(), EPERM, "RAW_PACKET queue pairs need the capability CAP_NET_RAW");
  }
  const QueuePairCaps& caps = spec.caps;
  const std::string asked = "max_send_wr " + std::to_string(caps.max_send_wr) + ", max_recv_wr " +
                            std::to_string(caps.max_recv_wr) + ", max_send_sge " +
                            std::to_string(caps.max_send_sge) + ", max_recv_sge " +
                            std::to_string(caps.max_recv_sge) + ", max_inline_data " +
                            std::to_string(caps.max_inline_data);
  throw Error(spec.syscall(), err, asked);
}

}  // namespace

CreatedQueuePair CreateQp(const QueuePairSpec& spec) {
  uint64_t send_ops = WantedSendOps(spec.type);
  ibv_qp_init_attr_ex attr = Attributes(spec, send_ops);
  ibv_qp* qp = TryCreate(spec, &attr);
  // Less and less: without FLUSH, which providers got last; with ibv_post_send(3) alone.
  for (const uint64_t less : {send_ops & ~kQpExWithFlush, uint64_t{0}}) {
    if (qp != nullptr || less == send_ops) continue;
    send_ops = less;
    attr = Attributes(spec, send_ops);
    qp = TryCreate(spec, &attr);
  }
  if (qp == nullptr) ThrowFailure(spec);
  const QueuePairCaps granted = {attr.cap.max_send_wr, attr.cap.max_recv_wr, attr.cap.max_send_sge,
                                 attr.cap.max_recv_sge, attr.cap.max_inline_data};
  // What must outlive the queue pair.
  struct Parents {
    CmIdPtr id;
    PdPtr pd;
    CqPtr send_cq;
    CqPtr recv_cq;
    SrqPtr srq;
    XrcdPtr xrcd;
  };
  Parents parents = {spec.id ? spec.id->id() : nullptr,
                     spec.pd->pd(),
                     spec.has_send_queue() ? spec.send_cq->cq() : nullptr,
                     spec.has_recv_queue() ? spec.recv_cq->cq() : nullptr,
                     spec.srq ? spec.srq->srq() : nullptr,
                     spec.xrcd ? spec.xrcd->xrcd() : nullptr};
  return {{qp,
           [parents = std::move(parents)](ibv_qp* q) mutable {
             if (parents.id) {
               LeaveQueuePair(parents.id);
               rdma_destroy_qp(parents.id.get());
             } else {
               ReportDestroy(ibv_destroy_qp(q), "ibv_destroy_qp");
             }
             // A deleter lives as long as the last weak pointer, and the connection id has one.
             parents = {};
           }},
          granted,
          send_ops};
}

}  // namespace rdma
