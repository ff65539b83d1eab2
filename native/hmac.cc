// HMAC-SHA-256 cut to 128 bits (RFC 2104; RFC 4868, section 2.3): authenticates datagrams. SHA-256 comes from the
// OpenSSL inside Node, whose symbols the executable exports and whose headers come with Node's: no further dependency,
// and the fastest code for this processor.
//
// A key is expanded once (hmacOpen) into the states of SHA-256 after the inner and the outer block of the key (RFC
// 2104, section 4). A MAC starts from copies of these, so it costs the compression of the bytes and one more block, and
// allocates nothing. EVP_MAC does the same but copies its contexts on the heap: 90 ns of 210 for 100 bytes.
//
// A datagram to several replicas is often the same, byte for byte, and so is its MAC: the last MAC is kept with its
// bytes.

// OpenSSL 3 calls SHA256_Init and its like deprecated, but still has them; its EVP calls have no state that can be
// copied without the heap.
#define OPENSSL_SUPPRESS_DEPRECATED

#include <napi.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <array>
#include <cstring>
#include <memory>

#include "arguments.h"
#include "capabilities.h"

// A newer Node may lack them: hmacOpen then says so, and the addon loads all the same.
#pragma weak SHA256_Init
#pragma weak SHA256_Update
#pragma weak SHA256_Final

namespace jitpaxos {

namespace {

constexpr size_t kKeyBytes = 32;
constexpr size_t kMacBytes = 16;
constexpr size_t kDigestBytes = 32;
constexpr size_t kBlockBytes = 64;
// Twice what a replica can hold: two for each of a file's keys (src/host/key-file.ts), and a new file beside the old.
constexpr size_t kMaxKeys = 8192;
// What is shorter is no datagram but the input of a key derivation (src/wire/streams.ts), whose result is not kept.
constexpr size_t kRememberedBytesMin = 32;
// Longer than a datagram on Ethernet. For longer ones, comparing and keeping would cost more than it saves.
constexpr size_t kRememberedBytes = 2048;

// SHA-256 after the first block, which is the key's.
class Key {
 public:
  explicit Key(const uint8_t* key) {
    Begin(&inner_, key, 0x36);
    Begin(&outer_, key, 0x5c);
  }
  Key(const Key&) = delete;
  Key& operator=(const Key&) = delete;
  ~Key() {
    OPENSSL_cleanse(&inner_, sizeof inner_);
    OPENSSL_cleanse(&outer_, sizeof outer_);
  }

  void Mac(const uint8_t* bytes, size_t length, uint8_t* out) const {
    uint8_t digest[kDigestBytes];
    SHA256_CTX state = inner_;
    if (length > 0) SHA256_Update(&state, bytes, length);
    SHA256_Final(digest, &state);
    state = outer_;
    SHA256_Update(&state, digest, sizeof digest);
    SHA256_Final(digest, &state);
    std::memcpy(out, digest, kMacBytes);
  }

 private:
  static void Begin(SHA256_CTX* state, const uint8_t* key, uint8_t pad) {
    uint8_t block[kBlockBytes];
    for (size_t i = 0; i < kBlockBytes; i++) block[i] = static_cast<uint8_t>((i < kKeyBytes ? key[i] : 0) ^ pad);
    SHA256_Init(state);
    SHA256_Update(state, block, sizeof block);
    OPENSSL_cleanse(block, sizeof block);
  }

  SHA256_CTX inner_;
  SHA256_CTX outer_;
};

class HmacTable {
 public:
  // The slot of the new key; kMaxKeys if all are taken.
  size_t Open(const uint8_t* key) {
    size_t slot = 0;
    while (slot < kMaxKeys && keys_[slot]) slot++;
    if (slot < kMaxKeys) keys_[slot] = std::make_unique<Key>(key);
    return slot;
  }

  void Close(int32_t slot) {
    if (!Has(slot)) return;
    keys_[slot].reset();
    if (last_slot_ == slot) last_slot_ = -1;  // the slot may soon belong to another key
  }

  bool Has(int32_t slot) const { return slot >= 0 && static_cast<size_t>(slot) < kMaxKeys && keys_[slot]; }

  // Under the key of an occupied slot. `out` may overlap `bytes`.
  void Mac(int32_t slot, const uint8_t* bytes, size_t length, uint8_t* out) {
    if (length < kRememberedBytesMin || length > kRememberedBytes) {
      keys_[slot]->Mac(bytes, length, out);
      return;
    }
    if (slot != last_slot_ || length != last_length_ || std::memcmp(bytes, last_bytes_.data(), length) != 0) {
      last_slot_ = slot;
      last_length_ = length;
      std::memcpy(last_bytes_.data(), bytes, length);
      keys_[slot]->Mac(bytes, length, last_mac_.data());
    }
    std::memcpy(out, last_mac_.data(), kMacBytes);
  }

 private:
  std::array<std::unique_ptr<Key>, kMaxKeys> keys_;
  // The last authenticated bytes; slot -1: none.
  int32_t last_slot_ = -1;
  size_t last_length_ = 0;
  std::array<uint8_t, kRememberedBytes> last_bytes_;
  std::array<uint8_t, kMacBytes> last_mac_;
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
  if (&SHA256_Init == nullptr || &SHA256_Update == nullptr || &SHA256_Final == nullptr) {
    ThrowFailure(env, "hmac-unavailable", "hmacOpen: the OpenSSL of this Node offers no SHA256_Init");
    return nullptr;
  }
  const size_t slot = table.Open(key.data);
  if (slot == kMaxKeys) {
    ThrowFailure(env, "hmac-limit", "hmacOpen: 8192 keys are open in this thread; close some");
    return nullptr;
  }
  napi_value result = nullptr;
  napi_create_int32(env, static_cast<int32_t>(slot), &result);
  return result;
}

// hmacClose(slot)
napi_value HmacClose(napi_env env, napi_callback_info info) {
  napi_value args[1];
  HmacTable& table = Arguments(env, info, 1, args);
  int32_t slot;
  if (!ReadInt32(env, args[0], &slot)) {
    ThrowInvalidArgument(env, "hmacClose: the argument must be what hmacOpen gave");
    return nullptr;
  }
  table.Close(slot);
  return nullptr;
}

// hmac128(slot, bytes, offset, length, out, outOffset)
napi_value Hmac128(napi_env env, napi_callback_info info) {
  napi_value args[6];
  HmacTable& table = Arguments(env, info, 6, args);
  int32_t slot;
  if (!ReadInt32(env, args[0], &slot) || !table.Has(slot)) {
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
  table.Mac(slot, bytes.data + offset, length, out.data + out_offset);  // written at the end: the ranges may overlap
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
