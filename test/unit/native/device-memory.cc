// Device memory, thread domains and parent domains of a provider that is a fake: no soft device has them. Prints
// what the provider was asked; device-memory.test.ts compares.

#include "../../../native/core/device_memory.h"

#include <cstdio>
#include <cstring>

#include "../../../native/core/error.h"
#include "../../../native/core/thread_domain.h"

namespace {

struct FakeDm {
  ibv_dm dm;
  unsigned char bytes[64];
};

verbs_context provider = {};
ibv_context& context = provider.context;
ibv_device device = {};

ibv_dm* AllocDm(ibv_context* of, ibv_alloc_dm_attr* attr) {
  std::printf("alloc_dm %zu align %u\n", attr->length, attr->log_align_req);
  if (attr->length > sizeof FakeDm::bytes) {
    errno = ENOMEM;
    return nullptr;
  }
  auto* fake = new FakeDm{};
  fake->dm.context = of;
  fake->dm.memcpy_to_dm = [](ibv_dm* dm, uint64_t offset, const void* from, size_t length) {
    if (offset % 4 != 0) return EINVAL;
    std::memcpy(reinterpret_cast<FakeDm*>(dm)->bytes + offset, from, length);
    return 0;
  };
  fake->dm.memcpy_from_dm = [](void* to, ibv_dm* dm, uint64_t offset, size_t length) {
    std::memcpy(to, reinterpret_cast<FakeDm*>(dm)->bytes + offset, length);
    return 0;
  };
  return &fake->dm;
}

ibv_mr* RegDmMr(ibv_pd* pd, ibv_dm*, uint64_t offset, size_t length, unsigned int access) {
  std::printf("reg_dm_mr %zu at %llu access 0x%x\n", length, static_cast<unsigned long long>(offset), access);
  auto* mr = new ibv_mr{};
  mr->context = pd->context;
  mr->lkey = mr->rkey = 7;
  return mr;
}

void Prepare() {
  context.device = &device;
  context.abi_compat = __VERBS_ABI_IS_EXTENDED;
  provider.sz = sizeof provider;
  std::strcpy(device.name, "fake0");
  provider.alloc_dm = AllocDm;
  provider.reg_dm_mr = RegDmMr;
  provider.free_dm = [](ibv_dm* dm) {
    std::printf("free_dm\n");
    delete reinterpret_cast<FakeDm*>(dm);
    return 0;
  };
  provider.alloc_td = [](ibv_context* of, ibv_td_init_attr*) { return new ibv_td{of}; };
  provider.dealloc_td = [](ibv_td* td) {
    std::printf("dealloc_td\n");
    delete td;
    return 0;
  };
  provider.alloc_parent_domain = [](ibv_context* of, ibv_parent_domain_init_attr* attr) {
    std::printf("alloc_parent_domain of %u td %d mask %u\n", attr->pd->handle, attr->td != nullptr,
                attr->comp_mask);
    return new ibv_pd{of, attr->pd->handle + 1};
  };
}

template <typename Action>
void Try(const char* what, Action action) {
  try {
    action();
    std::printf("%s: done\n", what);
  } catch (const rdma::Error& error) {
    std::printf("%s: %s %s %s\n", what, error.syscall(), std::strerror(error.err()), error.detail().c_str());
  }
}

std::shared_ptr<rdma::ProtectionDomain> MakePd(const rdma::ContextPtr& open, uint32_t number) {
  const rdma::PdPtr pd(new ibv_pd{open.get(), number}, [open](ibv_pd* p) { ibv_dealloc_pd(p); });
  return std::make_shared<rdma::ProtectionDomain>(nullptr, pd);
}

void Memory(const rdma::ContextPtr& open, const std::shared_ptr<rdma::ProtectionDomain>& pd) {
  Try("too much", [&] { rdma::AllocDm(open, 65, 0); });
  auto dm = std::make_shared<rdma::DeviceMemory>(rdma::AllocDm(open, 64, 6), 64);
  char text[8] = "nothing";
  Try("to", [&] { dm->CopyTo(56, "written", 8); });
  Try("from", [&] { dm->CopyFrom(text, 56, 8); });
  std::printf("read %s\n", text);
  Try("odd", [&] { dm->CopyTo(1, text, 8); });
  Try("to beyond", [&] { dm->CopyTo(57, text, 8); });
  Try("from beyond", [&] { dm->CopyFrom(text, ~uint64_t{0}, 8); });
  Try("register beyond", [&] { dm->Register(pd, 32, 33, 1); });

  rdma::RegionRequest request;
  request.addr = 16;
  request.length = 48;
  request.access = 1;
  const auto region = rdma::MemoryRegion::Adopt(pd, dm->Register(pd, 16, 48, 1), request);
  dm->Adopt(region);
  std::printf("addresses from %d: %d %d\n", static_cast<int>(region->addr()), region->Contains(0, 48),
              region->Contains(1, 48));
  region->Pin();
  std::printf("closing in use\n");
  dm->Close();
  std::printf("region closed %d, found %d\n", region->closed(), pd->keys()->Find(7) != nullptr);
  region->Unpin();
}

void Domains(const rdma::ContextPtr& open, const std::shared_ptr<rdma::ProtectionDomain>& pd) {
  const auto td = std::make_shared<rdma::ThreadDomain>(rdma::AllocTd(open));
  const auto plain = rdma::ProtectionDomain::AllocParent(pd, nullptr);
  const auto parent = rdma::ProtectionDomain::AllocParent(pd, td);
  std::printf("same keys %d\n", parent->keys() == pd->keys());
  const rdma::PdPtr held = parent->pd();  // as a queue pair holds it
  std::printf("closing thread domain\n");
  td->Close();
  std::printf("parent closed %d %d\n", parent->closed(), plain->closed());
  std::printf("closing domain\n");
  pd->Close();
  std::printf("parent closed %d\n", plain->closed());
}

}  // namespace

extern "C" {
int ibv_dealloc_pd(ibv_pd* pd) {
  std::printf("dealloc_pd %u\n", pd->handle);
  delete pd;
  return 0;
}
int ibv_dereg_mr(ibv_mr* mr) {
  std::printf("dereg_mr\n");
  delete mr;
  return 0;
}
}

int main() {
  std::setvbuf(stdout, nullptr, _IONBF, 0);
  Prepare();
  const rdma::ContextPtr open(&context, [](ibv_context*) { std::printf("close_device\n"); });
  {
    const auto pd = MakePd(open, 1);
    Memory(open, pd);
    Domains(open, pd);
  }
  provider.alloc_dm = nullptr;
  provider.alloc_td = nullptr;
  provider.alloc_parent_domain = nullptr;
  Try("no memory", [&] { rdma::AllocDm(open, 1, 0); });
  Try("no thread domains", [&] { rdma::AllocTd(open); });
  const auto pd = MakePd(open, 5);
  Try("no parent domains", [&] { rdma::ProtectionDomain::AllocParent(pd, nullptr); });
}
