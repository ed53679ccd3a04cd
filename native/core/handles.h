#pragma once

#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>

#include <atomic>
#include <memory>
#include <string>

namespace rdma {

// Kernel objects as shared pointers. Each deleter holds the pointers of what must outlive it, so that the
// order QP -> CQ -> completion channel -> MR -> cm_id -> event channel -> PD -> device cannot be got wrong,
// on any thread.

using ContextPtr = std::shared_ptr<ibv_context>;
using PdPtr = std::shared_ptr<ibv_pd>;
using MrPtr = std::shared_ptr<ibv_mr>;
using MwPtr = std::shared_ptr<ibv_mw>;
using DmPtr = std::shared_ptr<ibv_dm>;
using TdPtr = std::shared_ptr<ibv_td>;
using ChannelPtr = std::shared_ptr<ibv_comp_channel>;
using EventChannelPtr = std::shared_ptr<rdma_event_channel>;
using CmIdPtr = std::shared_ptr<rdma_cm_id>;
using QpPtr = std::shared_ptr<ibv_qp>;
using AhPtr = std::shared_ptr<ibv_ah>;
using XrcdPtr = std::shared_ptr<ibv_xrcd>;

class CompletionQueue;

/// A CQ and the count of events taken from its channel and not yet acknowledged: ibv_destroy_cq(3) waits for
/// them.
struct CqHandle {
  ibv_cq* cq = nullptr;
  ibv_cq_ex* extended = nullptr;     // the same, when it was made by ibv_create_cq_ex(3)
  CompletionQueue* owner = nullptr;  // null once that is closed; belongs to the owner's thread
  unsigned int unacked = 0;
  bool lost = false;  // its memory is no longer mapped: it can only be destroyed
};
using CqPtr = std::shared_ptr<CqHandle>;
using SrqPtr = std::shared_ptr<ibv_srq>;

/// Opens a device by name. Prefers the context that librdmacm has for it, because a PD of that context can
/// serve queue pairs of rdma_cm ids; a device that librdmacm does not know is opened directly.
ContextPtr OpenContext(const std::string& name);

/// Has librdmacm look which devices there are. It keeps its context of a device that has left the machine
/// until then, or until the last reference goes after that, and the kernel keeps the device until that
/// context has been closed (rxe, siw).
void ReleaseRemovedDevices();

PdPtr AllocPd(const ContextPtr& context);

/// [td] may be null (ibv_alloc_parent_domain(3)).
PdPtr AllocParentDomain(const PdPtr& pd, const TdPtr& td);

TdPtr AllocTd(const ContextPtr& context);

DmPtr AllocDm(const ContextPtr& context, uint64_t length, uint32_t log_align);

AhPtr CreateAh(const PdPtr& pd, const ibv_ah_attr& attr);

/// [fd] is -1 for a domain of this process only.
XrcdPtr OpenXrcd(const ContextPtr& context, int fd, int oflags);

MwPtr AllocMw(const PdPtr& pd, ibv_mw_type type);

ChannelPtr CreateCompChannel(const ContextPtr& context);
/// [timestamps] makes an extended CQ whose completions carry the device's clock (ibv_create_cq_ex(3)). The
/// channel's events name the CqHandle.
CqPtr CreateCq(const ContextPtr& context, int cqe, const ChannelPtr& channel, int comp_vector,
               bool timestamps);
/// [cq] and [xrcd] are those of an XRC queue, else null.
SrqPtr CreateSrq(const PdPtr& pd, const CqPtr& cq, const XrcdPtr& xrcd, ibv_srq_init_attr_ex* attr);
EventChannelPtr CreateEventChannel();

}  // namespace rdma
