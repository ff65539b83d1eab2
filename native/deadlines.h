// What the timers of one thread wait for. The event loop learns of it by their descriptors, which are set just before it
// sleeps: setting one is a system call, and a deadline that comes and goes while a transport polls needs none. Whoever polls
// in the loop's prepare phase looks here meanwhile, and has the descriptors set when it is done.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace jitpaxos {

class Deadline {
 public:
  static constexpr uint64_t kNever = UINT64_MAX;

  // CLOCK_MONOTONIC, ns.
  uint64_t at_ns() const { return at_ns_; }

 protected:
  ~Deadline() = default;

 private:
  friend class Deadlines;

  // Its time has come, and it is set to kNever. May set and remove any deadline of the thread.
  virtual void OnDue() = 0;

  // The loop is about to sleep, perhaps: the descriptor is to be readable at `at_ns`, or before.
  virtual void SetDescriptor() = 0;

  uint64_t at_ns_ = kNever;
};

class Deadlines {
 public:
  static Deadlines& OfThread() {
    static thread_local Deadlines deadlines;
    return deadlines;
  }

  uint64_t earliest_ns() const { return earliest_ns_; }

  // Of those that poll in the prepare phase, and so call SetDescriptors at its end, how many there are.
  void AddPolling(int count) { polling_ += count; }
  bool polled() const { return polling_ > 0; }

  void SetDescriptors() {
    for (Deadline* deadline : all_) deadline->SetDescriptor();
  }

  void Add(Deadline* deadline) { all_.push_back(deadline); }

  void Remove(Deadline* deadline) {
    Set(deadline, Deadline::kNever);
    all_.erase(std::remove(all_.begin(), all_.end(), deadline), all_.end());
  }

  void Set(Deadline* deadline, uint64_t at_ns) {
    const bool was_earliest = deadline->at_ns_ == earliest_ns_;
    deadline->at_ns_ = at_ns;
    if (at_ns <= earliest_ns_) earliest_ns_ = at_ns;
    else if (was_earliest) FindEarliest();
  }

  void Fire(Deadline* deadline) {
    Set(deadline, Deadline::kNever);
    deadline->OnDue();
  }

  // Fires what is due; what is set anew to a time that has passed already comes with the next call.
  void FireDue(uint64_t now_ns) {
    for (size_t left = all_.size(); left > 0 && earliest_ns_ <= now_ns; left--) {
      for (Deadline* deadline : all_) {
        if (deadline->at_ns_ > now_ns) continue;
        Fire(deadline);
        break;  // the list may be another one now
      }
    }
  }

 private:
  void FindEarliest() {
    earliest_ns_ = Deadline::kNever;
    for (const Deadline* deadline : all_) earliest_ns_ = std::min(earliest_ns_, deadline->at_ns_);
  }

  std::vector<Deadline*> all_;  // a handful: one a transport, one a pacer
  uint64_t earliest_ns_ = Deadline::kNever;
  int polling_ = 0;
};

}  // namespace jitpaxos
