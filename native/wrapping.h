// Arithmetic on nanoseconds from outside: a device or a caller may give any value, and a sum that does not fit an int64
// wraps around, as on the processor. The result is then as meaningless as its inputs, but nothing worse.
#pragma once

#include <cstdint>

namespace jitpaxos {

inline int64_t WrappingAdd(int64_t a, int64_t b) { return static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b)); }
inline int64_t WrappingSubtract(int64_t a, int64_t b) { return static_cast<int64_t>(static_cast<uint64_t>(a) - static_cast<uint64_t>(b)); }
inline int64_t WrappingMultiply(int64_t a, int64_t b) { return static_cast<int64_t>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b)); }

}  // namespace jitpaxos
