// The two functions that chain the log: XXH3, 64 bits, seed 0, which is also the checksum of files and datagrams; and,
// in a cluster with keys, SipHash-2-4 under a secret (siphash.h). XXH3 is inlined from the single header that the
// xxhash-addon package ships. The same source is therefore behind that package's own JavaScript API, which the fallback
// uses (src/native/hash64.ts) and which is the oracle in the tests.

#include "arguments.h"
#include "capabilities.h"
#include "shared_array.h"
#include "siphash.h"

#include <memory>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace jitpaxos {

namespace {

constexpr size_t kDigestBytes = 8;
constexpr size_t kArenaBytesMax = INT32_MAX;

// The input range, and where the digest goes.
struct HashCall {
  const uint8_t* bytes;
  size_t length;
  uint8_t* out;
};

// Reads (bytes, offset, length, out, outOffset). False: it has thrown.
bool ReadHashCall(napi_env env, const napi_value* args, HashCall* call) {
  ByteSpan bytes, out;
  size_t offset, out_offset;
  if (!ReadBytes(env, args[0], &bytes) || !ReadBytes(env, args[3], &out)) {
    ThrowInvalidArgument(env, "hash64: bytes and out must be Uint8Arrays; call hash64(bytes, offset, length, out, outOffset)");
    return false;
  }
  if (!ReadIndex(env, args[1], &offset) || !ReadIndex(env, args[2], &call->length) || !Fits(bytes.length, offset, call->length)) {
    ThrowOutOfBounds(env, "hash64: offset and length must be whole numbers from 0 on and stay inside bytes");
    return false;
  }
  if (!ReadIndex(env, args[4], &out_offset) || !Fits(out.length, out_offset, kDigestBytes)) {
    ThrowOutOfBounds(env, "hash64: outOffset must be a whole number from 0 on and leave 8 bytes in out");
    return false;
  }
  // An empty array may have no memory at all.
  static const uint8_t kNothing = 0;
  call->bytes = call->length == 0 ? &kNothing : bytes.data + offset;
  call->out = out.data + out_offset;
  return true;
}

// hash64(bytes, offset, length, out, outOffset)
napi_value Hash64(napi_env env, napi_callback_info info) {
  napi_value args[5];
  size_t count = 5;
  napi_get_cb_info(env, info, &count, args, nullptr, nullptr);  // fills missing arguments with undefined
  HashCall call;
  // The digest is computed before it is written: the two ranges may overlap.
  if (ReadHashCall(env, args, &call)) WriteU64BigEndian(call.out, XXH3_64bits(call.bytes, call.length));
  return nullptr;
}

bool ReadSecret(napi_env env, napi_value value, SipSecret* secret) {
  ByteSpan bytes;
  if (!ReadBytes(env, value, &bytes) || bytes.length != kSipSecretBytes) {
    ThrowInvalidArgument(env, "sipHash64: the secret must be a Uint8Array of 16 bytes");
    return false;
  }
  *secret = ReadSipSecret(bytes.data);
  return true;
}

// sipHash64(secret, bytes, offset, length, out, outOffset)
napi_value SipHash64(napi_env env, napi_callback_info info) {
  napi_value args[6];
  size_t count = 6;
  napi_get_cb_info(env, info, &count, args, nullptr, nullptr);
  SipSecret secret;
  HashCall call;
  if (ReadSecret(env, args[0], &secret) && ReadHashCall(env, args + 1, &call)) WriteU64BigEndian(call.out, SipHash24(secret, call.bytes, call.length));
  return nullptr;
}

// Memory that is hashed often: what a call would otherwise ask JavaScript about its arrays is known in advance, and the
// arguments lie in memory too.
struct HashArena {
  HashArena(size_t length, bool is_keyed, const SipSecret& secret) : bytes(length), fields(4), is_keyed(is_keyed), secret(secret) {}
  bool valid() const { return bytes.valid() && fields.valid(); }

  const SharedArray<uint8_t> bytes;
  const SharedArray<int32_t> fields;  // HashField in src/protocol/contract.ts
  const bool is_keyed;
  const SipSecret secret;
};

// hash() of one arena
napi_value HashOfArena(napi_env env, napi_callback_info info) {
  void* data;
  napi_get_cb_info(env, info, nullptr, nullptr, nullptr, &data);
  const auto* arena = static_cast<const HashArena*>(data);
  const int32_t offset = arena->fields[0], length = arena->fields[1];
  if (offset < 0 || length < 0 || !Fits(arena->bytes.length(), static_cast<size_t>(offset), static_cast<size_t>(length))) {
    ThrowOutOfBounds(env, "hash: offset and length must be from 0 on and stay inside the arena");
    return nullptr;
  }
  const uint8_t* bytes = arena->bytes.data() + offset;
  const uint64_t hash = arena->is_keyed ? SipHash24(arena->secret, bytes, static_cast<size_t>(length)) : XXH3_64bits(bytes, static_cast<size_t>(length));
  arena->fields[2] = static_cast<int32_t>(hash >> 32);
  arena->fields[3] = static_cast<int32_t>(hash);
  return nullptr;
}

// hashArena(length[, secret]): of SipHash-2-4 with a secret, of XXH3 without
Napi::Value MakeHashArena(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  size_t length;
  if (!ReadIndex(env, info[0], &length) || length == 0 || length > kArenaBytesMax) {
    ThrowOutOfBounds(env, "hashArena: length must be a whole number from 1 to 2^31 - 1");
    return env.Undefined();
  }
  SipSecret secret{};
  const bool is_keyed = !info[1].IsUndefined();
  if (is_keyed && !ReadSecret(env, info[1], &secret)) return env.Undefined();
  auto arena = std::make_unique<HashArena>(length, is_keyed, secret);
  if (!arena->valid()) {
    Napi::Error::New(env, "hashArena: the system has no memory for it; ask for less").ThrowAsJavaScriptException();
    return env.Undefined();
  }
  Napi::Object result = Napi::Object::New(env);
  result.Set("bytes", arena->bytes.Expose(env));
  result.Set("fields", arena->fields.Expose(env));
  napi_value function;
  // Raw Node-API, like everything called for an operation. The function owns the arena; the arrays share its memory.
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
  if (napi_create_function(env, "sipHash64", NAPI_AUTO_LENGTH, SipHash64, nullptr, &function) != napi_ok) return;
  exports.Set("sipHash64", Napi::Function(env, function));
  exports.Set("hashArena", Napi::Function::New(env, MakeHashArena, "hashArena"));
}

}  // namespace jitpaxos
