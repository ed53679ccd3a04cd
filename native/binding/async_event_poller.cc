#include "async_event_poller.h"

#include <utility>

#include "../core/error.h"

namespace binding {

AsyncEventPoller::AsyncEventPoller(EnvState* state, std::shared_ptr<rdma::Device> device,
                                   std::unique_ptr<ValueRef> callback)
    : state_(state),
      device_(std::move(device)),
      callback_(std::move(callback)),
      poll_(state->HoldForClose()) {
  rdma::Check(uv_poll_init(state->loop(), poll_.get(), device_->events().fd()), "uv_poll_init");
  poll_.MarkInitialised();
  poll_.get()->data = this;
  uv_unref(reinterpret_cast<uv_handle_t*>(poll_.get()));
  rdma::Check(
      uv_poll_start(poll_.get(), UV_READABLE,
                    [](uv_poll_t* handle, int, int) { static_cast<AsyncEventPoller*>(handle->data)->Run(); }),
      "uv_poll_start");
}

void AsyncEventPoller::Run() {
  // JavaScript may close the device during a call, and with it this object.
  const auto device = device_;
  EnvState* state = state_;
  const napi_env env = state->env();
  for (const rdma::AsyncEvent& event : device->events().Take()) {
    const auto object = event.object.lock();
    const auto subject = rdma::SubjectOf(event.type);
    const bool about_object = subject != rdma::AsyncSubject::kDevice && subject != rdma::AsyncSubject::kPort;
    if (about_object && (!object || object->closed())) continue;
    Napi::HandleScope scope(env);
    CallFromLoop(state, *callback_,
                 {Napi::Number::New(env, event.type), Napi::Number::New(env, event.port),
                  Napi::Number::New(env, object ? object->handle : 0)});
    if (device->closed() || state->closing()) return;
  }
}

}  // namespace binding
