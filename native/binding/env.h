#pragma once

#include <napi.h>
#include <uv.h>

#include <memory>
#include <vector>

#include "../core/chunk_pool.h"
#include "../core/layout.h"
#include "../core/object.h"

namespace binding {

/// A strong reference to a JavaScript value; made and dropped on the JavaScript thread.
class ValueRef {
 public:
  ValueRef(napi_env env, napi_value value) : env_(env) { napi_create_reference(env, value, 1, &ref_); }
  ~ValueRef() { napi_delete_reference(env_, ref_); }
  ValueRef(const ValueRef&) = delete;
  ValueRef& operator=(const ValueRef&) = delete;

  napi_value Get() const {
    napi_value value = nullptr;
    napi_get_reference_value(env_, ref_, &value);
    return value;
  }

 private:
  napi_env env_;
  napi_ref ref_ = nullptr;
};

/// Everything that one environment (the main thread or a worker) owns.
///
/// JavaScript names native objects by 31-bit handles: 20 bits of index, 11 bits of generation. Looking one up
/// costs less than unwrapping a JavaScript object, and a stale handle is noticed.
class EnvState {
 public:
  static EnvState* Create(Napi::Env env);
  static EnvState* From(napi_env env);

  Napi::Env env() const { return env_; }
  uv_loop_t* loop() const { return loop_; }
  bool closing() const { return closing_; }

  /// Names [object] until it is closed. [keep] lives as long as the name.
  uint32_t Register(const std::shared_ptr<rdma::Object>& object, std::shared_ptr<void> keep = nullptr);

  /// Null when the handle is stale or of another kind.
  rdma::Object* Find(uint32_t handle, rdma::Kind kind) const noexcept;
  void* Kept(uint32_t handle) const noexcept { return entries_[handle & kIndexMask].keep.get(); }

  /// Closes the object; returns the handles of all objects that went with it.
  std::vector<uint32_t> Close(uint32_t handle);

  /// Makes an error by the factory that JavaScript has given: (syscall, errno, detail) => Error.
  Napi::Value MakeError(const char* syscall, int err, const std::string& detail);
  void SetErrorFactory(Napi::Function factory) { make_error_ = Napi::Persistent(factory); }
  void SetPostStatus(napi_value array, rdma::PostStatus* memory);
  rdma::PostStatus* post_status() const noexcept { return post_status_; }
  const std::shared_ptr<rdma::ChunkPool>& chunks() const noexcept { return chunks_; }

  /// The callback for UvHandle: the environment may not end before libuv has let go of every handle.
  std::function<void()> HoldForClose();

  size_t live_objects() const noexcept { return entries_.size() - free_.size() - 1; }

 private:
  struct Entry {
    std::shared_ptr<rdma::Object> object;
    std::shared_ptr<void> keep;
    uint32_t generation = 1;
  };
  static constexpr uint32_t kIndexBits = 20;
  static constexpr uint32_t kIndexMask = (1u << kIndexBits) - 1;
  static constexpr uint32_t kGenerationMask = (1u << (31 - kIndexBits)) - 1;

  explicit EnvState(Napi::Env env);
  void Forget(uint32_t handle);
  void Shutdown(napi_async_cleanup_hook_handle hook);
  void FinishShutdown();

  Napi::Env env_;
  uv_loop_t* loop_ = nullptr;
  std::vector<Entry> entries_;
  std::vector<uint32_t> free_;
  std::vector<uint32_t> closed_;
  Napi::FunctionReference make_error_;
  std::shared_ptr<rdma::ChunkPool> chunks_ = std::make_shared<rdma::ChunkPool>();
  std::unique_ptr<ValueRef> post_status_ref_;
  rdma::PostStatus* post_status_ = nullptr;
  napi_async_cleanup_hook_handle hook_ = nullptr;
  uint32_t closing_handles_ = 0;
  bool closing_ = false;
};

/// Calls [callback] from a libuv callback: inside a callback scope, so that ticks and promises run; an
/// exception goes to 'uncaughtException'.
void CallFromLoop(EnvState* state, const ValueRef& callback, std::initializer_list<napi_value> args);

}  // namespace binding
