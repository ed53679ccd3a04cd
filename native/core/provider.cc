#include "provider.h"

namespace rdma {

namespace {

constexpr uint32_t kRxeVendor = 0xffffff;  // kernel sw/rxe/rxe_param.h RXE_VENDOR_ID
constexpr uint32_t kSiwVendor = 0x626d74;  // kernel sw/siw/siw.h SIW_VENDOR_ID

}  // namespace

Provider ProviderOf(const ibv_device_attr& attr, ibv_transport_type transport) noexcept {
  if (transport == IBV_TRANSPORT_IWARP && attr.vendor_id == kSiwVendor) return Provider::kSiw;
  if (transport == IBV_TRANSPORT_IB && attr.vendor_id == kRxeVendor) return Provider::kRxe;
  return Provider::kOther;
}

const char* ProviderName(Provider provider) noexcept {
  switch (provider) {
    case Provider::kRxe:
      return "rxe";
    case Provider::kSiw:
      return "siw";
    case Provider::kOther:
      break;
  }
  return "other";
}

bool OpcodeAllowed(Provider provider, uint32_t opcode) noexcept {
  switch (opcode) {
    case IBV_WR_SEND:
    case IBV_WR_RDMA_WRITE:
    case IBV_WR_RDMA_READ:
      return true;
    case IBV_WR_SEND_WITH_IMM:
    case IBV_WR_RDMA_WRITE_WITH_IMM:
      return provider != Provider::kSiw;
    default:
      return false;
  }
}

bool InlineAllowed(uint32_t opcode) noexcept { return opcode != IBV_WR_RDMA_READ; }

bool FenceAllowed(Provider provider, uint32_t opcode) noexcept {
  return !(provider == Provider::kSiw && opcode == IBV_WR_RDMA_READ);
}

bool MustSignal(Provider provider, uint32_t opcode) noexcept {
  return provider == Provider::kSiw && opcode == IBV_WR_RDMA_READ;
}

}  // namespace rdma
