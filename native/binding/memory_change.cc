#include <cerrno>
#include <utility>

#include "kept_memory.h"
#include "region.h"
#include "work.h"

namespace binding {

namespace {

using rdma::Kind;
using rdma::MemoryRegion;
using rdma::PdPtr;
using rdma::ProtectionDomain;
using rdma::RegionRequest;
using rdma::ReregOutcome;
using rdma::ReregResult;

/// One call of ibv_rereg_mr(3). It ends in the destructor at the latest: also when the environment ends
/// first.
class ReregJob {
 public:
  ReregJob(std::shared_ptr<MemoryRegion> region, int flags, const RegionRequest& request,
           std::shared_ptr<ProtectionDomain> pd)
      : region_(std::move(region)), flags_(flags), request_(request), pd_(std::move(pd)) {
    if (pd_ != nullptr) kernel_pd_ = pd_->pd();
    region_->BeginRereg();
  }
  ReregJob(const ReregJob&) = delete;
  ReregJob& operator=(const ReregJob&) = delete;
  ~ReregJob() { End(); }

  /// On the pool.
  void Run() noexcept {
    const bool moves = (flags_ & IBV_REREG_MR_CHANGE_TRANSLATION) != 0;
    const bool grants = (flags_ & IBV_REREG_MR_CHANGE_ACCESS) != 0;
    result_ = rdma::Rereg(region_->mr(), flags_, kernel_pd_.get(),
                          moves ? reinterpret_cast<void*>(request_.addr) : nullptr,
                          moves ? request_.length : 0, grants ? request_.access : 0);
  }

  /// On the JavaScript thread.
  const ReregResult& End() {
    if (!std::exchange(ended_, true)) region_->EndRereg(result_.outcome, request_, pd_, kernel_pd_);
    return result_;
  }

  const MemoryRegion& region() const { return *region_; }

 private:
  const std::shared_ptr<MemoryRegion> region_;
  const int flags_;
  const RegionRequest request_;
  const std::shared_ptr<ProtectionDomain> pd_;
  PdPtr kernel_pd_;
  ReregResult result_ = {ReregOutcome::kUnchanged, 0};
  bool ended_ = false;
};

const char* Consequence(ReregOutcome outcome) {
  switch (outcome) {
    case ReregOutcome::kChanged:
      return "";
    case ReregOutcome::kChangedNotForkSafe:
      return "the region has been changed all the same; pages of its old memory stay out of forked children";
    case ReregOutcome::kUnchanged:
      return "the region is as it was";
    case ReregOutcome::kInvalid:
      return "the region can not be used any more: close it";
  }
  return "";
}

/// reregMr(mr, pd or 0, view or undefined, access or undefined): Promise of {outcome, err, detail, region}
Napi::Value ReregMr(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto region = Object<MemoryRegion>(info, 0, Kind::kMemoryRegion);
  RegionRequest request = region->request();
  int flags = 0;
  std::shared_ptr<ProtectionDomain> pd;
  if (U32(info, 1) != 0) {
    pd = Object<ProtectionDomain>(info, 1, Kind::kProtectionDomain);
    if (pd->device()->context().get() != region->mr()->context) {
      throw rdma::Error("ibv_rereg_mr", EINVAL, "the protection domain is of another device");
    }
    flags |= IBV_REREG_MR_CHANGE_PD;
  }
  if (request.source == RegionRequest::Source::kDeviceMemory) {
    throw rdma::Error("ibv_rereg_mr", EOPNOTSUPP, "a region of device memory can not be changed");
  }
  std::shared_ptr<ValueRef> memory;
  if (!info[2].IsUndefined()) {
    const Bytes bytes = View(info, 2);
    request.addr = request.iova = reinterpret_cast<uintptr_t>(bytes.data);
    request.length = bytes.length;
    memory = KeepMemory(env, info[2]);
    flags |= IBV_REREG_MR_CHANGE_TRANSLATION;
  }
  if (!info[3].IsUndefined()) {
    request.access = static_cast<int>(U32(info, 3));
    flags |= IBV_REREG_MR_CHANGE_ACCESS;
  }
  if (region->pins() != 0) {
    throw rdma::Error(
        "ibv_rereg_mr", EBUSY,
        "work requests in flight, memory windows or another change hold the region: wait for them");
  }
  rdma::CheckRegistration(*(pd != nullptr ? pd : region->pd())->device(), request);
  const auto job = std::make_shared<ReregJob>(region, flags, request, pd);
  const auto deferred = Napi::Promise::Deferred::New(env);
  const auto state = StateOf(env, region->handle);
  Work::Queue(
      env, [job] { job->Run(); },
      [env, job, memory, state, deferred](const std::optional<rdma::Error>& error) {
        Settle(EnvState::From(env), deferred, error, [&] {
          const ReregResult result = job->End();
          const bool changed =
              result.outcome == ReregOutcome::kChanged || result.outcome == ReregOutcome::kChangedNotForkSafe;
          if (memory != nullptr && changed) state->memory = {memory};
          // The device may use either memory of a region that is in no known state.
          if (memory != nullptr && result.outcome == ReregOutcome::kInvalid) state->memory.push_back(memory);
          Napi::Object answer = Napi::Object::New(env);
          answer.Set("errno", Napi::Number::New(env, -result.err));
          answer.Set("detail", Napi::String::New(env, Consequence(result.outcome)));
          answer.Set("valid", Napi::Boolean::New(env, result.outcome != ReregOutcome::kInvalid));
          answer.Set("region", changed ? DescribeRegion(env, job->region()) : env.Undefined());
          return answer;
        });
      });
  return deferred.Promise();
}

/// The ranges that an advice is for, and the regions that must stay meanwhile.
class AdviseJob {
 public:
  AdviseJob(std::shared_ptr<ProtectionDomain> pd, ibv_advise_mr_advice advice)
      : pd_(std::move(pd)), kernel_pd_(pd_->pd()), advice_(advice) {}
  AdviseJob(const AdviseJob&) = delete;
  AdviseJob& operator=(const AdviseJob&) = delete;
  ~AdviseJob() {
    for (MemoryRegion* region : regions_) region->Unpin();
  }

