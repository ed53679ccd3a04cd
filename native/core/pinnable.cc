#include "pinnable.h"

#include <utility>

namespace rdma {

void Pinnable::Unpin() {
  if (--pins_ != 0 || !closed()) return;
  const auto self = std::move(self_);
  Release();
}

void Pinnable::OnClose() {
  Unlist();
  if (pins_ == 0) {
    Release();
  } else {
    self_ = shared_from_this();
  }
}

}  // namespace rdma
