/*
 * Gives perftest a clock that it can trust, by LD_PRELOAD. perftest counts in cycles of the processor, and learns how many
 * make a microsecond from two milliseconds of gettimeofday(2). On processors that others use as well that goes wrong: it
 * reports times that are some per cent off, or many times too short, or "inf" (perftest's get_clock.c). Here the cycles are
 * compared with the clock over a longer time, and gettimeofday(2) answers from the cycles.
 */
#include <stdint.h>
#include <sys/time.h>
#include <time.h>
#include <x86intrin.h>

enum { TRIES = 100, INTERVAL_NS = 60000000 };

static uint64_t first;
static double cycles_per_us;

/* The clock in microseconds, and the cycles at the same time: the pair that was read the fastest. */
static double read_pair(uint64_t *cycles) {
  uint64_t best = UINT64_MAX;
  double result = 0;
  for (int i = 0; i < TRIES; ++i) {
    struct timespec now;
    const uint64_t before = __rdtsc();
    clock_gettime(CLOCK_MONOTONIC, &now);
    const uint64_t took = __rdtsc() - before;
    if (took >= best) continue;
    best = took;
    *cycles = before + took / 2;
    result = (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
  }
  return result;
}

__attribute__((constructor)) static void calibrate(void) {
  const struct timespec interval = {.tv_nsec = INTERVAL_NS};
  uint64_t last;
  const double start = read_pair(&first);
  nanosleep(&interval, NULL);
  const double end = read_pair(&last);
  cycles_per_us = (double)(last - first) / (end - start);
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
  (void)zone;
  const uint64_t us = (uint64_t)((double)(__rdtsc() - first) / cycles_per_us);
  *time = (struct timeval){.tv_sec = (time_t)(us / 1000000), .tv_usec = (suseconds_t)(us % 1000000)};
  return 0;
}
