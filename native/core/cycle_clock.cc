#include "cycle_clock.h"

#include <algorithm>
#include <atomic>

namespace rdma {

namespace {

using std::chrono::steady_clock;

/// After so long the rate is exact enough to be kept.
constexpr std::chrono::milliseconds kEnough{20};

const uint64_t first_cycles = Cycles();
const steady_clock::time_point first_time = steady_clock::now();
std::atomic<uint64_t> kept_rate = 0;

}  // namespace

uint64_t CyclesPerMicrosecond() {
  const uint64_t kept = kept_rate.load(std::memory_order_relaxed);
  if (kept != 0) return kept;
  const auto elapsed = steady_clock::now() - first_time;
  const auto microseconds = std::chrono::duration_cast<std::chrono::microseconds>(elapsed).count();
  const uint64_t rate =
      (Cycles() - first_cycles) / std::max<uint64_t>(1, static_cast<uint64_t>(microseconds));
  if (elapsed >= kEnough) kept_rate.store(std::max<uint64_t>(1, rate), std::memory_order_relaxed);
  return std::max<uint64_t>(1, rate);
}

}  // namespace rdma
