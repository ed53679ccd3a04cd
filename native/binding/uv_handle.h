#pragma once

#include <uv.h>

#include <functional>
#include <utility>

namespace binding {

/// Owns a libuv handle. A libuv handle may be freed only by its close callback, so this detaches it and lets
/// it finish.
template <typename Handle>
class UvHandle {
 public:
  /// [closed] runs when libuv has let go of the handle.
  explicit UvHandle(std::function<void()> closed) : box_(new Box{{}, std::move(closed)}) {
    box_->handle.data = nullptr;
  }
  ~UvHandle() { Close(); }
  UvHandle(const UvHandle&) = delete;
  UvHandle& operator=(const UvHandle&) = delete;

  Handle* get() { return &box_->handle; }

  /// Once the handle has been initialised it must be closed by libuv; before that it can just be freed.
  void MarkInitialised() { initialised_ = true; }

  void Close() {
    if (box_ == nullptr) return;
    Box* box = std::exchange(box_, nullptr);
    if (!initialised_) {
      if (box->closed) box->closed();
      delete box;
      return;
    }
    box->handle.data = box;
    uv_close(reinterpret_cast<uv_handle_t*>(&box->handle), [](uv_handle_t* handle) {
      auto* self = static_cast<Box*>(handle->data);
      if (self->closed) self->closed();
      delete self;
    });
  }

 private:
  struct Box {
    Handle handle;
    std::function<void()> closed;
  };
  Box* box_;
  bool initialised_ = false;
};

}  // namespace binding
