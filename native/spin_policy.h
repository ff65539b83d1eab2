// Whether it pays to poll a socket for a while instead of sleeping.
//
// Each spin that a datagram ended earns a credit; each that ran out costs one. Without credit nothing spins for a
// number of occasions, twice as many each time; then a few spins try again. A successful one resets the pause to its
// shortest.
#pragma once

#include <cstdint>

namespace jitpaxos {

enum class Idle : int32_t { kBlock = 0, kAdaptive = 1, kBusy = 2 };

class SpinPolicy {
 public:
  // Called on each occasion to spin. False: sleep.
  bool Allows() {
    if (skip_ == 0) return true;
    skip_--;
    return false;
  }

  // A datagram arrived while spinning.
  void Paid() {
    pause_ = kPauseMin;
    if (credit_ < kCreditMax) credit_++;
  }

  // None arrived in time.
  void Wasted() {
    if (--credit_ > 0) return;
    skip_ = pause_;
    credit_ = kCreditOfProbe;
    if (pause_ < kPauseMax) pause_ *= 2;
  }

 private:
  static constexpr int32_t kCreditMax = 32;
  static constexpr int32_t kCreditOfProbe = 4;
  static constexpr int32_t kPauseMin = 64;
  static constexpr int32_t kPauseMax = 4096;

  int32_t credit_ = kCreditMax;
  int32_t skip_ = 0;
  int32_t pause_ = kPauseMin;
};

}  // namespace jitpaxos
