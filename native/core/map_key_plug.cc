#include "map_key_plug.h"

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

/// A member, unlike what a deleter has captured, goes with the last who holds it and not with those who know
/// it.
struct Plug {
  ContextPtr context;
  ibv_cq* cq;

  Plug(ContextPtr of, ibv_cq* made) : context(std::move(of)), cq(made) {}
  ~Plug() { ibv_destroy_cq(cq); }
  Plug(const Plug&) = delete;
  Plug& operator=(const Plug&) = delete;
};

std::mutex plugs_lock;
std::map<ibv_context*, std::weak_ptr<Plug>> plugs;

}  // namespace

std::shared_ptr<void> PlugMapKey(const ContextPtr& context) {
  const std::lock_guard guard(plugs_lock);
  std::weak_ptr<Plug>& known = plugs[context.get()];
  if (std::shared_ptr<Plug> plug = known.lock()) return plug;
  ibv_cq* below = ibv_create_cq(context.get(), kBelow, nullptr, nullptr, 0);
  ibv_cq* across = ibv_create_cq(context.get(), kAcross, nullptr, nullptr, 0);
  if (below != nullptr) ibv_destroy_cq(below);
  if (across == nullptr) return nullptr;
  auto plug = std::make_shared<Plug>(context, across);
  known = plug;
  return plug;
}

}  // namespace rdma
