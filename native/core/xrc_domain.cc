#include "xrc_domain.h"

namespace rdma {

std::shared_ptr<XrcDomain> XrcDomain::Open(const std::shared_ptr<Device>& device, int fd, int oflags) {
  auto object = std::make_shared<XrcDomain>(OpenXrcd(device->context(), fd, oflags));
  device->Adopt(object);
  return object;
}

}  // namespace rdma
