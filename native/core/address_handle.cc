#include "address_handle.h"

#include <cerrno>

#include "error.h"

namespace rdma {

std::shared_ptr<AddressHandle> AddressHandle::Create(const std::shared_ptr<ProtectionDomain>& pd,
                                                     const ibv_ah_attr& attr) {
  auto object = std::make_shared<AddressHandle>(pd, CreateAh(pd->pd(), attr));
  pd->Adopt(object);
  return object;
}

AddressHandle::AddressHandle(const std::shared_ptr<ProtectionDomain>& pd, AhPtr ah)
    : Pinnable(Kind::kAddressHandle), keys_(pd->keys()), ah_(std::move(ah)) {}

AddressHandle::~AddressHandle() {
  if (!closed()) Unlist();
}

ibv_ah_attr ReplyAddress(const std::shared_ptr<ProtectionDomain>& pd, uint8_t port, ibv_wc* wc,
                         ibv_grh* grh) {
  ibv_ah_attr attr = {};
  errno = 0;
  if (ibv_init_ah_from_wc(pd->pd()->context, port, wc, grh, &attr) != 0) {
    throw Error("ibv_init_ah_from_wc", errno != 0 ? errno : EINVAL,
                "the datagram's GRH names no address of port " + std::to_string(port));
  }
  return attr;
}

}  // namespace rdma
