// Providers without rules of their own: what the manual pages say.

#include "../opcodes.h"
#include "rules.h"

namespace rdma {

namespace {

/// ibv_post_send(3): INLINE is valid for SEND and RDMA WRITE.
constexpr uint32_t kInline = kSends | kWrites;

/// iWARP has no immediate data and no atomics (RFC 5040 section 3).
uint32_t IwarpOpcodes(ibv_qp_type type) {
  return OpcodesOf(type) &
         ~(OpcodeBit(IBV_WR_SEND_WITH_IMM) | OpcodeBit(IBV_WR_RDMA_WRITE_WITH_IMM) | kAtomics | kExtended);
}

constexpr Quirk kIwarpQuirks[] = {
    {Rule::kStateByQuery, "state-by-query",
     "the kernel moves an iWARP queue pair to RTS and libibverbs does not see it, so its state is queried "
     "until "
     "the first send",
     "rdma-core librdmacm/cma.c ucma_init_conn_qp, ucma_modify_qp_rts: only for IB and RoCE"},
};

}  // namespace

constinit const ProviderRules kGenericRules("other", {}, OpcodesOf, kInline);
constinit const ProviderRules kGenericIwarpRules("other", kIwarpQuirks, IwarpOpcodes, kInline);

}  // namespace rdma
