#pragma once

#include <infiniband/verbs.h>

#include <cstdint>

namespace rdma {

/// The providers that need rules of their own. Everything else follows the manual pages.
enum class Provider : uint8_t { kOther, kRxe, kSiw };

Provider ProviderOf(const ibv_device_attr& attr, ibv_transport_type transport) noexcept;
const char* ProviderName(Provider provider) noexcept;

/// libsiw indexes a table with the opcode and leaves a send queue wedged on some flags (providers/siw/siw.c;
/// kernel sw/siw/siw_qp.c siw_activate_tx_from_sq): only what its table holds may reach it.
bool OpcodeAllowed(Provider provider, uint32_t opcode) noexcept;

/// True where INLINE is defined: SEND and RDMA WRITE, with or without immediate data.
bool InlineAllowed(uint32_t opcode) noexcept;

/// READ with FENCE is accepted by siw and then blocks its send queue for ever.
bool FenceAllowed(Provider provider, uint32_t opcode) noexcept;

/// siw completes what follows a READ before the READ, so only a completion of its own tells that a READ is
/// done.
bool MustSignal(Provider provider, uint32_t opcode) noexcept;

}  // namespace rdma
