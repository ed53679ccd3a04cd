#include "cm.h"

#include <algorithm>
#include <cerrno>

#include "error.h"
#include "reaper.h"

namespace rdma {

std::shared_ptr<CmId> CmId::Create(const std::shared_ptr<EventChannel>& channel, rdma_port_space port_space) {
  auto object = std::make_shared<CmId>(channel);
  object->id_ = CreateCmId(channel->channel(), object.get(), port_space);
  channel->Adopt(object);
  return object;
}

std::shared_ptr<CmId> CmId::AdoptRequest(const std::shared_ptr<EventChannel>& channel, rdma_cm_id* id) {
  auto object = std::make_shared<CmId>(channel);
  object->id_ = AdoptCmId(channel->channel(), id);
  id->context = object.get();
  return object;
}

void CmId::RequireDevice(const char* syscall) const {
  if (id_->verbs == nullptr) {
    throw Error(syscall, EINVAL, "the connection id is not bound to a device yet: resolve its address first");
  }
}

bool CmId::iwarp() const {
  return id_->verbs != nullptr && id_->verbs->device->transport_type == IBV_TRANSPORT_IWARP;
}

void CmId::RequireTransport(const char* syscall) const {
  if (datagram() && iwarp()) {
    throw Error(syscall, EOPNOTSUPP,
                DeviceName() +
                    " is an iWARP device, which has no datagrams: use the port space TCP, or a RoCE or "
                    "InfiniBand device");
  }
}

void CmId::Bind(const SocketAddress& address) {
  sockaddr_storage storage = ToSockaddr(address);
  Check(rdma_bind_addr(id_.get(), reinterpret_cast<sockaddr*>(&storage)), "rdma_bind_addr", address.Text());
}

void CmId::Listen(int backlog) {
  RequireTransport("rdma_listen");
  Check(rdma_listen(id_.get(), backlog), "rdma_listen");
}

void CmId::ResolveAddr(const std::optional<SocketAddress>& source, const SocketAddress& target,
                       int timeout_ms) {
  sockaddr_storage to = ToSockaddr(target);
  sockaddr_storage from = {};
  if (source) from = ToSockaddr(*source);
  Check(rdma_resolve_addr(id_.get(), source ? reinterpret_cast<sockaddr*>(&from) : nullptr,
                          reinterpret_cast<sockaddr*>(&to), timeout_ms),
        "rdma_resolve_addr", target.Text());
}

void CmId::ResolveRoute(int timeout_ms) {
  RequireDevice("rdma_resolve_route");
  RequireTransport("rdma_resolve_route");
  Check(rdma_resolve_route(id_.get(), timeout_ms), "rdma_resolve_route");
}

void CmId::CheckConnect(const rdma_conn_param& param) const {
  RequireDevice("rdma_connect");
  RequireTransport("rdma_connect");
  if (id_->qp == nullptr && param.qp_num == 0 && !datagram()) {
    throw Error("rdma_connect", EINVAL, "the connection id has no queue pair, and no qp_num is given");
  }
}

void CmId::BeginConnect() {
  connecting_ = true;
  connecting_qp_ = queue_pair();
}

void CmId::EndConnect() {
  connecting_ = false;
  connecting_qp_.reset();
}

void CmId::Connect(const CmIdPtr& id, rdma_conn_param* param) {
  Check(rdma_connect(id.get(), param), "rdma_connect");
}

void CmId::Accept(rdma_conn_param* param) {
  RequireDevice("rdma_accept");
  RequireTransport("rdma_accept");
  if (id_->qp == nullptr && param->qp_num == 0) {
    throw Error("rdma_accept", EINVAL, "the connection id has no queue pair, and no qp_num is given");
  }
  Check(rdma_accept(id_.get(), param), "rdma_accept");
}

void CmId::Reject(const std::vector<uint8_t>& private_data, bool ece) {
  const char* syscall = ece ? "rdma_reject_ece" : "rdma_reject";
  RequireDevice(syscall);
  const auto reject = ece ? rdma_reject_ece : rdma_reject;
  Check(reject(id_.get(), private_data.data(), static_cast<uint8_t>(private_data.size())), syscall);
}

void CmId::Establish() {
  RequireDevice("rdma_establish");
  if (id_->qp != nullptr) {
    throw Error("rdma_establish", EINVAL, "the id has a queue pair of its own, which librdmacm establishes");
  }
  Check(rdma_establish(id_.get()), "rdma_establish");
}

void CmId::Disconnect() {
  RequireDevice("rdma_disconnect");
  Check(rdma_disconnect(id_.get()), "rdma_disconnect");
}

void CmId::Notify(ibv_event_type event) {
  RequireDevice("rdma_notify");
  Check(rdma_notify(id_.get(), event), "rdma_notify");
}

void CmId::Migrate(const std::shared_ptr<EventChannel>& channel) {
  if (channel == channel_) return;
  MigrateCmId(id_, channel->channel());
  channel_->Release(this);
  channel_ = channel;
  channel_->Adopt(shared_from_this());
}

void CmId::SetOption(int name, void* value, size_t length) {
  Check(rdma_set_option(id_.get(), RDMA_OPTION_ID, name, value, length), "rdma_set_option");
}

std::pair<ibv_qp_attr, int> CmId::InitQpAttr(ibv_qp_state state) const {
  RequireDevice("rdma_init_qp_attr");
  RequireTransport("rdma_init_qp_attr");
  std::pair<ibv_qp_attr, int> result = {};
  result.first.qp_state = state;
  Check(rdma_init_qp_attr(id_.get(), &result.first, &result.second), "rdma_init_qp_attr");
  return result;
}

void CmId::SetLocalEce(const ibv_ece& ece) {
  ibv_ece copy = ece;
  Check(rdma_set_local_ece(id_.get(), &copy), "rdma_set_local_ece",
        "only before the id has a queue pair, and with a vendor id");
}

ibv_ece CmId::RemoteEce() const {
  ibv_ece ece = {};
  Check(rdma_get_remote_ece(id_.get(), &ece), "rdma_get_remote_ece",
        "only while the id has no queue pair of its own");
  return ece;
}

void CmId::Join(uint32_t token, const SocketAddress& address, rdma_cm_mc_join_flags flags) {
  RequireDevice("rdma_join_multicast_ex");
  RequireTransport("rdma_join_multicast_ex");
  CmGroups& groups = GroupsOf(id_);
  groups.push_back({token, ToSockaddr(address), {}, 0, false});
  rdma_cm_join_mc_attr_ex attr = {};
  attr.comp_mask = RDMA_CM_JOIN_MC_ATTR_ADDRESS | RDMA_CM_JOIN_MC_ATTR_JOIN_FLAGS;
  attr.join_flags = flags;
  attr.addr = reinterpret_cast<sockaddr*>(&groups.back().address);
  const int rc =
      rdma_join_multicast_ex(id_.get(), &attr, reinterpret_cast<void*>(static_cast<uintptr_t>(token)));
  const int err = NormaliseErrno(rc);
  if (err == 0) return;
  groups.pop_back();
  // The kernel's own number, which has no name in user space (core/cma.c cma_iboe_join_multicast).
  constexpr int kKernelNotSupported = 524;
  if (err == kKernelNotSupported) {
    throw Error("rdma_join_multicast_ex", EOPNOTSUPP, address.host + ": RoCE v2 carries IPv4 groups only");
  }
  throw Error("rdma_join_multicast_ex", err, address.host);
}

void CmId::Leave(uint32_t token) {
  CmGroups& groups = GroupsOf(id_);
  const auto group =
      std::find_if(groups.begin(), groups.end(), [token](const CmGroup& g) { return g.token == token; });
  if (group == groups.end()) return;
  CmGroup left = *group;
  groups.erase(group);
  Check(rdma_leave_multicast(id_.get(), reinterpret_cast<sockaddr*>(&left.address)), "rdma_leave_multicast");
}

void CmId::OnJoined(uint32_t token, const rdma_ud_param& param) {
  if (closed()) return;
  for (CmGroup& group : GroupsOf(id_)) {
    if (group.token != token) continue;
    group.mgid = param.ah_attr.grh.dgid;
    group.mlid = param.ah_attr.dlid;
    group.attached = id_->qp != nullptr;
  }
}

void CmId::OnClose() {
  if (!connecting_ || !iwarp()) {
    EndConnect();
    id_.reset();
    return;
  }
  // Events may point to this object until the id has gone.
  Reap([self = shared_from_this(), id = std::move(id_), qp = std::move(connecting_qp_)]() mutable {
    qp.reset();
    id.reset();
  });
}

std::optional<SocketAddress> CmId::LocalAddress() const {
  return FromSockaddr(rdma_get_local_addr(id_.get()));
}

std::optional<SocketAddress> CmId::PeerAddress() const { return FromSockaddr(rdma_get_peer_addr(id_.get())); }

std::string CmId::DeviceName() const {
  return id_->verbs == nullptr ? std::string() : ibv_get_device_name(id_->verbs->device);
}

}  // namespace rdma
