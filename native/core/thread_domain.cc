#include "thread_domain.h"

namespace rdma {

std::shared_ptr<ThreadDomain> ThreadDomain::Alloc(const std::shared_ptr<Device>& device) {
  auto object = std::make_shared<ThreadDomain>(AllocTd(device->context()));
  device->Adopt(object);
  return object;
}

}  // namespace rdma
