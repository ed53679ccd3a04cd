#include "device_probe.h"

#include <algorithm>
#include <array>
#include <cerrno>

#include "error.h"
#include "opcodes.h"

namespace rdma {

namespace {

using QpGuard = std::unique_ptr<ibv_qp, int (*)(ibv_qp*)>;
using CqGuard = std::unique_ptr<ibv_cq, int (*)(ibv_cq*)>;
using PdGuard = std::unique_ptr<ibv_pd, int (*)(ibv_pd*)>;

/// Whether [err] is the device's answer, and not trouble of the moment.
bool IsRefusal(int err) {
  constexpr std::array kTrouble = {ENOMEM, EIO, ENODEV, EAGAIN, EINTR, EMFILE, ENFILE, EBADF};
  return std::find(kTrouble.begin(), kTrouble.end(), err) == kTrouble.end();
}

/// False for a refusal by a call that returned [rc].
bool Accepted(int rc, const char* syscall) {
  const int err = NormaliseErrno(rc);
  if (err != 0 && !IsRefusal(err)) throw Error(syscall, err, "while finding out what the device can do");
  return err == 0;
}

/// False for a refusal by a call that returned [pointer] and set errno.
bool Made(const void* pointer, const char* syscall) {
  return pointer != nullptr || Accepted(errno != 0 ? errno : EOPNOTSUPP, syscall);
}

/// What most probes need.
struct Bench {
  explicit Bench(const ContextPtr& context)
      : pd(CheckPointer(ibv_alloc_pd(context.get()), "ibv_alloc_pd"), ibv_dealloc_pd),
        cq(CheckPointer(ibv_create_cq(context.get(), 4, nullptr, nullptr, 0), "ibv_create_cq"),
           ibv_destroy_cq) {}

  QpGuard CreateQp(ibv_qp_type type, uint32_t inline_bytes) const {
    ibv_qp_init_attr attr = {};
    attr.send_cq = cq.get();
    attr.recv_cq = cq.get();
    attr.qp_type = type;
    attr.cap = {1, 1, 1, 1, inline_bytes};
    errno = 0;
    return {ibv_create_qp(pd.get(), &attr), ibv_destroy_qp};
  }

  PdGuard pd;
  CqGuard cq;
};

bool TryExtendedQp(const ContextPtr& context, uint64_t send_ops) {
  const Bench bench(context);
  ibv_qp_init_attr_ex attr = {};
  attr.send_cq = bench.cq.get();
  attr.recv_cq = bench.cq.get();
  attr.qp_type = IBV_QPT_RC;
  attr.cap = {1, 1, 1, 1, 0};
  attr.pd = bench.pd.get();
  attr.comp_mask = IBV_QP_INIT_ATTR_PD | IBV_QP_INIT_ATTR_SEND_OPS_FLAGS;
  attr.send_ops_flags = send_ops;
  errno = 0;
  const QpGuard qp(ibv_create_qp_ex(context.get(), &attr), ibv_destroy_qp);
  return Made(qp.get(), "ibv_create_qp_ex");
}

}  // namespace

bool ProbeQueuePair(const ContextPtr& context, ibv_qp_type type) {
  return Made(Bench(context).CreateQp(type, 0).get(), "ibv_create_qp");
}

uint32_t ProbeInline(const ContextPtr& context, ibv_qp_type type) {
  const Bench bench(context);
  if (!Made(bench.CreateQp(type, 0).get(), "ibv_create_qp")) return 0;
  // No device is known to take more; what asks for too much is refused with EINVAL or ENOMEM.
  uint32_t good = 0;
  uint32_t bad = 64 * 1024;
  while (bad - good > 1) {
    const uint32_t middle = good + (bad - good) / 2;
    (bench.CreateQp(type, middle) ? good : bad) = middle;
  }
  return good;
}

bool ProbeExtendedQp(const ContextPtr& context) { return TryExtendedQp(context, IBV_QP_EX_WITH_SEND); }

bool ProbeFlush(const ContextPtr& context) {
  return kFlushIsThere && TryExtendedQp(context, IBV_QP_EX_WITH_SEND | kQpExWithFlush);
}

bool ProbeEce(const ContextPtr& context) {
  const Bench bench(context);
  const QpGuard qp = bench.CreateQp(IBV_QPT_RC, 0);
  if (!Made(qp.get(), "ibv_create_qp")) return false;
  ibv_ece ece = {};
  return Accepted(ibv_query_ece(qp.get(), &ece), "ibv_query_ece");
}

bool ProbeExtendedCq(const ContextPtr& context, bool timestamps) {
  ibv_cq_init_attr_ex attr = {};
  attr.cqe = 4;
  attr.wc_flags = timestamps ? IBV_WC_EX_WITH_COMPLETION_TIMESTAMP : 0;
  errno = 0;
  ibv_cq_ex* cq = ibv_create_cq_ex(context.get(), &attr);
  const CqGuard guard(cq == nullptr ? nullptr : ibv_cq_ex_to_cq(cq), ibv_destroy_cq);
  return Made(cq, "ibv_create_cq_ex");
}

bool ProbeCqResize(const ContextPtr& context) {
  return Accepted(ibv_resize_cq(Bench(context).cq.get(), 8), "ibv_resize_cq");
}

bool ProbeClock(const ContextPtr& context) {
  ibv_values_ex values = {};
  values.comp_mask = IBV_VALUES_MASK_RAW_CLOCK;
  return Accepted(ibv_query_rt_values_ex(context.get(), &values), "ibv_query_rt_values_ex") &&
         (values.comp_mask & IBV_VALUES_MASK_RAW_CLOCK) != 0;
}

bool ProbeDmaBuf(const ContextPtr& context) {
  errno = 0;
  const auto mr = ibv_reg_dmabuf_mr(Bench(context).pd.get(), 0, 4096, 0, -1, IBV_ACCESS_LOCAL_WRITE);
  if (mr != nullptr) ibv_dereg_mr(mr);
  return mr != nullptr || errno == EBADF || Accepted(errno, "ibv_reg_dmabuf_mr");
}

bool ProbeRereg(const ContextPtr& context) {
  const Bench bench(context);
  alignas(4096) static char page[4096];
  ibv_mr* mr = CheckPointer((ibv_reg_mr)(bench.pd.get(), page, sizeof page, 0), "ibv_reg_mr");
  errno = 0;
  const int rc = ibv_rereg_mr(mr, IBV_REREG_MR_CHANGE_ACCESS, nullptr, nullptr, 0, IBV_ACCESS_REMOTE_READ);
  // It returns one of enum ibv_rereg_mr_err_code, the reason is in errno.
  const int err = rc == 0 ? 0 : errno;
  ReportDestroy(ibv_dereg_mr(mr), "ibv_dereg_mr");
  return rc == 0 || Accepted(err, "ibv_rereg_mr");
}

}  // namespace rdma
