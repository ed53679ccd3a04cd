#include "memory_window.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "error.h"

namespace rdma {

std::shared_ptr<MemoryWindow> MemoryWindow::Alloc(const std::shared_ptr<ProtectionDomain>& pd,
                                                  ibv_mw_type type) {
  const Device& device = *pd->device();
  if (device.attr().max_mw == 0) {
    throw Error("ibv_alloc_mw", EOPNOTSUPP, device.name() + " has no memory windows (max_mw 0)");
  }
  auto window = std::make_shared<MemoryWindow>(pd->keys(), AllocMw(pd->pd(), type));
  pd->Adopt(window);
  return window;
}

MemoryWindow::MemoryWindow(std::shared_ptr<KeyTable> keys, MwPtr mw)
    : Pinnable(Kind::kMemoryWindow),
      keys_(std::move(keys)),
      mw_(std::move(mw)),
      type_(mw_->type),
      rkey_(mw_->rkey) {
  keys_->windows().Insert(this);
}

MemoryWindow::~MemoryWindow() { Release(); }

void MemoryWindow::PostedBind(const void* queue, uint32_t seq, MemoryRegion* region,
                              const WindowRange& range) {
  if (region != nullptr) region->Pin();
  operations_.push_back({queue, seq, region, range, rkey_, State::kPosted});
  SetRkey(range.rkey);
}

void MemoryWindow::PostedInvalidate(const void* queue, uint32_t seq) {
  operations_.push_back({queue, seq, nullptr, {}, rkey_, State::kPosted});
}

void MemoryWindow::Completed(const void* queue, uint32_t seq, bool success) {
  for (size_t i = 0; i < operations_.size(); ++i) {
    Operation& operation = operations_[i];
    if (operation.state != State::kPosted || operation.queue != queue || operation.seq != seq) continue;
    if (success) {
      operation.state = State::kDone;
      Forget(operation.region == nullptr ? i + 1 : i);
      return;
    }
    operation.state = State::kFailed;
    if (i + 1 == operations_.size()) SetRkey(operation.old_rkey);
    return;
  }
}

void MemoryWindow::Invalidated(uint32_t rkey) {
  for (size_t i = operations_.size(); i-- > 0;) {
    if (operations_[i].region == nullptr || operations_[i].range.rkey != rkey) continue;
    Forget(i + 1);
    return;
  }
}

bool MemoryWindow::MayBeBoundTo(const MemoryRegion* region) const noexcept {
  return std::any_of(operations_.begin(), operations_.end(),
                     [region](const auto& operation) { return operation.region == region; });
}

bool MemoryWindow::MayBeBoundBy(const void* queue) const noexcept {
  return std::any_of(operations_.begin(), operations_.end(), [queue](const auto& operation) {
    return operation.region != nullptr && operation.queue == queue;
  });
}

void MemoryWindow::Abandon() {
  const auto self = shared_from_this();
  Close();
  Release();
}

void MemoryWindow::Release() {
  mw_.reset();
  keys_->windows().Remove(this);
  Forget(operations_.size());
}

void MemoryWindow::Forget(size_t count) {
  // A copy: the last pin of a closed region takes the region along, which may look at this window.
  const std::vector<Operation> forgotten(operations_.begin(),
                                         operations_.begin() + static_cast<ptrdiff_t>(count));
  operations_.erase(operations_.begin(), operations_.begin() + static_cast<ptrdiff_t>(count));
  for (const Operation& operation : forgotten) {
    if (operation.region != nullptr) operation.region->Unpin();
  }
}

void MemoryWindow::SetRkey(uint32_t rkey) noexcept {
  rkey_ = rkey;
  if (mw_ != nullptr) mw_->rkey = rkey;
}

}  // namespace rdma
