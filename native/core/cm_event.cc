#include "cm_event.h"

#include <cerrno>

#include "cm.h"
#include "error.h"

namespace rdma {

namespace {

CmEvent::Param ParamOf(const rdma_cm_event& event, bool datagram) {
  switch (event.event) {
    case RDMA_CM_EVENT_CONNECT_REQUEST:
    case RDMA_CM_EVENT_ESTABLISHED:
      return datagram ? CmEvent::Param::kUd : CmEvent::Param::kConn;
    case RDMA_CM_EVENT_CONNECT_RESPONSE:
    case RDMA_CM_EVENT_DISCONNECTED:
      return CmEvent::Param::kConn;
    case RDMA_CM_EVENT_REJECTED:
      // For a datagram id librdmacm reads these as a connection's, from the wrong places (cma.c
      // rdma_get_cm_event); the kernel sends UNREACHABLE there.
      return datagram ? CmEvent::Param::kNone : CmEvent::Param::kConn;
    case RDMA_CM_EVENT_UNREACHABLE:
      return datagram ? CmEvent::Param::kUd : CmEvent::Param::kNone;
    case RDMA_CM_EVENT_MULTICAST_JOIN:
      return CmEvent::Param::kUd;
    default:
      return CmEvent::Param::kNone;
  }
}

/// Whether the event says how a connection went.
bool EndsConnect(rdma_cm_event_type type) {
  switch (type) {
    case RDMA_CM_EVENT_CONNECT_RESPONSE:
    case RDMA_CM_EVENT_CONNECT_ERROR:
    case RDMA_CM_EVENT_UNREACHABLE:
    case RDMA_CM_EVENT_REJECTED:
    case RDMA_CM_EVENT_ESTABLISHED:
    case RDMA_CM_EVENT_DISCONNECTED:
    case RDMA_CM_EVENT_DEVICE_REMOVAL:
      return true;
    default:
      return false;
  }
}

bool IsMulticast(rdma_cm_event_type type) {
  return type == RDMA_CM_EVENT_MULTICAST_JOIN || type == RDMA_CM_EVENT_MULTICAST_ERROR;
}

}  // namespace

std::shared_ptr<EventChannel> EventChannel::Create() {
  return std::make_shared<EventChannel>(CreateEventChannel());
}

std::optional<CmEvent> EventChannel::Next() {
  rdma_cm_event* raw = nullptr;
  if (rdma_get_cm_event(channel_.get(), &raw) != 0) {
    if (errno == EAGAIN || errno == EINTR) return std::nullopt;
    ThrowErrno("rdma_get_cm_event", {});
  }
  const std::shared_ptr<rdma_cm_event> guard(raw, [](rdma_cm_event* e) { rdma_ack_cm_event(e); });
  CmEvent event = {};
  event.type = raw->event;
  event.status = raw->status;
  event.param = ParamOf(*raw, raw->id->qp_type == IBV_QPT_UD);
  if (event.param == CmEvent::Param::kConn) event.conn = raw->param.conn;
  if (event.param == CmEvent::Param::kUd) event.ud = raw->param.ud;
  if (IsMulticast(raw->event)) {
    // librdmacm gives the context of the join in the place of private data.
    event.group = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(raw->param.ud.private_data));
  } else if (event.param != CmEvent::Param::kNone) {
    // Both parameters begin with the private data.
    const auto* data = static_cast<const uint8_t*>(raw->param.conn.private_data);
    if (data != nullptr) event.private_data.assign(data, data + raw->param.conn.private_data_len);
  }
  event.conn.private_data = nullptr;
  event.ud.private_data = nullptr;

  auto* owner = static_cast<CmId*>(raw->id->context);
  auto self = std::static_pointer_cast<CmId>(owner->shared_from_this());
  if (raw->event == RDMA_CM_EVENT_CONNECT_REQUEST) {
    // A request inherits the listener's context; from here on the new id has an object of its own.
    event.listener = std::move(self);
    event.id = CmId::AdoptRequest(event.listener->channel(), raw->id);
    AddChild(event.id);
  } else {
    event.id = std::move(self);
    if (EndsConnect(raw->event) && !event.id->closed()) event.id->EndConnect();
    if (raw->event == RDMA_CM_EVENT_MULTICAST_JOIN) event.id->OnJoined(event.group, event.ud);
  }
  return event;
}

}  // namespace rdma
