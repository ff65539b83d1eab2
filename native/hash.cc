// XXH3, 64 bits, seed 0: the checksum that chains the log. The algorithm is inlined from the single header that the
// xxhash-addon package ships, so the same source answers here and in that package's own JavaScript API, which the
// fallback uses (src/native/hash64.ts) and which is the oracle in the tests.

#include "arguments.h"
#include "capabilities.h"
#include "shared_array.h"

#include <memory>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace jitpaxos {

namespace {

constexpr size_t kDigestBytes = 8;
constexpr size_t kArenaBytesMax = INT32_MAX;

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

// Memory that is hashed often: what a call would ask JavaScript about its arrays is known once and for all, and what it would
// be given lies in memory too.
struct HashArena {
  explicit HashArena(size_t length) : bytes(length), fields(4) {}
  bool valid() const { return bytes.valid() && fields.valid(); }

  const SharedArray<uint8_t> bytes;
  const SharedArray<int32_t> fields;  // HashField in src/protocol/contract.ts
};

// hash(), of one arena
napi_value HashOfArena(napi_env env, napi_callback_info info) {
  void* data;
  napi_get_cb_info(env, info, nullptr, nullptr, nullptr, &data);
  const auto* arena = static_cast<const HashArena*>(data);
  const int32_t offset = arena->fields[0], length = arena->fields[1];
  if (offset < 0 || length < 0 || !Fits(arena->bytes.length(), static_cast<size_t>(offset), static_cast<size_t>(length))) {
    ThrowOutOfBounds(env, "hash: offset and length must be from 0 on and stay inside the arena");
    return nullptr;
  }
  const uint64_t hash = XXH3_64bits(arena->bytes.data() + offset, static_cast<size_t>(length));
  arena->fields[2] = static_cast<int32_t>(hash >> 32);
  arena->fields[3] = static_cast<int32_t>(hash);
  return nullptr;
}

// hashArena(length)
Napi::Value MakeHashArena(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  size_t length;
  if (!ReadIndex(env, info[0], &length) || length == 0 || length > kArenaBytesMax) {
    ThrowOutOfBounds(env, "hashArena: length must be a whole number from 1 to 2^31 - 1");
    return env.Undefined();
  }
  auto arena = std::make_unique<HashArena>(length);
  if (!arena->valid()) {
    Napi::Error::New(env, "hashArena: the system has no memory for it; ask for less").ThrowAsJavaScriptException();
    return env.Undefined();
  }
  Napi::Object result = Napi::Object::New(env);
  result.Set("bytes", arena->bytes.Expose(env));
  result.Set("fields", arena->fields.Expose(env));
  napi_value function;
  // Raw, as all that is called for an operation. The function owns the arena; the arrays have shares of its memory.
  if (napi_create_function(env, "hash", NAPI_AUTO_LENGTH, HashOfArena, arena.get(), &function) != napi_ok) return env.Undefined();
  auto release = [](napi_env, void* data, void*) { delete static_cast<HashArena*>(data); };
  if (napi_add_finalizer(env, function, arena.get(), release, nullptr, nullptr) != napi_ok) return env.Undefined();
  arena.release();
  result.Set("hash", Napi::Function(env, function));
  return result;
}

}  // namespace

void RegisterHash(Napi::Env env, Napi::Object exports) {
  napi_value function;
  if (napi_create_function(env, "hash64", NAPI_AUTO_LENGTH, Hash64, nullptr, &function) != napi_ok) return;
  exports.Set("hash64", Napi::Function(env, function));
  exports.Set("hashArena", Napi::Function::New(env, MakeHashArena, "hashArena"));
}

}  // namespace jitpaxos
