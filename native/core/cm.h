#pragma once

#include <netinet/in.h>
#include <rdma/rdma_cma.h>

#include <optional>
#include <string>
#include <vector>

#include "handles.h"
#include "object.h"

namespace rdma {

class CmId;

/// An event of rdma_cm, copied out of librdmacm's memory before the event was acknowledged
/// (rdma_get_cm_event(3)).
struct CmEvent {
  rdma_cm_event_type type;
  int status;                      // a negative errno, or the transport's reason of a rejection
  std::shared_ptr<CmId> id;        // the new id, for a connection request
  std::shared_ptr<CmId> listener;  // for a connection request
  std::vector<uint8_t> private_data;
  uint8_t responder_resources;
  uint8_t initiator_depth;
  uint8_t retry_count;
  uint8_t rnr_retry_count;
};

/// The event channel of rdma_cm; ids made by it and connection requests of its listeners report here.
class EventChannel : public Object {
 public:
  static std::shared_ptr<EventChannel> Create();
  explicit EventChannel(EventChannelPtr channel)
      : Object(Kind::kEventChannel), channel_(std::move(channel)) {}

  int fd() const { return channel_->fd; }
  const EventChannelPtr& channel() const { return channel_; }

  /// The next event, or nothing when there is none. Never blocks.
  std::optional<CmEvent> Next();
  void Adopt(const std::shared_ptr<Object>& child) { AddChild(child); }

 protected:
  void OnClose() override { channel_.reset(); }

 private:
  EventChannelPtr channel_;
};

struct SocketAddress {
  std::string host;
  uint16_t port;
  bool v6;
};

/// A connection identifier (rdma_create_id(3)) of the port space TCP.
class CmId : public Object {
 public:
  static std::shared_ptr<CmId> Create(const std::shared_ptr<EventChannel>& channel);
  explicit CmId(std::shared_ptr<EventChannel> channel) : Object(Kind::kCmId), channel_(std::move(channel)) {}

  const CmIdPtr& id() const { return id_; }
  const std::shared_ptr<EventChannel>& channel() const { return channel_; }

  void Bind(const SocketAddress& address);
  void Listen(int backlog);
  void ResolveAddr(const std::optional<SocketAddress>& source, const SocketAddress& target, int timeout_ms);
  void ResolveRoute(int timeout_ms);
  /// May block, so it runs on any thread; [id] and its queue pair must be held meanwhile.
  static void Connect(const CmIdPtr& id, rdma_conn_param* param);
  void Accept(rdma_conn_param* param);
  void Reject(const std::vector<uint8_t>& private_data);
  void Disconnect();

  std::optional<SocketAddress> LocalAddress() const;
  std::optional<SocketAddress> PeerAddress() const;

  /// librdmacm follows null pointers when some calls come before the id is bound to a device.
  void RequireDevice(const char* syscall) const;

  /// The kernel's queue pair of this id, which a connect on another thread must hold.
  QpPtr queue_pair() const { return queue_pair_.lock(); }
  void SetQueuePair(const QpPtr& qp) { queue_pair_ = qp; }

  /// Name of the device that the id is bound to; empty before that.
  std::string DeviceName() const;
  void Adopt(const std::shared_ptr<Object>& child) { AddChild(child); }

 protected:
  void OnClose() override { id_.reset(); }

 private:
  friend class EventChannel;

  std::shared_ptr<EventChannel> channel_;
  CmIdPtr id_;
  std::weak_ptr<ibv_qp> queue_pair_;
};

}  // namespace rdma
