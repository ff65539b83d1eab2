// The clocks that one environment has open, by small integer.
//
// Why a table and not a clockid_t in JavaScript: a dynamic clock id *is* a file descriptor, and after close() the
// kernel gives that number to the next file. An id here contains a generation, so a stale one is refused and can never
// read another clock. A lookup is a mask and a comparison.
#pragma once

#include <time.h>

#include <array>
#include <cstdint>

#include "discipline.h"

namespace jitpaxos {

class ClockTable {
 public:
  static constexpr uint32_t kSlotBits = 6;
  static constexpr uint32_t kSlots = 1u << kSlotBits;
  static constexpr int32_t kFull = -1;

  // Returns the id, from 0 on, or kFull. With a discipline, which must outlive the entry, readings are its output for
  // the readings of `clock`.
  int32_t Add(clockid_t clock, Discipline* discipline = nullptr) {
    for (uint32_t slot = 0; slot < kSlots; slot++) {
      Entry& entry = entries_[slot];
      if (entry.open) continue;
      entry.open = true;
      entry.clock = clock;
      entry.discipline = discipline;
      return Id(slot);
    }
    return kFull;
  }

  void Remove(int32_t id) {
    if (Find(id) == nullptr) return;
    Entry& entry = entries_[Slot(id)];
    entry.open = false;
    entry.generation = (entry.generation + 1) & kGenerationMask;
  }

  struct Entry {
    bool open = false;
    clockid_t clock = 0;
    uint32_t generation = 0;
    Discipline* discipline = nullptr;
  };

  // Null if the id was never given out or is closed. Valid until the next Remove.
  const Entry* Find(int32_t id) const {
    if (id < 0) return nullptr;
    const Entry& entry = entries_[Slot(id)];
    return entry.open && Id(Slot(id)) == id ? &entry : nullptr;
  }

 private:
  // An id stays below 2^30: a small integer in every V8, never boxed.
  static constexpr uint32_t kGenerationMask = (1u << (30 - kSlotBits)) - 1;

  static uint32_t Slot(int32_t id) { return static_cast<uint32_t>(id) & (kSlots - 1); }
  int32_t Id(uint32_t slot) const { return static_cast<int32_t>(entries_[slot].generation << kSlotBits | slot); }

  std::array<Entry, kSlots> entries_;
};

}  // namespace jitpaxos
