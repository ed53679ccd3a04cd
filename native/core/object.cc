#include "object.h"

#include <algorithm>
#include <utility>

namespace rdma {

void Object::Close() {
  if (closed_) return;
  closed_ = true;
  const auto self = shared_from_this();
  std::vector<std::shared_ptr<Object>> live;
  for (const auto& weak : children_) {
    if (auto child = weak.lock()) live.push_back(std::move(child));
  }
  std::stable_sort(live.begin(), live.end(),
                   [](const auto& a, const auto& b) { return a->kind() < b->kind(); });
  for (const auto& child : live) child->Close();
  children_.clear();
  if (on_closing) std::exchange(on_closing, nullptr)();
  OnClose();
  if (on_closed) std::exchange(on_closed, nullptr)();
}

void Object::AddChild(const std::shared_ptr<Object>& child) {
  if (children_.size() >= prune_at_) {
    std::erase_if(children_, [](const auto& weak) {
      const auto object = weak.lock();
      return !object || object->closed();
    });
    prune_at_ = std::max<size_t>(16, children_.size() * 2);
  }
  children_.push_back(child);
}

void Object::RemoveChild(const Object* child) {
  std::erase_if(children_, [child](const auto& weak) { return weak.lock().get() == child; });
}

}  // namespace rdma
