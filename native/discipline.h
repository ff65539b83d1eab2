// A clock derived from another: a straight line over the readings of a clock that is never stepped
// (CLOCK_MONOTONIC_RAW).
//
// src/clock/disciplined-clock.ts decides the lines. They are only followed here, because this runs for every timestamp:
// one vDSO reading, one multiplication, two comparisons. There are two segments, so that a slew ends at the right
// moment without a wake-up.
//
// The rule: readings never go back, whatever lines are set.
#pragma once

#include <cstdint>

#include "wrapping.h"

namespace jitpaxos {

class Discipline {
 public:
  static constexpr int kSegmentFields = 3;
  // Rates are in units of 2^-40: a thousandth of a part per billion.
  static constexpr int kRateShift = 40;

  // [raw, out, rate] twice. The second segment applies from its own `raw` on.
  void Set(const int64_t* values) {
    now_ = {values[0], values[1], values[2]};
    next_ = {values[3], values[4], values[5]};
  }

  int64_t Read(int64_t raw) {
    const Segment& segment = raw < next_.raw ? now_ : next_;
    const int64_t elapsed = WrappingSubtract(raw, segment.raw);
    const int64_t out = WrappingAdd(WrappingAdd(segment.out, elapsed), static_cast<int64_t>((static_cast<__int128>(elapsed) * segment.rate) >> kRateShift));
    if (out > last_) last_ = out;
    return last_;
  }

 private:
  struct Segment {
    int64_t raw = 0;
    int64_t out = 0;
    int64_t rate = -(int64_t{1} << kRateShift);  // stands still
  };

  Segment now_;
  Segment next_;
  int64_t last_ = 0;
};

}  // namespace jitpaxos
