#include "device.h"

#include <endian.h>

#include <cerrno>

#include "error.h"
#include "map_key_plug.h"

namespace rdma {

std::vector<DeviceInfo> ListDevices() {
  int count = 0;
  ibv_device** list = ibv_get_device_list(&count);
  if (list == nullptr) {
    // Without the kernel's ib_uverbs the call fails with ENOSYS: a machine without RDMA has no devices.
    if (errno == ENOSYS) return {};
    ThrowErrno("ibv_get_device_list", {});
  }
  const std::shared_ptr<ibv_device*> guard(list, ibv_free_device_list);
  std::vector<DeviceInfo> devices;
  for (int i = 0; i < count; ++i) {
    devices.push_back(
        {ibv_get_device_name(list[i]), be64toh(ibv_get_device_guid(list[i])), list[i]->transport_type});
  }
  return devices;
}

std::shared_ptr<Device> Device::Open(const std::string& name) {
  ContextPtr context = OpenContext(name);
  ibv_device_attr attr = {};
  Check(ibv_query_device(context.get(), &attr), "ibv_query_device", name);
  return std::make_shared<Device>(std::move(context), attr);
}

Device::Device(ContextPtr context, const ibv_device_attr& attr)
    : Object(Kind::kDevice),
      context_(std::move(context)),
      events_(std::make_unique<AsyncEvents>(context_)),
      attr_(attr),
      rules_(&RulesFor(attr, context_->device->transport_type)) {
  if (rules_->Has(Rule::kMapKey)) map_key_plug_ = PlugMapKey(context_);
}

ibv_transport_type Device::transport() const { return context_->device->transport_type; }

std::string Device::name() const { return ibv_get_device_name(context_->device); }

ibv_port_attr Device::QueryPort(uint8_t port) const {
  ibv_port_attr attr = {};
  Check(ibv_query_port(context_.get(), port, &attr), "ibv_query_port",
        name() + " port " + std::to_string(port) + " of " + std::to_string(attr_.phys_port_cnt));
  return attr;
}

void Device::OnClose() {
  events_.reset();
  map_key_plug_.reset();
  context_.reset();
}

}  // namespace rdma
