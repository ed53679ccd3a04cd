#pragma once

#include <infiniband/verbs.h>
#include <napi.h>

#include <cerrno>
#include <cmath>
#include <memory>
#include <new>
#include <string>

#include "../core/error.h"
#include "env.h"

namespace binding {

// The TypeScript layer checks arguments and words the errors for people. These checks only keep a wrong type
// from reaching C++.

inline uint32_t U32(const Napi::CallbackInfo& info, size_t i) {
  if (!info[i].IsNumber())
    throw Napi::TypeError::New(info.Env(), "argument " + std::to_string(i) + ": a number");
  const double value = info[i].As<Napi::Number>().DoubleValue();
  if (!(value >= 0 && value <= 4294967295.0 && value == std::floor(value))) {
    throw Napi::RangeError::New(info.Env(), "argument " + std::to_string(i) + ": an unsigned 32-bit integer");
  }
  return static_cast<uint32_t>(value);
}

/// A whole number that JavaScript holds exactly.
inline uint64_t U53(const Napi::CallbackInfo& info, size_t i) {
  if (!info[i].IsNumber())
    throw Napi::TypeError::New(info.Env(), "argument " + std::to_string(i) + ": a number");
  const double value = info[i].As<Napi::Number>().DoubleValue();
  if (!(value >= 0 && value <= 9007199254740991.0 && value == std::floor(value))) {
    throw Napi::RangeError::New(info.Env(), "argument " + std::to_string(i) + ": a safe unsigned integer");
  }
  return static_cast<uint64_t>(value);
}

inline std::string Text(const Napi::CallbackInfo& info, size_t i) {
  if (!info[i].IsString())
    throw Napi::TypeError::New(info.Env(), "argument " + std::to_string(i) + ": a string");
  return info[i].As<Napi::String>().Utf8Value();
}

inline Napi::Function Callback(const Napi::CallbackInfo& info, size_t i) {
  if (!info[i].IsFunction())
    throw Napi::TypeError::New(info.Env(), "argument " + std::to_string(i) + ": a function");
  return info[i].As<Napi::Function>();
}

struct Bytes {
  uint8_t* data;
  size_t length;
};

/// The bytes of a view over an ArrayBuffer or SharedArrayBuffer. Valid while the view is referenced.
inline Bytes View(const Napi::CallbackInfo& info, size_t i) {
  napi_typedarray_type type;
  size_t length = 0;
  void* data = nullptr;
  const bool is_view = info[i].IsTypedArray() && napi_get_typedarray_info(info.Env(), info[i], &type, &length,
                                                                          &data, nullptr, nullptr) == napi_ok;
  if (!is_view || (type != napi_uint8_array && type != napi_uint32_array)) {
    throw Napi::TypeError::New(info.Env(), "argument " + std::to_string(i) + ": a Uint8Array or Uint32Array");
  }
  return {static_cast<uint8_t*>(data), type == napi_uint32_array ? length * 4 : length};
}

template <typename T>
std::shared_ptr<T> Object(const Napi::CallbackInfo& info, size_t i, rdma::Kind kind) {
  auto* object = EnvState::From(info.Env())->Find(U32(info, i), kind);
  if (object == nullptr) throw rdma::Error("close", EBADF, "the object is closed");
  return std::static_pointer_cast<T>(object->shared_from_this());
}

/// Runs [Function] and turns C++ exceptions into JavaScript's.
template <Napi::Value (*Function)(const Napi::CallbackInfo&)>
Napi::Value Guard(const Napi::CallbackInfo& info) {
  EnvState* state = EnvState::From(info.Env());
  try {
    return Function(info);
  } catch (const rdma::Error& error) {
    throw Napi::Error(info.Env(), state->MakeError(error.syscall(), error.err(), error.detail()));
  } catch (const std::bad_alloc&) {
    throw Napi::Error(info.Env(), state->MakeError("malloc", ENOMEM, "out of memory"));
  }
}

template <Napi::Value (*Function)(const Napi::CallbackInfo&)>
void Export(Napi::Env env, Napi::Object exports, const char* name) {
  exports.Set(name, Napi::Function::New<Guard<Function>>(env, name));
}

/// 'ib', 'iwarp' or 'unknown'.
const char* TransportName(ibv_transport_type transport);

/// A function of the hot path, without the cost of Napi::CallbackInfo. It may not throw.
inline void ExportRaw(napi_env env, napi_value exports, const char* name, napi_callback callback) {
  napi_value function = nullptr;
  napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, nullptr, &function);
  napi_set_named_property(env, exports, name, function);
}

void RegisterDevice(Napi::Env env, Napi::Object exports);
void RegisterQuirks(Napi::Env env, Napi::Object exports);
void RegisterDeviceQuery(Napi::Env env, Napi::Object exports);
void RegisterMemory(Napi::Env env, Napi::Object exports);
void RegisterAddressWindow(Napi::Env env, Napi::Object exports);
void RegisterDeviceMemory(Napi::Env env, Napi::Object exports);
void RegisterThreadDomain(Napi::Env env, Napi::Object exports);
void RegisterMemoryWindow(Napi::Env env, Napi::Object exports);
void RegisterCompletionQueue(Napi::Env env, Napi::Object exports);
void RegisterQueuePair(Napi::Env env, Napi::Object exports);
void RegisterAddressHandle(Napi::Env env, Napi::Object exports);
void RegisterSharedReceiveQueue(Napi::Env env, Napi::Object exports);
void RegisterChunk(Napi::Env env, Napi::Object exports);
void RegisterCm(Napi::Env env, Napi::Object exports);

}  // namespace binding
