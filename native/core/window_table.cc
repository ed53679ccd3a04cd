#include "window_table.h"

#include "memory_window.h"

namespace rdma {

namespace {

constexpr uint32_t kIndexMask = 0xffffff00;

}  // namespace

MemoryWindow* WindowTable::Find(uint32_t rkey) const noexcept {
  const auto it = windows_.find(rkey & kIndexMask);
  return it == windows_.end() || it->second->closed() ? nullptr : it->second;
}

void WindowTable::Insert(MemoryWindow* window) { windows_[window->rkey() & kIndexMask] = window; }

void WindowTable::Remove(const MemoryWindow* window) {
  const auto it = windows_.find(window->rkey() & kIndexMask);
  // Another window has the number when the kernel has given it again.
  if (it != windows_.end() && it->second == window) windows_.erase(it);
}

template <typename Predicate>
std::vector<std::shared_ptr<MemoryWindow>> WindowTable::Select(Predicate predicate) const {
  std::vector<std::shared_ptr<MemoryWindow>> selected;
  for (const auto& [index, window] : windows_) {
    if (predicate(*window))
      selected.push_back(std::static_pointer_cast<MemoryWindow>(window->shared_from_this()));
  }
  return selected;
}

void WindowTable::Received(const ibv_wc& wc) {
  if (wc.status != IBV_WC_SUCCESS || (wc.wc_flags & IBV_WC_WITH_INV) == 0) return;
  MemoryWindow* window = Find(wc.invalidated_rkey);
  if (window != nullptr) window->Invalidated(wc.invalidated_rkey);
}

void WindowTable::CloseBoundTo(const MemoryRegion* region) {
  for (const auto& window : Select([region](const auto& w) { return w.MayBeBoundTo(region); }))
    window->Close();
}

void WindowTable::AbandonBoundBy(const void* queue) {
  const auto bound = [queue](const auto& w) { return w.type() == IBV_MW_TYPE_2 && w.MayBeBoundBy(queue); };
  for (const auto& window : Select(bound)) window->Abandon();
}

}  // namespace rdma
