// CLOCK_MONOTONIC, the clock of timers and of performance.now().
#pragma once

#include <time.h>

#include <cstdint>

namespace jitpaxos {

inline uint64_t MonotonicNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000u + static_cast<uint64_t>(now.tv_nsec);
}

}  // namespace jitpaxos
