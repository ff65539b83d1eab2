// The deadlines of one thread's timers. The event loop learns about them through their descriptors, which are set just
// before it sleeps. Setting one is a system call, and a deadline that comes and goes while a transport polls needs
// none. Code that polls in the loop's prepare phase checks the deadlines here meanwhile, and has the descriptors set
// when it is done.
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

  // Its time has come; it has been set to kNever. May set and remove any deadline of the thread.
  virtual void OnDue() = 0;

  // The loop may be about to sleep: the descriptor must be readable at `at_ns`, or earlier.
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

  // Number of pollers in the prepare phase, which call SetDescriptors at its end.
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

  // Fires what is due; a deadline that is set to a past time meanwhile fires in the next call.
  void FireDue(uint64_t now_ns) {
    for (size_t left = all_.size(); left > 0 && earliest_ns_ <= now_ns; left--) {
      for (Deadline* deadline : all_) {
        if (deadline->at_ns_ > now_ns) continue;
        Fire(deadline);
        break;  // the list may have changed
      }
    }
  }

 private:
  void FindEarliest() {
    earliest_ns_ = Deadline::kNever;
    for (const Deadline* deadline : all_) earliest_ns_ = std::min(earliest_ns_, deadline->at_ns_);
  }

  std::vector<Deadline*> all_;  // a handful: one per transport, one per pacer
  uint64_t earliest_ns_ = Deadline::kNever;
  int polling_ = 0;
};

}  // namespace jitpaxos
