#pragma once

#include <memory>

#include "object.h"

namespace rdma {

/// What a work request can name: a region, a window, an address handle. Work requests pin it: closed, it
/// loses its name at once, and its kernel object when the last pin has gone.
class Pinnable : public Object {
 public:
  void Pin() noexcept { ++pins_; }
  void Unpin() {
    if (--pins_ == 0 && closed()) ReleaseLast();
  }
  uint32_t pins() const noexcept { return pins_; }

 protected:
  using Object::Object;

  /// Takes the name away, so that no further work request can use it.
  virtual void Unlist() = 0;
  /// Lets go of the kernel's object. Called once, after Unlist, when no work request holds it.
  virtual void Release() = 0;

  void OnClose() final;

 private:
  void ReleaseLast();

  uint32_t pins_ = 0;
  std::shared_ptr<Object> self_;  // held from a close until the last pin has gone
};

}  // namespace rdma