  void Add(uint32_t lkey, uint64_t addr, uint32_t length) {
    MemoryRegion* region = pd_->keys()->Find(lkey);
    const std::string which = "range " + std::to_string(sges_.size());
    if (region == nullptr) Refuse(which + ": no open memory region of the protection domain has its lkey");
    if (!region->Contains(addr, length)) Refuse(which + " is not in its memory region");
    if ((region->access() & IBV_ACCESS_ON_DEMAND) == 0)
      Refuse(which + ": its memory region is not ON_DEMAND");
    if (advice_ == IBV_ADVISE_MR_ADVICE_PREFETCH_WRITE && (region->access() & IBV_ACCESS_LOCAL_WRITE) == 0) {
      Refuse(which + ": PREFETCH_WRITE needs LOCAL_WRITE access to its memory region");
    }
    region->Pin();
    regions_.push_back(region);
    sges_.push_back({addr, length, lkey});
  }

  /// On the pool.
  void Run(uint32_t flags) {
    rdma::Check(
        ibv_advise_mr(kernel_pd_.get(), advice_, flags, sges_.data(), static_cast<uint32_t>(sges_.size())),
        "ibv_advise_mr", ibv_get_device_name(kernel_pd_->context->device));
  }

 private:
  [[noreturn]] static void Refuse(const std::string& detail) {
    throw rdma::Error("ibv_advise_mr", EINVAL, detail);
  }

  const std::shared_ptr<ProtectionDomain> pd_;
  const PdPtr kernel_pd_;
  const ibv_advise_mr_advice advice_;
  std::vector<ibv_sge> sges_;
  std::vector<MemoryRegion*> regions_;
};

/// adviseMr(pd, advice, flags, [lkey, addr, length, …]): Promise
Napi::Value AdviseMr(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto pd = Object<ProtectionDomain>(info, 0, Kind::kProtectionDomain);
  const uint32_t flags = U32(info, 2);
  const auto job = std::make_shared<AdviseJob>(pd, static_cast<ibv_advise_mr_advice>(U32(info, 1)));
  const auto numbers = info[3].As<Napi::Array>();
  const auto number = [&](uint32_t i) { return numbers.Get(i).As<Napi::Number>().DoubleValue(); };
  for (uint32_t i = 0; i + 2 < numbers.Length(); i += 3) {
    job->Add(static_cast<uint32_t>(number(i)), static_cast<uint64_t>(number(i + 1)),
             static_cast<uint32_t>(number(i + 2)));
  }
  const auto deferred = Napi::Promise::Deferred::New(env);
  Work::Queue(
      env, [job, flags] { job->Run(flags); },
      [env, job, deferred](const std::optional<rdma::Error>& error) {
        Settle(EnvState::From(env), deferred, error, [env] { return env.Undefined(); });
      });
  return deferred.Promise();
}

}  // namespace

void RegisterRereg(Napi::Env env, Napi::Object exports) {
  Export<ReregMr>(env, exports, "reregMr");
  Export<AdviseMr>(env, exports, "adviseMr");
}

}  // namespace binding
