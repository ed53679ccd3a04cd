#include "env.h"

#include <utility>

namespace binding {

EnvState* EnvState::Create(Napi::Env env) {
  auto* state = new EnvState(env);
  napi_set_instance_data(
      env, state, [](napi_env, void* data, void*) { delete static_cast<EnvState*>(data); }, nullptr);
  // Asynchronous, because uv_close() needs the loop to turn: with a synchronous hook a worker's addon is
  // unloaded before the close callbacks have run.
  napi_add_async_cleanup_hook(
      env,
      [](napi_async_cleanup_hook_handle hook, void* data) { static_cast<EnvState*>(data)->Shutdown(hook); },
      state, nullptr);
  return state;
}

EnvState* EnvState::From(napi_env env) {
  void* data = nullptr;
  napi_get_instance_data(env, &data);
  return static_cast<EnvState*>(data);
}

EnvState::EnvState(Napi::Env env) : env_(env), entries_(1) { napi_get_uv_event_loop(env, &loop_); }

uint32_t EnvState::Register(const std::shared_ptr<rdma::Object>& object, std::shared_ptr<void> keep) {
  uint32_t index;
  if (free_.empty()) {
    index = static_cast<uint32_t>(entries_.size());
    if (index > kIndexMask) throw Napi::RangeError::New(env_, "too many RDMA objects are open: close some");
    entries_.emplace_back();
  } else {
    index = free_.back();
    free_.pop_back();
  }
  Entry& entry = entries_[index];
  entry.object = object;
  entry.keep = std::move(keep);
  object->handle = entry.generation << kIndexBits | index;
  object->on_closed = [this, handle = object->handle] { Forget(handle); };
  return object->handle;
}

rdma::Object* EnvState::Find(uint32_t handle, rdma::Kind kind) const noexcept {
  const uint32_t index = handle & kIndexMask;
  if (index >= entries_.size()) return nullptr;
  const Entry& entry = entries_[index];
  if (entry.generation != handle >> kIndexBits || !entry.object || entry.object->kind() != kind)
    return nullptr;
  return entry.object.get();
}

void EnvState::Forget(uint32_t handle) {
  Entry& entry = entries_[handle & kIndexMask];
  entry.object.reset();
  entry.keep.reset();
  entry.generation = entry.generation % kGenerationMask + 1;
  free_.push_back(handle & kIndexMask);
  closed_.push_back(handle);
}

std::vector<uint32_t> EnvState::Close(uint32_t handle) {
  const uint32_t index = handle & kIndexMask;
  if (index < entries_.size() && entries_[index].generation == handle >> kIndexBits &&
      entries_[index].object) {
    const std::shared_ptr<rdma::Object> object = entries_[index].object;
    object->Close();
  }
  return std::exchange(closed_, {});
}

Napi::Value EnvState::MakeError(const char* syscall, int err, const std::string& detail) {
  return make_error_.Call(
      {Napi::String::New(env_, syscall), Napi::Number::New(env_, -err), Napi::String::New(env_, detail)});
}

void EnvState::SetPostStatus(napi_value array, rdma::PostStatus* memory) {
  post_status_ref_ = std::make_unique<ValueRef>(env_, array);
  post_status_ = memory;
}

std::function<void()> EnvState::HoldForClose() {
  ++closing_handles_;
  return [this] {
    --closing_handles_;
    FinishShutdown();
  };
}

void EnvState::Shutdown(napi_async_cleanup_hook_handle hook) {
  hook_ = hook;
  closing_ = true;
  for (size_t i = 1; i < entries_.size(); ++i) {
    // A copy: closing one object may close others and so change the table.
    const std::shared_ptr<rdma::Object> object = entries_[i].object;
    const bool root =
        object && (object->kind() == rdma::Kind::kDevice || object->kind() == rdma::Kind::kEventChannel);
    if (root) object->Close();
  }
  make_error_.Reset();
  post_status_ref_.reset();
  FinishShutdown();
}

void EnvState::FinishShutdown() {
  if (hook_ == nullptr || closing_handles_ != 0) return;
  napi_remove_async_cleanup_hook(std::exchange(hook_, nullptr));
}

void CallFromLoop(EnvState* state, const ValueRef& callback, std::initializer_list<napi_value> args) {
  if (state->closing()) return;
  const napi_env env = state->env();
  napi_value receiver = nullptr;
  napi_get_global(env, &receiver);
  napi_value result = nullptr;
  const napi_status status = napi_make_callback(env, nullptr, receiver, callback.Get(), args.size(),
                                                args.size() == 0 ? nullptr : args.begin(), &result);
  if (status != napi_pending_exception) return;
  napi_value error = nullptr;
  if (napi_get_and_clear_last_exception(env, &error) == napi_ok) napi_fatal_exception(env, error);
}

}  // namespace binding
