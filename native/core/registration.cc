#include "registration.h"

#include <sys/resource.h>

#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <fstream>

#include "error.h"

namespace rdma {

namespace {

/// rxe keeps 16 bytes for each page of a pinned region in one kmalloc, whose largest size is 4 MiB (kernel
/// sw/rxe/rxe_mr.c alloc_mr_page_info).
constexpr uint64_t kRxeMaxPinned = uint64_t{1} << 30;

bool OnDemand(const RegionRequest& request) { return (request.access & IBV_ACCESS_ON_DEMAND) != 0; }

const char* CallOf(const RegionRequest& request) {
  if (request.source == RegionRequest::Source::kDmaBuf) return "ibv_reg_dmabuf_mr";
  return request.iova == request.addr ? "ibv_reg_mr" : "ibv_reg_mr_iova2";
}

std::string Hex(uint64_t value) {
  char text[24];
  std::snprintf(text, sizeof text, "0x%" PRIx64, value);
  return text;
}

std::string Describe(const RegionRequest& request) {
  std::string text = request.source == RegionRequest::Source::kImplicitOdp
                         ? "all addresses"
                         : std::to_string(request.length) + " bytes";
  if (request.source == RegionRequest::Source::kDmaBuf) text += " of dma-buf " + std::to_string(request.fd);
  return text + ", access " + Hex(static_cast<unsigned>(request.access));
}

bool HasRule(ibv_context* context, Rule rule) {
  ibv_device_attr attr = {};
  return ibv_query_device(context, &attr) == 0 && RulesFor(attr, context->device->transport_type).Has(rule);
}

std::string Explain(int err, const RegionRequest& request, ibv_context* context) {
  switch (err) {
    case ENOMEM:
      return "; " + LockedMemoryHint() + ", or register less at a time" +
             (!OnDemand(request) && request.length > kRxeMaxPinned && HasRule(context, Rule::kRegionSize)
                  ? "; one region of this device has at most 1 GiB in any case"
                  : "");
    case EPERM:
      return "; " + LockedMemoryHint();
    case EFAULT:
      return "; the memory is not mapped, or is read-only and access asks for more than REMOTE_READ";
    case EOPNOTSUPP:
      return "; the device does not have this kind of region or access";
    default:
      return {};
  }
}

[[noreturn]] void Unsupported(const RegionRequest& request, const std::string& detail) {
  throw Error(CallOf(request), EOPNOTSUPP, detail);
}

void CheckWholePages(const Device& device, const RegionRequest& request) {
  if (!request.whole_pages) {
    Unsupported(request, device.name() +
                             " takes every address in an ON_DEMAND page for its first: the option wholePages "
                             "says that all accesses, also of peers, will begin with a page");
  }
  for (uint8_t port = 1; port <= device.attr().phys_port_cnt; ++port) {
    if (device.QueryPort(port).active_mtu == IBV_MTU_4096) continue;
    Unsupported(request, device.name() + " port " + std::to_string(port) +
                             " has an MTU below 4096, so that packets begin inside of ON_DEMAND pages, whose "
                             "first byte the device would take instead");
  }
}

}  // namespace

void MrDeleter::operator()(ibv_mr* mr) const { ReportDestroy(ibv_dereg_mr(mr), "ibv_dereg_mr"); }

void CheckRegistration(const Device& device, const RegionRequest& request) {
  const ProviderRules& rules = device.rules();
  const std::string name = device.name();
  if (rules.Has(Rule::kIovaIgnored) && request.iova != request.addr) {
    Unsupported(request, name + " ignores iova " + Hex(request.iova) +
                             ": its regions have the addresses of " + "the memory (ZERO_BASED is iova 0)");
  }
  if (rules.Has(Rule::kAccessDropped)) {
    const int dropped = request.access & (IBV_ACCESS_REMOTE_ATOMIC | IBV_ACCESS_MW_BIND);
    if (dropped != 0) {
      Unsupported(request, name + " has no atomic operations and no memory windows, and would drop access " +
                               Hex(static_cast<unsigned>(dropped)) + " without a word");
    }
  }
  if (!OnDemand(request)) return;
  const uint64_t general = device.attr_ex().odp_caps.general_caps;
  if ((general & IBV_ODP_SUPPORT) == 0) Unsupported(request, name + " has no on-demand paging");
  if (request.source == RegionRequest::Source::kImplicitOdp && (general & IBV_ODP_SUPPORT_IMPLICIT) == 0) {
    Unsupported(request, name + " has on-demand paging of explicit regions only");
  }
  if (rules.Has(Rule::kOnDemandOffset)) CheckWholePages(device, request);
  if (rules.Has(Rule::kOnDemandIova) && request.iova != request.addr) {
    Unsupported(request, name + " reads the wrong pages of an ON_DEMAND region with an iova of its own");
  }
}

MrPtr Register(const PdPtr& pd, const RegionRequest& request, std::shared_ptr<void> memory) {
  errno = 0;
  // ibv_reg_mr_iova2(3) is the call behind ibv_reg_mr and ibv_reg_mr_iova that takes optional access flags.
  ibv_mr* mr = request.source == RegionRequest::Source::kDmaBuf
                   ? ibv_reg_dmabuf_mr(pd.get(), request.addr, request.length, request.iova, request.fd,
                                       request.access)
                   : ibv_reg_mr_iova2(pd.get(), reinterpret_cast<void*>(request.addr), request.length,
                                      request.iova, static_cast<unsigned>(request.access));
  if (mr == nullptr) {
    const int err = errno != 0 ? errno : EIO;
    throw Error(CallOf(request), err, Describe(request) + Explain(err, request, pd->context));
  }
  return {mr, MrDeleter{pd, std::move(memory)}};
}

MrPtr RegMr(const PdPtr& pd, void* addr, size_t length, int access, std::shared_ptr<void> memory) {
  RegionRequest request;
  request.addr = request.iova = reinterpret_cast<uintptr_t>(addr);
  request.length = length;
  request.access = access;
  return Register(pd, request, std::move(memory));
}

MrPtr AllocNullMr(const PdPtr& pd) {
  errno = 0;
  ibv_mr* mr = CheckPointer(ibv_alloc_null_mr(pd.get()), "ibv_alloc_null_mr",
                            std::string(ibv_get_device_name(pd->context->device)) + " has no null regions");
  return {mr, MrDeleter{pd, nullptr}};
}

MrPtr RegDmMr(const PdPtr& pd, const DmPtr& dm, uint64_t offset, uint64_t length, int access) {
  errno = 0;
  ibv_mr* mr = CheckPointer(ibv_reg_dm_mr(pd.get(), dm.get(), offset, length,
                                          static_cast<unsigned>(access) | IBV_ACCESS_ZERO_BASED),
                            "ibv_reg_dm_mr",
                            std::to_string(length) + " bytes at offset " + std::to_string(offset) +
                                ", access " + Hex(static_cast<unsigned>(access)));
  return {mr, MrDeleter{pd, dm}};
}

ReregResult Rereg(ibv_mr* mr, int flags, ibv_pd* pd, void* addr, size_t length, int access) noexcept {
  errno = 0;
  const int rc = ibv_rereg_mr(mr, flags, pd, addr, length, access);
  const int err = errno != 0 ? errno : EIO;
  switch (rc) {
    case 0:
      return {ReregOutcome::kChanged, 0};
    case IBV_REREG_MR_ERR_DO_FORK_OLD:
      return {ReregOutcome::kChangedNotForkSafe, err};
    case IBV_REREG_MR_ERR_INPUT:
    case IBV_REREG_MR_ERR_DONT_FORK_NEW:
      return {ReregOutcome::kUnchanged, err};
    default:
      // A provider without the verb answers so as well; it has touched nothing.
      return {err == EOPNOTSUPP ? ReregOutcome::kUnchanged : ReregOutcome::kInvalid, err};
  }
}

std::string LockedMemoryHint() {
  rlimit limit = {};
  getrlimit(RLIMIT_MEMLOCK, &limit);
  std::string pinned;
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmPin:")) pinned = line.substr(line.find_first_of("0123456789"));
  }
  return "the limit of locked memory (RLIMIT_MEMLOCK) is " +
         (limit.rlim_cur == RLIM_INFINITY ? "none" : std::to_string(limit.rlim_cur) + " bytes") +
         (pinned.empty() ? "" : ", pinned are " + pinned) +
         ": raise it by ulimit -l, LimitMEMLOCK= of a systemd unit or --ulimit memlock= of a container";
}

}  // namespace rdma
