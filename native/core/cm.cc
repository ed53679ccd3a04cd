#include "cm.h"

#include <arpa/inet.h>

#include <cerrno>
#include <cstring>

#include "error.h"

namespace rdma {

namespace {

std::string Text(const SocketAddress& address) {
  return (address.v6 ? "[" + address.host + "]" : address.host) + ":" + std::to_string(address.port);
}

sockaddr_storage ToSockaddr(const SocketAddress& address) {
  sockaddr_storage storage = {};
  int ok = 0;
  if (address.v6) {
    auto* in6 = reinterpret_cast<sockaddr_in6*>(&storage);
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons(address.port);
    ok = inet_pton(AF_INET6, address.host.c_str(), &in6->sin6_addr);
  } else {
    auto* in = reinterpret_cast<sockaddr_in*>(&storage);
    in->sin_family = AF_INET;
    in->sin_port = htons(address.port);
    ok = inet_pton(AF_INET, address.host.c_str(), &in->sin_addr);
  }
  if (ok != 1) throw Error("inet_pton", EINVAL, "\"" + address.host + "\" is not a numeric IP address");
  return storage;
}

std::optional<SocketAddress> FromSockaddr(const sockaddr* address) {
  char text[INET6_ADDRSTRLEN] = {};
  if (address->sa_family == AF_INET) {
    const auto* in = reinterpret_cast<const sockaddr_in*>(address);
    inet_ntop(AF_INET, &in->sin_addr, text, sizeof text);
    return SocketAddress{text, ntohs(in->sin_port), false};
  }
  if (address->sa_family == AF_INET6) {
    const auto* in6 = reinterpret_cast<const sockaddr_in6*>(address);
    inet_ntop(AF_INET6, &in6->sin6_addr, text, sizeof text);
    return SocketAddress{text, ntohs(in6->sin6_port), true};
  }
  return std::nullopt;
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
  const rdma_conn_param& conn = raw->param.conn;
  if (conn.private_data != nullptr && conn.private_data_len != 0) {
    const auto* data = static_cast<const uint8_t*>(conn.private_data);
    event.private_data.assign(data, data + conn.private_data_len);
  }
  event.responder_resources = conn.responder_resources;
  event.initiator_depth = conn.initiator_depth;
  event.retry_count = conn.retry_count;
  event.rnr_retry_count = conn.rnr_retry_count;
  auto* owner = static_cast<CmId*>(raw->id->context);
  auto self = std::static_pointer_cast<CmId>(owner->shared_from_this());
  if (raw->event == RDMA_CM_EVENT_CONNECT_REQUEST) {
    // A request inherits the listener's context; from here on the new id has an object of its own.
    event.listener = std::move(self);
    event.id = std::make_shared<CmId>(event.listener->channel_);
    event.id->id_ = AdoptCmId(channel_, raw->id);
    raw->id->context = event.id.get();
    AddChild(event.id);
  } else {
    event.id = std::move(self);
  }
  return event;
}

std::shared_ptr<CmId> CmId::Create(const std::shared_ptr<EventChannel>& channel) {
  auto object = std::make_shared<CmId>(channel);
  object->id_ = CreateCmId(channel->channel(), object.get());
  channel->Adopt(object);
  return object;
}

void CmId::Bind(const SocketAddress& address) {
  sockaddr_storage storage = ToSockaddr(address);
  Check(rdma_bind_addr(id_.get(), reinterpret_cast<sockaddr*>(&storage)), "rdma_bind_addr", Text(address));
}

void CmId::Listen(int backlog) { Check(rdma_listen(id_.get(), backlog), "rdma_listen"); }

void CmId::ResolveAddr(const std::optional<SocketAddress>& source, const SocketAddress& target,
                       int timeout_ms) {
  sockaddr_storage to = ToSockaddr(target);
  sockaddr_storage from = {};
  if (source) from = ToSockaddr(*source);
  Check(rdma_resolve_addr(id_.get(), source ? reinterpret_cast<sockaddr*>(&from) : nullptr,
                          reinterpret_cast<sockaddr*>(&to), timeout_ms),
        "rdma_resolve_addr", Text(target));
}

void CmId::RequireDevice(const char* syscall) const {
  if (id_->verbs == nullptr) {
    throw Error(syscall, EINVAL, "the connection id is not bound to a device yet: resolve its address first");
  }
}

void CmId::ResolveRoute(int timeout_ms) {
  RequireDevice("rdma_resolve_route");
  Check(rdma_resolve_route(id_.get(), timeout_ms), "rdma_resolve_route");
}

void CmId::Connect(const CmIdPtr& id, rdma_conn_param* param) {
  Check(rdma_connect(id.get(), param), "rdma_connect");
}

void CmId::Accept(rdma_conn_param* param) {
  RequireDevice("rdma_accept");
  Check(rdma_accept(id_.get(), param), "rdma_accept");
}

void CmId::Reject(const std::vector<uint8_t>& private_data) {
  Check(rdma_reject(id_.get(), private_data.data(), static_cast<uint8_t>(private_data.size())),
        "rdma_reject");
}

void CmId::Disconnect() {
  RequireDevice("rdma_disconnect");
  Check(rdma_disconnect(id_.get()), "rdma_disconnect");
}

std::optional<SocketAddress> CmId::LocalAddress() const {
  return FromSockaddr(rdma_get_local_addr(id_.get()));
}

std::optional<SocketAddress> CmId::PeerAddress() const { return FromSockaddr(rdma_get_peer_addr(id_.get())); }

std::string CmId::DeviceName() const {
  return id_->verbs == nullptr ? std::string() : ibv_get_device_name(id_->verbs->device);
}

}  // namespace rdma
