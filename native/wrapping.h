// Arithmetic on nanoseconds that others hand in: a device or a caller may say anything, and a sum that does not fit an int64
// wraps around, as the processor does it. The result is then as much nonsense as what it was made of, and no more than that.
#pragma once

#include <cstdint>

namespace jitpaxos {

inline int64_t WrappingAdd(int64_t a, int64_t b) { return static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b)); }
inline int64_t WrappingSubtract(int64_t a, int64_t b) { return static_cast<int64_t>(static_cast<uint64_t>(a) - static_cast<uint64_t>(b)); }
inline int64_t WrappingMultiply(int64_t a, int64_t b) { return static_cast<int64_t>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b)); }

}  // namespace jitpaxos
