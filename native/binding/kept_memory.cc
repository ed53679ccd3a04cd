#include "kept_memory.h"

#include <dlfcn.h>

namespace binding {

namespace {

// A napi_value is V8's handle, and a method of V8's is called as a function of its object. The names contain
// std::shared_ptr of libstdc++: they are not found where V8 was built with another library's.
struct Functions {
  void* (*current_isolate)();
  std::shared_ptr<void> (*get_backing_store)(napi_value array_buffer);
  napi_value (*new_array_buffer)(void* isolate, std::shared_ptr<void> backing_store);

  bool complete() const noexcept {
    return current_isolate != nullptr && get_backing_store != nullptr && new_array_buffer != nullptr;
  }
};

template <typename Function>
void Find(Function* function, const char* name) {
  *function = reinterpret_cast<Function>(dlsym(RTLD_DEFAULT, name));
}

const Functions& V8() noexcept {
  static const Functions functions = [] {
    Functions found = {};
    Find(&found.current_isolate, "_ZN2v87Isolate10GetCurrentEv");
    Find(&found.get_backing_store, "_ZN2v811ArrayBuffer15GetBackingStoreEv");
    Find(&found.new_array_buffer, "_ZN2v811ArrayBuffer3NewEPNS_7IsolateESt10shared_ptrINS_12BackingStoreEE");
    return found;
  }();
  return functions;
}

}  // namespace

bool KeepsTransferred() noexcept { return V8().complete(); }

std::shared_ptr<ValueRef> KeepMemory(Napi::Env env, napi_value view) {
  napi_value buffer = nullptr;
  bool detachable = false;
  napi_get_typedarray_info(env, view, nullptr, nullptr, nullptr, &buffer, nullptr);
  // Not so a SharedArrayBuffer, which nobody can give away.
  if (buffer != nullptr) napi_is_arraybuffer(env, buffer, &detachable);
  if (!detachable || !KeepsTransferred()) return std::make_shared<ValueRef>(env, view);
  const napi_value twin = V8().new_array_buffer(V8().current_isolate(), V8().get_backing_store(buffer));
  return std::make_shared<ValueRef>(env, twin);
}

}  // namespace binding
