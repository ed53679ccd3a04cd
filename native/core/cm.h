#pragma once

#include <rdma/rdma_cma.h>

#include <optional>
#include <string>
#include <vector>

#include "cm_event.h"
#include "cm_handle.h"
#include "socket_address.h"

namespace rdma {

/// A connection identifier (rdma_create_id(3)).
///
/// librdmacm follows null pointers when some calls come before the id is bound to a device; those calls are
/// refused here.
class CmId : public Object {
 public:
  static std::shared_ptr<CmId> Create(const std::shared_ptr<EventChannel>& channel,
                                      rdma_port_space port_space);
  /// The object of a connection request that librdmacm made.
  static std::shared_ptr<CmId> AdoptRequest(const std::shared_ptr<EventChannel>& channel, rdma_cm_id* id);
  explicit CmId(std::shared_ptr<EventChannel> channel) : Object(Kind::kCmId), channel_(std::move(channel)) {}

  const CmIdPtr& id() const { return id_; }
  const std::shared_ptr<EventChannel>& channel() const { return channel_; }

  void Bind(const SocketAddress& address);
  void Listen(int backlog);
  void ResolveAddr(const std::optional<SocketAddress>& source, const SocketAddress& target, int timeout_ms);
  void ResolveRoute(int timeout_ms);
  /// Throws unless the id can connect with [param] now.
  void CheckConnect(const rdma_conn_param& param) const;
  /// From here on until an event says how the connection went, the destruction of the id or of its queue pair
  /// may block: siw waits ten seconds for its peer (kernel sw/siw/siw_cm.c MPAREP_TIMEOUT).
  void BeginConnect();
  void EndConnect();
  /// May block, so it runs on any thread; [id] and its queue pair must be held meanwhile.
  static void Connect(const CmIdPtr& id, rdma_conn_param* param);
  void Accept(rdma_conn_param* param);
  /// [ece]: because of its options of extended connection establishment (rdma_reject_ece(3)).
  void Reject(const std::vector<uint8_t>& private_data, bool ece);
  void Establish();
  void Disconnect();
  void Notify(ibv_event_type event);
  void Migrate(const std::shared_ptr<EventChannel>& channel);

  /// An option of level RDMA_OPTION_ID (rdma_set_option(3)).
  template <typename T>
  void SetOption(int name, T value) {
    SetOption(name, &value, sizeof value);
  }

  /// What the queue pair of this id needs to enter [state], and the mask of what is in it
  /// (rdma_init_qp_attr(3)).
  std::pair<ibv_qp_attr, int> InitQpAttr(ibv_qp_state state) const;

  void SetLocalEce(const ibv_ece& ece);
  ibv_ece RemoteEce() const;

  /// Starts to join; a MULTICAST event with [token] follows (rdma_join_multicast_ex(3)).
  void Join(uint32_t token, const SocketAddress& group, rdma_cm_mc_join_flags flags);
  /// Does nothing when there is no such group (any more).
  void Leave(uint32_t token);
  void OnJoined(uint32_t token, const rdma_ud_param& param);

  std::optional<SocketAddress> LocalAddress() const;
  std::optional<SocketAddress> PeerAddress() const;
  bool datagram() const { return id_->qp_type == IBV_QPT_UD; }

  /// The kernel's queue pair of this id, which a connect on another thread must hold.
  QpPtr queue_pair() const { return queue_pair_.lock(); }
  void SetQueuePair(const QpPtr& qp) { queue_pair_ = qp; }

  /// Name of the device that the id is bound to; empty before that.
  std::string DeviceName() const;
  void Adopt(const std::shared_ptr<Object>& child) { AddChild(child); }

 protected:
  void OnClose() override;

 private:
  bool iwarp() const;
  void RequireDevice(const char* syscall) const;
  /// iWARP has no datagrams; the kernel would make a connection instead (core/cma.c rdma_connect_locked).
  void RequireTransport(const char* syscall) const;
  void SetOption(int name, void* value, size_t length);

  std::shared_ptr<EventChannel> channel_;
  CmIdPtr id_;
  std::weak_ptr<ibv_qp> queue_pair_;
  QpPtr connecting_qp_;
  bool connecting_ = false;
};

}  // namespace rdma
