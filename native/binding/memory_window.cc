#include "../core/memory_window.h"

#include "args.h"

namespace binding {

namespace {

using rdma::Kind;
using rdma::MemoryWindow;

/// allocMw(pd, type)
Napi::Value AllocMw(const Napi::CallbackInfo& info) {
  const auto pd = Object<rdma::ProtectionDomain>(info, 0, Kind::kProtectionDomain);
  const auto window = MemoryWindow::Alloc(pd, static_cast<ibv_mw_type>(U32(info, 1)));
  return Napi::Number::New(info.Env(), EnvState::From(info.Env())->Register(window));
}

/// mwRkey(mw)
Napi::Value MwRkey(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), Object<MemoryWindow>(info, 0, Kind::kMemoryWindow)->rkey());
}

/// mwBinding(mw): what the window is bound to, or undefined
Napi::Value MwBinding(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto window = Object<MemoryWindow>(info, 0, Kind::kMemoryWindow);
  if (!window->bound()) return env.Undefined();
  const rdma::WindowRange& range = window->range();
  Napi::Object result = Napi::Object::New(env);
  result.Set("addr", Napi::BigInt::New(env, range.addr));
  result.Set("length", Napi::BigInt::New(env, range.length));
  result.Set("access", Napi::Number::New(env, range.access));
  result.Set("lkey", Napi::Number::New(env, window->region()->lkey()));
  result.Set("confirmed", Napi::Boolean::New(env, window->confirmed()));
  return result;
}

}  // namespace

void RegisterMemoryWindow(Napi::Env env, Napi::Object exports) {
  Export<AllocMw>(env, exports, "allocMw");
  Export<MwRkey>(env, exports, "mwRkey");
  Export<MwBinding>(env, exports, "mwBinding");
}

}  // namespace binding
