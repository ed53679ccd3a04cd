#pragma once

#include "handles.h"

namespace rdma {

// What no attribute of a device tells is found out by trying: an object is made, and destroyed at once. False
// means that the device refused; trouble that says nothing about the device (ENOMEM, EIO …) is thrown.

/// A queue pair of [type] with one work request each way. RAW_PACKET needs CAP_NET_RAW of the process.
bool ProbeQueuePair(const ContextPtr& context, ibv_qp_type type);

/// The most inline bytes that a queue pair of [type] can be created with; 0 when there are no such queue
/// pairs.
uint32_t ProbeInline(const ContextPtr& context, ibv_qp_type type);

/// A queue pair of ibv_create_qp_ex(3) that is posted to by ibv_wr_post(3).
bool ProbeExtendedQp(const ContextPtr& context);

/// The same, to which FLUSH can be posted: the library must have been built with an rdma-core that has it.
bool ProbeFlush(const ContextPtr& context);

/// ibv_query_ece(3) of a queue pair.
bool ProbeEce(const ContextPtr& context);

/// A queue of ibv_create_cq_ex(3), with completion timestamps if [timestamps].
bool ProbeExtendedCq(const ContextPtr& context, bool timestamps);

/// ibv_resize_cq(3)
bool ProbeCqResize(const ContextPtr& context);

/// ibv_query_rt_values_ex(3)
bool ProbeClock(const ContextPtr& context);

/// ibv_reg_dmabuf_mr(3), with a descriptor that is none: a device that has the call says EBADF.
bool ProbeDmaBuf(const ContextPtr& context);

/// ibv_rereg_mr(3), of a page's access.
bool ProbeRereg(const ContextPtr& context);

}  // namespace rdma
