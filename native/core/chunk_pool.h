#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

namespace rdma {

/// Memory for bytes that have come, in chunks of one size that are used again and again. Memory of malloc(3)
/// would do, but its allocator gives large pieces back to the kernel as soon as they are freed, and a page
/// that comes anew costs more than copying what goes into it.
class ChunkPool {
 public:
  /// Bytes of a chunk.
  static constexpr size_t kBytes = 65536;
  /// Chunks that one pool has at most, 64 MiB together. V8 collects young buffers when they have 32 MiB, and
  /// gives them back in a later turn of the loop; a stream at full speed has taken as much again by then.
  static constexpr size_t kMost = 1024;

  ChunkPool() = default;
  ~ChunkPool();
  ChunkPool(const ChunkPool&) = delete;
  ChunkPool& operator=(const ChunkPool&) = delete;

  /// A chunk, whose content is of no use; null when all of them are out, or there is no memory.
  void* Take() noexcept;
  /// Takes back what {@link Take} has given, on any thread.
  void Give(void* chunk) noexcept;

 private:
  std::mutex mutex_;
  std::vector<void*> free_;
  size_t made_ = 0;
};

}  // namespace rdma
