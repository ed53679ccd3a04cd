#include "rules.h"

namespace rdma {

namespace {

constexpr uint32_t kRxeVendor = 0xffffff;  // kernel sw/rxe/rxe_param.h RXE_VENDOR_ID
constexpr uint32_t kSiwVendor = 0x626d74;  // kernel sw/siw/siw.h SIW_VENDOR_ID

}  // namespace

const ProviderRules& RulesFor(const ibv_device_attr& attr, ibv_transport_type transport) noexcept {
  if (transport == IBV_TRANSPORT_IWARP) {
    return attr.vendor_id == kSiwVendor ? kSiwRules : kGenericIwarpRules;
  }
  return transport == IBV_TRANSPORT_IB && attr.vendor_id == kRxeVendor ? kRxeRules : kGenericRules;
}

}  // namespace rdma
