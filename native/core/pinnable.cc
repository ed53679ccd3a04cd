#include "pinnable.h"

#include <utility>

namespace rdma {

void Pinnable::ReleaseLast() {
  const auto self = std::move(self_);
  Release();
}

void Pinnable::OnClose() {
  self_ = shared_from_this();
  // Held meanwhile: what Unlist lets go of may hold the last pin.
  Pin();
  Unlist();
  Unpin();
}

}  // namespace rdma
