#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "async_events.h"
#include "handles.h"
#include "object.h"
#include "providers/rules.h"

namespace rdma {

struct DeviceInfo {
  std::string name;
  uint64_t guid;  // host byte order
  ibv_transport_type transport;
};

/// The devices that libibverbs sees, opened or not (ibv_get_device_list(3)).
std::vector<DeviceInfo> ListDevices();

/// An open device.
class Device : public Object {
 public:
  static std::shared_ptr<Device> Open(const std::string& name);

  Device(ContextPtr context, const ibv_device_attr_ex& attr);

  const ContextPtr& context() const { return context_; }
  const ibv_device_attr& attr() const { return attr_.orig_attr; }
  const ibv_device_attr_ex& attr_ex() const { return attr_; }
  /// What this device does otherwise than the manual pages say.
  const ProviderRules& rules() const { return *rules_; }
  ibv_transport_type transport() const;
  std::string name() const;
  ibv_port_attr QueryPort(uint8_t port) const;

  /// The occupied entries of the GID tables of all ports (ibv_query_gid_table(3)).
  std::vector<ibv_gid_entry> QueryGids() const;

  /// An entry; nothing when it is empty (ibv_query_gid_ex(3)).
  std::optional<ibv_gid_entry> QueryGid(uint8_t port, uint32_t index) const;

  /// Host byte order (ibv_query_pkey(3)).
  uint16_t QueryPkey(uint8_t port, uint32_t index) const;

  /// The device's clock, in cycles of hca_core_clock (ibv_query_rt_values_ex(3)).
  uint64_t QueryRawClock() const;

  void Adopt(const std::shared_ptr<Object>& child) { AddChild(child); }

  /// Whoever makes a queue pair, a completion queue or a shared receive queue says so by events().Track().
  /// Not after Close().
  AsyncEvents& events() const { return *events_; }

 protected:
  void OnClose() override;

 private:
  ContextPtr context_;
  std::unique_ptr<AsyncEvents> events_;
  ibv_device_attr_ex attr_;
  const ProviderRules* rules_;
  std::shared_ptr<void> map_key_plug_;  // by Rule::kMapKey
};

}  // namespace rdma
