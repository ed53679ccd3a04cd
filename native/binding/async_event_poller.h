#pragma once

#include "../core/device.h"
#include "env.h"
#include "uv_handle.h"

namespace binding {

/// Brings the asynchronous events of a device to JavaScript. Never keeps the process alive.
class AsyncEventPoller {
 public:
  /// [callback] is called with (type, port, handle of the object or 0) for each event.
  AsyncEventPoller(EnvState* state, std::shared_ptr<rdma::Device> device, std::unique_ptr<ValueRef> callback);

  void Stop() { poll_.Close(); }

 private:
  void Run();

  EnvState* state_;
  std::shared_ptr<rdma::Device> device_;
  std::unique_ptr<ValueRef> callback_;
  UvHandle<uv_poll_t> poll_;
};

}  // namespace binding
