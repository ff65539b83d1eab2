// SipHash-2-4, 64 bits: the keyed function that chains the log of a cluster with keys. Written from the description in
// Aumasson, Bernstein, "SipHash: a fast short-input PRF" (2012), section 2; its test vectors (appendix A) are in
// test/native/siphash.test.ts. docs/internals/decisions/keyed-chain.md says why this function.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace jitpaxos {

constexpr size_t kSipSecretBytes = 16;

struct SipSecret {
  uint64_t k0;
  uint64_t k1;
};

namespace siphash {

inline uint64_t ReadLittleEndian(const uint8_t* from) {
  uint64_t value;
  std::memcpy(&value, from, sizeof value);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
  value = __builtin_bswap64(value);
#endif
  return value;
}

inline uint64_t RotateLeft(uint64_t value, int bits) { return (value << bits) | (value >> (64 - bits)); }

struct State {
  uint64_t v0, v1, v2, v3;

  template <int kTimes>
  void Rounds() {
    for (int i = 0; i < kTimes; i++) {
      v0 += v1;
      v2 += v3;
      v1 = RotateLeft(v1, 13) ^ v0;
      v3 = RotateLeft(v3, 16) ^ v2;
      v0 = RotateLeft(v0, 32);
      v2 += v1;
      v0 += v3;
      v1 = RotateLeft(v1, 17) ^ v2;
      v3 = RotateLeft(v3, 21) ^ v0;
      v2 = RotateLeft(v2, 32);
    }
  }

  void Compress(uint64_t word) {
    v3 ^= word;
    Rounds<2>();
    v0 ^= word;
  }
};

}  // namespace siphash

inline SipSecret ReadSipSecret(const uint8_t* bytes) { return {siphash::ReadLittleEndian(bytes), siphash::ReadLittleEndian(bytes + 8)}; }

inline uint64_t SipHash24(const SipSecret& secret, const uint8_t* bytes, size_t length) {
  siphash::State state{secret.k0 ^ 0x736f6d6570736575u, secret.k1 ^ 0x646f72616e646f6du, secret.k0 ^ 0x6c7967656e657261u, secret.k1 ^ 0x7465646279746573u};
  const size_t whole = length & ~size_t{7};
  for (size_t at = 0; at < whole; at += 8) state.Compress(siphash::ReadLittleEndian(bytes + at));
  // The last word: the remaining bytes, and the length in the topmost byte.
  uint8_t rest[8] = {};
  if (length > whole) std::memcpy(rest, bytes + whole, length - whole);
  rest[7] = static_cast<uint8_t>(length);
  state.Compress(siphash::ReadLittleEndian(rest));
  state.v2 ^= 0xff;
  state.Rounds<4>();
  return state.v0 ^ state.v1 ^ state.v2 ^ state.v3;
}

}  // namespace jitpaxos
