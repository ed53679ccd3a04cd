#include "cm_handle.h"

#include <utility>

#include "error.h"

namespace rdma {

void CmIdDeleter::operator()(rdma_cm_id* id) const noexcept {
  for (CmGroup& group : *groups) rdma_leave_multicast(id, reinterpret_cast<sockaddr*>(&group.address));
  ReportDestroy(rdma_destroy_id(id), "rdma_destroy_id");
}

CmIdPtr CreateCmId(const EventChannelPtr& channel, void* context, rdma_port_space port_space) {
  rdma_cm_id* id = nullptr;
  Check(rdma_create_id(channel.get(), &id, context, port_space), "rdma_create_id");
  return AdoptCmId(channel, id);
}

CmIdPtr AdoptCmId(const EventChannelPtr& channel, rdma_cm_id* id) { return {id, CmIdDeleter{channel}}; }

void MigrateCmId(const CmIdPtr& id, const EventChannelPtr& channel) {
  Check(rdma_migrate_id(id.get(), channel.get()), "rdma_migrate_id");
  std::get_deleter<CmIdDeleter>(id)->channel = channel;
}

CmGroups& GroupsOf(const CmIdPtr& id) { return *std::get_deleter<CmIdDeleter>(id)->groups; }

void LeaveQueuePair(const CmIdPtr& id) noexcept {
  for (CmGroup& group : GroupsOf(id)) {
    // A failure shows as one of the queue pair's destruction.
    if (std::exchange(group.attached, false)) ibv_detach_mcast(id->qp, &group.mgid, group.mlid);
  }
}

}  // namespace rdma
