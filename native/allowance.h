// How many of something pass: some at once, and then a number a second.

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "monotonic.h"

namespace jitpaxos {

class Allowance {
 public:
  // `per_second` 0: there is no limit.
  Allowance(uint64_t at_once, uint64_t per_second)
      : cost_ns_(per_second == 0 ? 0 : std::max<uint64_t>(1, 1'000'000'000 / per_second)), most_ns_(at_once * cost_ns_), left_ns_(most_ns_) {}

  // How many of `count` pass now.
  size_t Take(size_t count) {
    if (cost_ns_ == 0) return count;
    const uint64_t now = MonotonicNs();
    left_ns_ = std::min(most_ns_, left_ns_ + (now - then_ns_));
    then_ns_ = now;
    const size_t passed = std::min<uint64_t>(count, left_ns_ / cost_ns_);
    left_ns_ -= passed * cost_ns_;
    return passed;
  }

 private:
  // Each one costs this much of the time that passes.
  const uint64_t cost_ns_;
  const uint64_t most_ns_;
  uint64_t left_ns_;
  uint64_t then_ns_ = MonotonicNs();
};

}  // namespace jitpaxos
