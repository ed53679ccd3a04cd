#include "chunk_pool.h"

#include <sys/mman.h>

#include <new>

namespace rdma {

ChunkPool::~ChunkPool() {
  // Whoever has a chunk holds the pool, so all are here.
  for (void* chunk : free_) munmap(chunk, kBytes);
}

void* ChunkPool::Take() noexcept {
  const std::lock_guard lock(mutex_);
  if (!free_.empty()) {
    // The latest: it may still be in the processor's cache.
    void* chunk = free_.back();
    free_.pop_back();
    return chunk;
  }
  if (made_ == kMost) return nullptr;
  try {
    // Giving back must not fail.
    free_.reserve(made_ + 1);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
  // All of its pages at once, instead of one fault for each.
  constexpr int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE;
  void* chunk = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, flags, -1, 0);
  if (chunk == MAP_FAILED) return nullptr;
  ++made_;
  return chunk;
}

void ChunkPool::Give(void* chunk) noexcept {
  const std::lock_guard lock(mutex_);
  free_.push_back(chunk);
}

}  // namespace rdma
