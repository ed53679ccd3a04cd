#include "opcodes.h"

namespace rdma {

uint32_t OpcodesOf(ibv_qp_type type) noexcept {
  constexpr uint32_t kDatagram = OpcodeBit(IBV_WR_SEND) | OpcodeBit(IBV_WR_SEND_WITH_IMM);
  constexpr uint32_t kUnreliable = kSends | kWrites | OpcodeBit(IBV_WR_LOCAL_INV) | OpcodeBit(IBV_WR_BIND_MW);
  switch (type) {
    case IBV_QPT_RAW_PACKET:
      return OpcodeBit(IBV_WR_SEND);
    case IBV_QPT_UD:
      return kDatagram;
    case IBV_QPT_UC:
      return kUnreliable;
    case IBV_QPT_RC:
    case IBV_QPT_XRC_SEND:
      return kUnreliable | OpcodeBit(IBV_WR_RDMA_READ) | kAtomics | kExtended;
    default:
      return 0;
  }
}

}  // namespace rdma
