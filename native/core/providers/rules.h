#pragma once

#include <infiniband/verbs.h>

#include <cstddef>
#include <cstdint>
#include <span>

namespace rdma {

/// What providers (the rdma-core library of a device and its kernel driver) do otherwise than the manual
/// pages say. Each has its name, reason and source in the file of the provider that has it; the code that
/// acts on it asks ProviderRules::Has.
enum class Rule : uint8_t {
  // Creating.
  kEmptyRecvQueue,
  kMapKey,
  // Modifying and querying.
  kManualStates,
  kPartialQuery,
  kModifyUnchecked,
  kDrainBlocksReset,
  kNoSqe,
  kExtendedPoll,
  kResizeUnmaps,
  kSolicitedSilent,
  // Registering.
  kIovaIgnored,
  kAccessDropped,
  kZeroBasedUnknown,
  kOnDemandIova,
  kOnDemandOffset,
  kRegionSize,
  kSlowDeregister,
  kWindowUnbounded,
  kWindowHoldsQueuePair,
  // Connecting.
  kReplyDepths,
  // Posting.
  kPostAnswers,
  kOpcodeTable,
  kInlineOpcodes,
  kReadFence,
  kReadCompletesLate,
  kZeroCopyTransmit,
  kSendInvRkey,
  kTinyStraddle,
  kEmptySge,
  kRecvNeedsSge,
  kPostBeforeRts,
  kStateByQuery,
  kExtendedOnly,
  kListSetters,
  kBindReadsWindow,
  kAddressUnchecked,
  kInvalidateFree,
  // Completing.
  kLocalErrorsHidden,
  kFlushCompletesAll,
  kNoSelfFlush,
  kRepeatedFlush,
  kUnwrittenCompletion,
  kInvalidatedFlag,
};

/// One rule as people read it.
struct Quirk {
  Rule rule;
  const char* name;    // for docs and tests: 'read-fence'
  const char* reason;  // what the provider does, and what the library does about it
  const char* source;  // where it can be seen
};

/// The rules of one provider.
class ProviderRules {
 public:
  using Opcodes = uint32_t (*)(ibv_qp_type type);

  /// [opcodes] is the set that the provider carries out on a type of queue pair, [inline_opcodes] the set
  /// that may be INLINE (opcodes.h).
  constexpr ProviderRules(const char* name, std::span<const Quirk> quirks, Opcodes opcodes,
                          uint32_t inline_opcodes)
      : name_(name), quirks_(quirks), opcodes_(opcodes), inline_opcodes_(inline_opcodes) {
    for (const Quirk& quirk : quirks) mask_ |= Bit(quirk.rule);
  }

  const char* name() const noexcept { return name_; }
  std::span<const Quirk> quirks() const noexcept { return quirks_; }
  bool Has(Rule rule) const noexcept { return (mask_ & Bit(rule)) != 0; }
  uint32_t opcodes(ibv_qp_type type) const noexcept { return opcodes_(type); }
  uint32_t inline_opcodes() const noexcept { return inline_opcodes_; }

 private:
  static constexpr uint64_t Bit(Rule rule) noexcept { return uint64_t{1} << static_cast<unsigned>(rule); }

  const char* name_;
  std::span<const Quirk> quirks_;
  Opcodes opcodes_;
  uint32_t inline_opcodes_;
  uint64_t mask_ = 0;
};

// One file each: rxe.cc, siw.cc, generic.cc.
extern const ProviderRules kRxeRules;
extern const ProviderRules kSiwRules;
extern const ProviderRules kGenericRules;
extern const ProviderRules kGenericIwarpRules;

/// Makes a completion say what ibv_poll_cq(3) promises.
inline void CorrectCompletion(const ProviderRules& rules, ibv_wc* wc) noexcept {
  if ((wc->wc_flags & IBV_WC_IP_CSUM_OK) != 0 && rules.Has(Rule::kInvalidatedFlag)) {
    wc->wc_flags &= ~uint32_t{IBV_WC_IP_CSUM_OK};
    wc->wc_flags |= IBV_WC_WITH_INV;
  }
}

/// The rules of a device, chosen when it is opened: by vendor and transport, not by its name.
const ProviderRules& RulesFor(const ibv_device_attr& attr, ibv_transport_type transport) noexcept;

}  // namespace rdma
