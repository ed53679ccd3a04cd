#include <algorithm>
#include <cerrno>
#include <cstring>

#include "error.h"
#include "queue_pair.h"

namespace rdma {

namespace {

std::string ModifyHint(int err, const ibv_qp_attr& attr, int mask) {
  if (err == EPERM && (mask & IBV_QP_QKEY) != 0 && (attr.qkey >> 31) != 0) {
    return "a qkey with bit 31 needs the capability CAP_NET_RAW";
  }
  if (err == ENODATA && (mask & (IBV_QP_AV | IBV_QP_ALT_PATH)) != 0) {
    return "the GID table has no entry " + std::to_string(attr.ah_attr.grh.sgid_index);
  }
  if (err == EINVAL && (mask & IBV_QP_STATE) != 0 && attr.qp_state == IBV_QPS_RTS) {
    return "the provider refused it; is the send queue still draining (SQD)?";
  }
  return {};
}

}  // namespace

void QueuePair::Modify(const ibv_qp_attr& attr, int mask) {
  ibv_qp_attr copy = attr;
  errno = 0;
  const int err = NormaliseErrno(ibv_modify_qp(qp_.get(), &copy, mask));
  if (err != 0) throw Error("ibv_modify_qp", err, ModifyHint(err, attr, mask));
}

ibv_qp_attr QueuePair::Query() const {
  // All that ibv_query_qp(3) can tell.
  constexpr int kAll = (IBV_QP_DEST_QPN << 1) - 1;
  ibv_qp_attr attr = {};
  ibv_qp_init_attr init = {};
  Check(ibv_query_qp(qp_.get(), &attr, kAll, &init), "ibv_query_qp");
  return attr;
}

void QueuePair::RetireAll() {
  send_cq_->AddOutstanding(-static_cast<int32_t>(send_.pins().outstanding()));
  recv_cq_->AddOutstanding(-static_cast<int32_t>(recv_.pins().outstanding()));
  send_.RetireAll();
  recv_.pins().RetireAll();
  // What has completed of it would take up room that may now be needed for others.
  send_cq_->Stash();
  if (recv_cq_ != send_cq_) recv_cq_->Stash();
}

ibv_ece QueuePair::QueryEce() const {
  ibv_ece ece = {};
  Check(ibv_query_ece(qp_.get(), &ece), "ibv_query_ece", "enhanced connection establishment");
  return ece;
}

void QueuePair::SetEce(const ibv_ece& ece) {
  ibv_ece copy = ece;
  Check(ibv_set_ece(qp_.get(), &copy), "ibv_set_ece", "enhanced connection establishment");
}

bool QueuePair::DataInOrder(ibv_wr_opcode opcode, uint32_t flags) const {
  return ibv_query_qp_data_in_order(qp_.get(), opcode, flags) == 1;
}

void QueuePair::ModifyRateLimit(const ibv_qp_rate_limit_attr& attr) {
  ibv_qp_rate_limit_attr copy = attr;
  Check(ibv_modify_qp_rate_limit(qp_.get(), &copy), "ibv_modify_qp_rate_limit");
}

std::vector<QueuePair::Group>::iterator QueuePair::FindGroup(const ibv_gid& gid, uint16_t lid) {
  return std::find_if(groups_.begin(), groups_.end(), [&](const Group& group) {
    return group.lid == lid && std::memcmp(group.gid.raw, gid.raw, sizeof gid.raw) == 0;
  });
}

void QueuePair::AttachMcast(const ibv_gid& gid, uint16_t lid) {
  if (FindGroup(gid, lid) != groups_.end()) return;
  Check(ibv_attach_mcast(qp_.get(), &gid, lid), "ibv_attach_mcast");
  groups_.push_back({gid, lid});
}

void QueuePair::DetachMcast(const ibv_gid& gid, uint16_t lid) {
  const auto group = FindGroup(gid, lid);
  if (group == groups_.end()) {
    throw Error("ibv_detach_mcast", EINVAL, "the queue pair is not attached to this group");
  }
  Check(ibv_detach_mcast(qp_.get(), &gid, lid), "ibv_detach_mcast");
  groups_.erase(group);
}

void QueuePair::DetachAll() noexcept {
  for (const Group& group : groups_) {
    ReportDestroy(ibv_detach_mcast(qp_.get(), &group.gid, group.lid), "ibv_detach_mcast");
  }
  groups_.clear();
}

}  // namespace rdma
