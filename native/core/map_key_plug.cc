#include "map_key_plug.h"

#include <cstdint>
#include <map>
#include <mutex>
#include <utility>

namespace rdma {

namespace {

// The queues of a context are mapped at offsets that the kernel gives out from 0 upwards, first fit. libsiw
// takes 0x90000 (SIW_INVAL_UOBJ_KEY, rdma/siw-abi.h) for "no offset". In a context without objects a queue of
// kBelow entries of 32 bytes ends before it, and the next one, of kAcross entries, begins before it and ends
// behind it, with pages of 4 KiB to 64 KiB.
constexpr int kBelow = 8192;
constexpr int kAcross = 16384;

struct Plug {
  ibv_cq* cq = nullptr;
  uint32_t holders = 0;
};

/// Counted under the lock, not by shared pointers: a plug that the last holder lets go of must be gone before
/// the next one is made, which would come to lie behind it.
struct Plugs {
  std::mutex mutex;
  std::map<ibv_context*, Plug> of_context;
};

/// Never destroyed: a thread may let go of a plug while the process ends.
Plugs& ThePlugs() {
  static auto* plugs = new Plugs;
  return *plugs;
}

class Holder {
 public:
  explicit Holder(ContextPtr context) : context_(std::move(context)) {}
  ~Holder() {
    Plugs& plugs = ThePlugs();
    const std::lock_guard guard(plugs.mutex);
    const auto it = plugs.of_context.find(context_.get());
    if (--it->second.holders != 0) return;
    ibv_destroy_cq(it->second.cq);
    plugs.of_context.erase(it);
  }
  Holder(const Holder&) = delete;
  Holder& operator=(const Holder&) = delete;

 private:
  const ContextPtr context_;
};

ibv_cq* MakePlug(ibv_context* context) {
  ibv_cq* below = ibv_create_cq(context, kBelow, nullptr, nullptr, 0);
  ibv_cq* across = ibv_create_cq(context, kAcross, nullptr, nullptr, 0);
  if (below != nullptr) ibv_destroy_cq(below);
  return across;
}

}  // namespace

std::shared_ptr<void> PlugMapKey(const ContextPtr& context) {
  Plugs& plugs = ThePlugs();
  const std::lock_guard guard(plugs.mutex);
  Plug& plug = plugs.of_context[context.get()];
  if (plug.cq == nullptr) plug.cq = MakePlug(context.get());
  if (plug.cq == nullptr) {
    plugs.of_context.erase(context.get());
    return nullptr;
  }
  auto holder = std::make_shared<Holder>(context);
  ++plug.holders;
  return holder;
}

}  // namespace rdma
