#pragma once

#include <napi.h>

#include <memory>

#include "env.h"

namespace binding {

/// Whether {@link KeepMemory} keeps the memory also of an ArrayBuffer that is given away.
bool KeepsTransferred() noexcept;

/// Keeps the memory of [view] where it is until the result is dropped, on the JavaScript thread.
///
/// A reference to the view is not enough: transferred (postMessage, structuredClone,
/// ArrayBuffer.prototype.transfer), its ArrayBuffer gives the memory to another one, whose collection frees
/// it under the device. So the reference is to a second ArrayBuffer over the same memory, which JavaScript
/// never sees and so cannot give away. N-API has no such thing: the two functions of V8 that make it are
/// looked up at run time, and are there in every Node.js that is built with libstdc++ (v8-array-buffer.h).
std::shared_ptr<ValueRef> KeepMemory(Napi::Env env, napi_value view);

}  // namespace binding
