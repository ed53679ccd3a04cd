#pragma once

#include <rdma/rdma_cma.h>

#include <memory>
#include <optional>
#include <vector>

#include "handles.h"
#include "object.h"

namespace rdma {

class CmId;

/// An event of rdma_cm, copied out of librdmacm's memory before the event was acknowledged
/// (rdma_get_cm_event(3)).
struct CmEvent {
  /// Which of the parameters the event brings.
  enum class Param { kNone, kConn, kUd };

  rdma_cm_event_type type;
  int status;                      // a negative errno, or the transport's reason of a rejection
  std::shared_ptr<CmId> id;        // the new id, for a connection request
  std::shared_ptr<CmId> listener;  // for a connection request
  Param param;
  rdma_conn_param conn;  // without private data
  rdma_ud_param ud;      // without private data
  std::vector<uint8_t> private_data;
  uint32_t group;  // token of the multicast group, for its events
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
  void Release(const Object* child) { RemoveChild(child); }

 protected:
  void OnClose() override { channel_.reset(); }

 private:
  EventChannelPtr channel_;
};

}  // namespace rdma
