// HMAC-SHA-256 cut to 128 bits (RFC 2104, RFC 4868 section 2.3): what authenticates a datagram. The primitive is the OpenSSL
// inside Node, whose symbols the executable exports and whose headers come with Node's: no further dependency, and the
// fastest SHA-256 that this processor has.
//
// A key is expanded once (hmacOpen); a MAC then costs the compression of the bytes and two blocks more, and allocates
// nothing, neither on the JavaScript heap nor, after the first call, on OpenSSL's side.

#include <napi.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include <array>
#include <cstring>
#include <memory>

#include "arguments.h"
#include "capabilities.h"

namespace jitpaxos {

namespace {

constexpr size_t kKeyBytes = 32;
constexpr size_t kMacBytes = 16;
constexpr size_t kDigestBytes = 32;
// A replica holds at most as many keys as a key file may name (src/server/key-file.ts), for each loop of the thread.
constexpr size_t kMaxKeys = 4096;

struct FreeContext {
  void operator()(EVP_MAC_CTX* context) const { EVP_MAC_CTX_free(context); }  // cleanses the key
};
using Context = std::unique_ptr<EVP_MAC_CTX, FreeContext>;

class HmacTable {
 public:
  // The slot of the new key; kMaxKeys when all are taken, or -1 when OpenSSL refuses.
  int32_t Open(const uint8_t* key) {
    size_t slot = 0;
    while (slot < kMaxKeys && contexts_[slot]) slot++;
    if (slot == kMaxKeys) return static_cast<int32_t>(kMaxKeys);
    EVP_MAC* mac = EVP_MAC_fetch(nullptr, "HMAC", nullptr);
    if (mac == nullptr) return -1;
    Context context(EVP_MAC_CTX_new(mac));
    EVP_MAC_free(mac);  // the context holds its own reference
    char digest[] = "SHA256";
    const OSSL_PARAM parameters[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0), OSSL_PARAM_construct_end()};
    if (!context || EVP_MAC_init(context.get(), key, kKeyBytes, parameters) != 1) return -1;
    contexts_[slot] = std::move(context);
    return static_cast<int32_t>(slot);
  }

  void Close(int32_t slot) {
    if (slot >= 0 && static_cast<size_t>(slot) < kMaxKeys) contexts_[slot].reset();
  }

  EVP_MAC_CTX* Find(int32_t slot) const {
    return slot >= 0 && static_cast<size_t>(slot) < kMaxKeys ? contexts_[slot].get() : nullptr;
  }

 private:
  std::array<Context, kMaxKeys> contexts_;
};

HmacTable& Arguments(napi_env env, napi_callback_info info, size_t count, napi_value* args) {
  void* table;
  napi_get_cb_info(env, info, &count, args, nullptr, &table);
  return *static_cast<HmacTable*>(table);
}

void ThrowFailure(Napi::Env env, const char* code, const char* message) {
  Napi::Error error = Napi::Error::New(env, message);
  error.Value().Set("code", Napi::String::New(env, code));
  error.ThrowAsJavaScriptException();
}

// hmacOpen(key) -> slot
napi_value HmacOpen(napi_env env, napi_callback_info info) {
  napi_value args[1];
  HmacTable& table = Arguments(env, info, 1, args);
  ByteSpan key;
  if (!ReadBytes(env, args[0], &key) || key.length != kKeyBytes) {
    ThrowInvalidArgument(env, "hmacOpen: key must be a Uint8Array of 32 bytes");
    return nullptr;
  }
  const int32_t slot = table.Open(key.data);
  if (slot < 0) {
    ThrowFailure(env, "hmac-unavailable", "hmacOpen: the OpenSSL of this Node offers no HMAC with SHA256");
    return nullptr;
  }
  if (static_cast<size_t>(slot) == kMaxKeys) {
    ThrowFailure(env, "hmac-limit", "hmacOpen: 4096 keys are open in this thread; close some");
    return nullptr;
  }
  napi_value result = nullptr;
  napi_create_int32(env, slot, &result);
  return result;
}

// hmacClose(slot)
napi_value HmacClose(napi_env env, napi_callback_info info) {
  napi_value args[1];
  HmacTable& table = Arguments(env, info, 1, args);
  int32_t slot;
  if (napi_get_value_int32(env, args[0], &slot) == napi_ok) table.Close(slot);
  return nullptr;
}

// hmac128(slot, bytes, offset, length, out, outOffset)
napi_value Hmac128(napi_env env, napi_callback_info info) {
  napi_value args[6];
  HmacTable& table = Arguments(env, info, 6, args);
  int32_t slot;
  EVP_MAC_CTX* context = napi_get_value_int32(env, args[0], &slot) == napi_ok ? table.Find(slot) : nullptr;
  if (context == nullptr) {
    ThrowInvalidArgument(env, "hmac128: the first argument must be what hmacOpen gave and hmacClose has not taken");
    return nullptr;
  }
  ByteSpan bytes, out;
  size_t offset, length, out_offset;
  if (!ReadBytes(env, args[1], &bytes) || !ReadBytes(env, args[4], &out)) {
    ThrowInvalidArgument(env, "hmac128: bytes and out must be Uint8Arrays");
    return nullptr;
  }
  if (!ReadIndex(env, args[2], &offset) || !ReadIndex(env, args[3], &length) || !Fits(bytes.length, offset, length)) {
    ThrowOutOfBounds(env, "hmac128: offset and length must be whole numbers from 0 on and stay inside bytes");
    return nullptr;
  }
  if (!ReadIndex(env, args[5], &out_offset) || !Fits(out.length, out_offset, kMacBytes)) {
    ThrowOutOfBounds(env, "hmac128: outOffset must be a whole number from 0 on and leave 16 bytes in out");
    return nullptr;
  }
  uint8_t digest[kDigestBytes];
  size_t written = 0;
  // Without a key: starts anew with the one that the context has.
  const bool done = EVP_MAC_init(context, nullptr, 0, nullptr) == 1 &&
                    (length == 0 || EVP_MAC_update(context, bytes.data + offset, length) == 1) &&
                    EVP_MAC_final(context, digest, &written, sizeof digest) == 1 && written == kDigestBytes;
  if (!done) {
    ThrowFailure(env, "hmac-unavailable", "hmac128: OpenSSL refused to compute a MAC");
    return nullptr;
  }
  std::memcpy(out.data + out_offset, digest, kMacBytes);  // after the digest: the ranges may overlap
  OPENSSL_cleanse(digest, sizeof digest);
  return nullptr;
}

}  // namespace

void RegisterHmac(Napi::Env env, Napi::Object exports) {
  auto* table = new HmacTable();
  napi_add_env_cleanup_hook(env, [](void* data) { delete static_cast<HmacTable*>(data); }, table);
  const struct {
    const char* name;
    napi_callback callback;
  } functions[] = {{"hmacOpen", HmacOpen}, {"hmacClose", HmacClose}, {"hmac128", Hmac128}};
  for (const auto& [name, callback] : functions) {
    napi_value function;
    if (napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, table, &function) != napi_ok) return;
    exports.Set(name, Napi::Function(env, function));
  }
}

}  // namespace jitpaxos
