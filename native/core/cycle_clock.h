#pragma once

#include <chrono>
#include <cstdint>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

namespace rdma {

/// The processor's counter: read within nanoseconds and without the system call that clock_gettime(2) is
/// where there is no vDSO for it (user-mode Linux). For how long to spin, not for telling the time.
inline uint64_t Cycles() {
#if defined(__x86_64__)
  return __rdtsc();
#elif defined(__aarch64__)
  uint64_t count;
  __asm__ volatile("mrs %0, cntvct_el0" : "=r"(count));
  return count;
#else
  return static_cast<uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
#endif
}

/// What Cycles() counts in a microsecond, compared with the clock since the process began; at least 1.
uint64_t CyclesPerMicrosecond();

}  // namespace rdma
