#pragma once

#include <sys/socket.h>

#include <memory>
#include <vector>

#include "handles.h"

namespace rdma {

/// A multicast group that an id has joined or is joining.
struct CmGroup {
  uint32_t token;  // names the group in events
  sockaddr_storage address;
  ibv_gid mgid;  // the group's, once it is attached
  uint16_t mlid;
  bool attached;  // librdmacm has attached the id's queue pair (ibv_attach_mcast(3))
};

using CmGroups = std::vector<CmGroup>;

/// Destroys an id: leaves its groups first, because librdmacm forgets their memory, and holds the channel
/// that the id reports to.
struct CmIdDeleter {
  EventChannelPtr channel;
  std::shared_ptr<CmGroups> groups = std::make_shared<CmGroups>();
  void operator()(rdma_cm_id* id) const noexcept;
};

CmIdPtr CreateCmId(const EventChannelPtr& channel, void* context, rdma_port_space port_space);

/// Takes over the id of a connection request, which librdmacm made.
CmIdPtr AdoptCmId(const EventChannelPtr& channel, rdma_cm_id* id);

/// Moves the id to another channel (rdma_migrate_id(3)). Its events must all have been acknowledged.
void MigrateCmId(const CmIdPtr& id, const EventChannelPtr& channel);

CmGroups& GroupsOf(const CmIdPtr& id);

/// Detaches the id's queue pair from the groups that librdmacm attached it to: the kernel refuses to destroy
/// one that is attached (core/uverbs_std_types_qp.c uverbs_free_qp), and rdma_destroy_qp(3) does not say so.
void LeaveQueuePair(const CmIdPtr& id) noexcept;

}  // namespace rdma
