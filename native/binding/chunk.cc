#include "../core/chunk_pool.h"
#include "args.h"

namespace binding {

namespace {

using rdma::ChunkPool;

/// takeChunk(): an ArrayBuffer of the pool, which has it back when it is collected; undefined when all are
/// out.
Napi::Value TakeChunk(const Napi::CallbackInfo& info) {
  auto pool = std::make_unique<std::shared_ptr<ChunkPool>>(EnvState::From(info.Env())->chunks());
  void* chunk = (*pool)->Take();
  if (chunk == nullptr) return info.Env().Undefined();
  Napi::ArrayBuffer buffer = Napi::ArrayBuffer::New(
      info.Env(), chunk, ChunkPool::kBytes,
      [](Napi::BasicEnv, void* memory, std::shared_ptr<ChunkPool>* owner) {
        (*owner)->Give(memory);
        delete owner;
      },
      pool.get());
  pool.release();
  return buffer;
}

}  // namespace

void RegisterChunk(Napi::Env env, Napi::Object exports) { Export<TakeChunk>(env, exports, "takeChunk"); }

}  // namespace binding
