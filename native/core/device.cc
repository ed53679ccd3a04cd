#include "device.h"

#include <endian.h>

#include <algorithm>
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
  // Falls back to ibv_query_device(3) where the provider has no more to tell.
  ibv_device_attr_ex attr = {};
  Check(ibv_query_device_ex(context.get(), nullptr, &attr), "ibv_query_device_ex", name);
  return std::make_shared<Device>(std::move(context), attr);
}

Device::Device(ContextPtr context, const ibv_device_attr_ex& attr)
    : Object(Kind::kDevice),
      context_(std::move(context)),
      events_(std::make_unique<AsyncEvents>(context_)),
      attr_(attr),
      rules_(&RulesFor(attr.orig_attr, context_->device->transport_type)) {
  if (rules_->Has(Rule::kMapKey)) map_key_plug_ = PlugMapKey(context_);
}

ibv_transport_type Device::transport() const { return context_->device->transport_type; }

std::string Device::name() const { return ibv_get_device_name(context_->device); }

ibv_port_attr Device::QueryPort(uint8_t port) const {
  ibv_port_attr attr = {};
  Check(ibv_query_port(context_.get(), port, &attr), "ibv_query_port",
        name() + " port " + std::to_string(port) + " of " + std::to_string(this->attr().phys_port_cnt));
  return attr;
}

std::vector<ibv_gid_entry> Device::QueryGids() const {
  size_t room = 0;
  for (uint32_t port = 1; port <= this->attr().phys_port_cnt; ++port) {
    room += static_cast<size_t>(std::max(QueryPort(static_cast<uint8_t>(port)).gid_tbl_len, 0));
  }
  std::vector<ibv_gid_entry> entries(room);
  if (room == 0) return entries;
  const ssize_t count = ibv_query_gid_table(context_.get(), entries.data(), entries.size(), 0);
  if (count < 0) throw Error("ibv_query_gid_table", static_cast<int>(-count), name());
  entries.resize(static_cast<size_t>(count));
  return entries;
}

std::optional<ibv_gid_entry> Device::QueryGid(uint8_t port, uint32_t index) const {
  ibv_gid_entry entry = {};
  const int err = NormaliseErrno(ibv_query_gid_ex(context_.get(), port, index, &entry, 0));
  if (err == ENODATA) return std::nullopt;
  Check(err, "ibv_query_gid_ex",
        name() + " port " + std::to_string(port) + " index " + std::to_string(index));
  return entry;
}

uint16_t Device::QueryPkey(uint8_t port, uint32_t index) const {
  __be16 pkey = 0;
  Check(ibv_query_pkey(context_.get(), port, static_cast<int>(index), &pkey), "ibv_query_pkey",
        name() + " port " + std::to_string(port) + " index " + std::to_string(index));
  return be16toh(pkey);
}

uint64_t Device::QueryRawClock() const {
  ibv_values_ex values = {};
  values.comp_mask = IBV_VALUES_MASK_RAW_CLOCK;
  Check(ibv_query_rt_values_ex(context_.get(), &values), "ibv_query_rt_values_ex",
        name() + " has no clock that can be read");
  if ((values.comp_mask & IBV_VALUES_MASK_RAW_CLOCK) == 0) {
    throw Error("ibv_query_rt_values_ex", EOPNOTSUPP, name() + " has no clock that can be read");
  }
  return static_cast<uint64_t>(values.raw_clock.tv_sec) * 1'000'000'000 +
         static_cast<uint64_t>(values.raw_clock.tv_nsec);
}

void Device::OnClose() {
  events_.reset();
  map_key_plug_.reset();
  context_.reset();
}

}  // namespace rdma
