// What a link of the chain costs with each function that was considered for it:
// docs/internals/decisions/keyed-chain.md. Not built with the addon. In a checkout with node_modules:
//
//   g++ -std=c++17 -O3 -Wall -Wextra -isystem node_modules/xxhash-addon/xxHash native/bench/chain.cc -lcrypto -o
//   /tmp/chain && /tmp/chain
//
// With HighwayHash, which is not a dependency (`npm pack highwayhash`, unpacked to DIR): add
//   -DHIGHWAYHASH -isystem DIR/package/src DIR/package/src/highwayhash/{arch_specific,instruction_sets}.cc and -msse4.1
//   or -mavx2 for the instructions that it is compiled for; without them it is the portable one.
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <vector>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "../siphash.h"

#ifdef HIGHWAYHASH
#include <highwayhash/highwayhash.h>
#endif

namespace {

constexpr int kRounds = 50;
constexpr int kLinks = 2000;

double NowNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1e9 + now.tv_nsec;
}

// The bytes of each link begin with the previous link, as in the log, so two links cannot overlap in time. Ns per link,
// the best round: others may use the host.
template <typename Hash>
double Measure(std::vector<uint8_t> record, Hash hash) {
  std::vector<double> rounds;
  for (int round = 0; round < kRounds; round++) {
    const double begun = NowNs();
    for (int i = 0; i < kLinks; i++) {
      const uint64_t chain = hash(record.data(), record.size());
      std::memcpy(record.data(), &chain, sizeof chain);
    }
    rounds.push_back((NowNs() - begun) / kLinks);
  }
  std::sort(rounds.begin(), rounds.end());
  return rounds[0];
}

}  // namespace

int main() {
  uint8_t secret[32];
  for (size_t i = 0; i < sizeof secret; i++) secret[i] = static_cast<uint8_t>(i * 7);
  const jitpaxos::SipSecret sip = jitpaxos::ReadSipSecret(secret);
  SHA256_CTX keyed;  // SHA-256 after a block with the secret; cut to 64 bits, the result allows no length extension
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
  SHA256_Init(&keyed);
  uint8_t block[64] = {};
  std::memcpy(block, secret, sizeof secret);
  SHA256_Update(&keyed, block, sizeof block);

  std::printf("%-10s %10s %12s %12s %12s\n", "bytes", "XXH3-64", "SipHash-2-4", "HighwayHash", "SHA-256");
  for (size_t operation : {0, 16, 64, 256, 1000, 16000}) {
    const std::vector<uint8_t> record(32 + operation, 0x5a);
    const double xxh3 = Measure(record, [](const uint8_t* bytes, size_t length) { return XXH3_64bits(bytes, length); });
    const double siphash = Measure(record, [&](const uint8_t* bytes, size_t length) { return jitpaxos::SipHash24(sip, bytes, length); });
    double highway = 0;
#ifdef HIGHWAYHASH
    highwayhash::HHKey key HH_ALIGNAS(32) = {1, 2, 3, 4};
    highway = Measure(record, [&](const uint8_t* bytes, size_t length) {
      highwayhash::HHStateT<HH_TARGET> state(key);
      highwayhash::HHResult64 result;
      highwayhash::HighwayHashT(&state, reinterpret_cast<const char*>(bytes), length, &result);
      return result;
    });
#endif
    const double sha = Measure(record, [&](const uint8_t* bytes, size_t length) {
      SHA256_CTX state = keyed;
      uint8_t digest[32];
      SHA256_Update(&state, bytes, length);
      SHA256_Final(digest, &state);
      uint64_t cut;
      std::memcpy(&cut, digest, sizeof cut);
      return cut;
    });
    std::printf("32 + %-5zu %7.0f ns %9.0f ns %9.0f ns %9.0f ns\n", operation, xxh3, siphash, highway, sha);
  }
}
