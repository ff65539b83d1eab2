// XXH3, 64 bits, seed 0: the checksum that chains the log. The algorithm is inlined from the single header that the
// xxhash-addon package ships, so the same source answers here and in that package's own JavaScript API, which the
// fallback uses (src/native/hash64.ts) and which is the oracle in the tests.

#include "arguments.h"
#include "capabilities.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace jitpaxos {

namespace {

constexpr size_t kDigestBytes = 8;

// hash64(bytes, offset, length, out, outOffset)
napi_value Hash64(napi_env env, napi_callback_info info) {
  napi_value args[5];
  size_t count = 5;
  napi_get_cb_info(env, info, &count, args, nullptr, nullptr);  // fills what is missing with undefined
  ByteSpan bytes, out;
  size_t offset, length, out_offset;
  if (!ReadBytes(env, args[0], &bytes) || !ReadBytes(env, args[3], &out)) {
    ThrowInvalidArgument(env, "hash64: bytes and out must be Uint8Arrays; call hash64(bytes, offset, length, out, outOffset)");
    return nullptr;
  }
  if (!ReadIndex(env, args[1], &offset) || !ReadIndex(env, args[2], &length) || !Fits(bytes.length, offset, length)) {
    ThrowOutOfBounds(env, "hash64: offset and length must be whole numbers from 0 on and stay inside bytes");
    return nullptr;
  }
  if (!ReadIndex(env, args[4], &out_offset) || !Fits(out.length, out_offset, kDigestBytes)) {
    ThrowOutOfBounds(env, "hash64: outOffset must be a whole number from 0 on and leave 8 bytes in out");
    return nullptr;
  }
  // Computed before it is written: the two ranges may overlap. An empty array may have no memory at all.
  const uint64_t digest = length == 0 ? XXH3_64bits("", 0) : XXH3_64bits(bytes.data + offset, length);
  WriteU64BigEndian(out.data + out_offset, digest);
  return nullptr;
}

}  // namespace

void RegisterHash(Napi::Env env, Napi::Object exports) {
  napi_value function;
  if (napi_create_function(env, "hash64", NAPI_AUTO_LENGTH, Hash64, nullptr, &function) != napi_ok) return;
  exports.Set("hash64", Napi::Function(env, function));
}

}  // namespace jitpaxos
