#pragma once

#include "device.h"

namespace rdma {

/// What is made with it is used by one thread at a time, so that the provider can do without locks
/// (ibv_alloc_td(3)). Every object here belongs to the thread of its environment.
class ThreadDomain : public Object {
 public:
  static std::shared_ptr<ThreadDomain> Alloc(const std::shared_ptr<Device>& device);

  explicit ThreadDomain(TdPtr td) : Object(Kind::kThreadDomain), td_(std::move(td)) {}

  const TdPtr& td() const noexcept { return td_; }
  void Adopt(const std::shared_ptr<Object>& child) { AddChild(child); }

 protected:
  void OnClose() override { td_.reset(); }

 private:
  TdPtr td_;
};

}  // namespace rdma
