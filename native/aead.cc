// AES-128-GCM over whole datagrams (NIST SP 800-38D): encrypts and authenticates them in place. The cipher comes from
// the OpenSSL inside Node, as SHA-256 does in hmac.cc.
//
// A stream is one key, ready for use in one direction. Its context is made once; a datagram sets only the nonce. The
// cipher's functions are called as OpenSSL calls them itself, through the table of its provider (provider-cipher(7)).
// Its EVP calls do the same, but EVP_CipherInit_ex asks for the nonce's length each time, by comparing names of
// parameters, which costs as much as a short datagram's encryption. Nothing is allocated for a datagram.
//
// The caller says where nonce, tag, authenticated head and encrypted body lie in its datagrams (Frame). Streams of one
// direction are in a table. A table may know memory of the addon in which most datagrams lie: a call for one of these
// has no arguments, which saves what asking JavaScript about an array and its numbers costs.
//
// Unlike a MAC in hmac.cc, a sealed datagram is not kept in case that the next one is the same: reading it back right
// after it was written costs more than sealing it, and a request to several replicas is sealed once anyway.

#include <napi.h>
#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/provider.h>
#include <strings.h>

#include <cstring>
#include <memory>
#include <vector>

#include "arguments.h"
#include "capabilities.h"
#include "shared_array.h"

// A newer Node may lack them: aeadTable then says so, and the addon loads all the same.
#pragma weak EVP_CIPHER_fetch
#pragma weak EVP_CIPHER_get0_provider
#pragma weak OSSL_PROVIDER_get0_provider_ctx
#pragma weak OSSL_PROVIDER_query_operation
#pragma weak OSSL_PROVIDER_unquery_operation

namespace jitpaxos {

namespace {

constexpr char kCipher[] = "AES-128-GCM";
constexpr size_t kKeyBytes = 16;
constexpr size_t kTagBytes = 16;
constexpr size_t kNonceBytes = 12;
// The authenticated bytes in clear, gathered on the stack.
constexpr size_t kClearBytesMax = 64;
// A head of at most this length is copied with what follows it.
constexpr size_t kShortHead = 32;

// Where the parts of a datagram lie: see AeadFrame in src/native/aead.ts. Seven bytes, in this order.
struct Frame {
  uint8_t nonce_at, nonce_bytes, tag_at, head_bytes, tail_at, tail_bytes, body_at;

  bool IsValid() const {
    return nonce_bytes <= kNonceBytes && nonce_at + nonce_bytes <= body_at && tag_at + kTagBytes <= body_at &&
           head_bytes <= body_at && tail_at + tail_bytes <= body_at && head_bytes + tail_bytes <= kClearBytesMax;
  }
};
static_assert(sizeof(Frame) == 7);

// The cipher's functions, of the provider from which OpenSSL takes it.
class Cipher {
 public:
  // Null if this Node has no OpenSSL 3, or one that encrypts otherwise than SP 800-38D.
  static const Cipher* Get() {
    static const Cipher cipher;  // kept for the life of the process, and with it the provider
    return cipher.works_ ? &cipher : nullptr;
  }

  void* MakeContext() const { return make_(provider_); }
  void FreeContext(void* context) const { free_(context); }  // cleanses the key

  // A key, or a nonce, or both. `tag`: what a datagram to be opened has to have.
  bool Begin(void* context, bool seals, const uint8_t* key, const uint8_t* nonce, uint8_t* tag) const {
    const OSSL_PARAM parameters[] = {Tag(tag), kEnd};
    return (seals ? seal_ : open_)(context, key, key == nullptr ? 0 : kKeyBytes, nonce, nonce == nullptr ? 0 : kNonceBytes, tag == nullptr ? nullptr : parameters) == 1;
  }

  bool Authenticate(void* context, const uint8_t* clear, size_t length) const { return Run(context, nullptr, clear, length); }
  bool Crypt(void* context, uint8_t* body, size_t length) const { return Run(context, body, body, length); }
  // When opening: false if the tag is not the right one. OpenSSL compares in constant time.
  bool End(void* context) const { return Run(context, nullptr, nullptr, 0); }

  bool ReadTag(void* context, uint8_t* tag) const {
    OSSL_PARAM parameters[] = {Tag(tag), kEnd};
    return get_(context, parameters) == 1;
  }

 private:
  static constexpr OSSL_PARAM kEnd = {nullptr, 0, nullptr, 0, 0};

  static OSSL_PARAM Tag(uint8_t* tag) { return {OSSL_CIPHER_PARAM_AEAD_TAG, OSSL_PARAM_OCTET_STRING, tag, kTagBytes, OSSL_PARAM_UNMODIFIED}; }

  Cipher() : works_(Find() && IsRight()) {}

  bool Run(void* context, uint8_t* out, const uint8_t* in, size_t length) const {
    size_t written;
    return run_(context, out, &written, length, in, length) == 1;
  }

  bool Find() {
    if (&EVP_CIPHER_fetch == nullptr || &EVP_CIPHER_get0_provider == nullptr || &OSSL_PROVIDER_get0_provider_ctx == nullptr ||
        &OSSL_PROVIDER_query_operation == nullptr || &OSSL_PROVIDER_unquery_operation == nullptr)
      return false;
    const EVP_CIPHER* fetched = EVP_CIPHER_fetch(nullptr, kCipher, nullptr);  // never freed: it keeps the provider loaded
    if (fetched == nullptr) return false;
    const OSSL_PROVIDER* provider = EVP_CIPHER_get0_provider(fetched);
    provider_ = OSSL_PROVIDER_get0_provider_ctx(provider);
    int no_cache;
    const OSSL_ALGORITHM* all = OSSL_PROVIDER_query_operation(provider, OSSL_OP_CIPHER, &no_cache);
    for (const OSSL_ALGORITHM* one = all; one != nullptr && one->algorithm_names != nullptr; one++) {
      if (IsNamed(one->algorithm_names)) {
        Take(one->implementation);
        break;
      }
    }
    OSSL_PROVIDER_unquery_operation(provider, OSSL_OP_CIPHER, all);
    return make_ != nullptr && free_ != nullptr && seal_ != nullptr && open_ != nullptr && run_ != nullptr && get_ != nullptr;
  }

  // `names` has colons between them, the usual one first.
  static bool IsNamed(const char* names) {
    const size_t length = sizeof kCipher - 1;
    return strncasecmp(names, kCipher, length) == 0 && (names[length] == ':' || names[length] == '\0');
  }

  void Take(const OSSL_DISPATCH* function) {
    for (; function->function_id != 0; function++) {
      switch (function->function_id) {
        case OSSL_FUNC_CIPHER_NEWCTX: make_ = OSSL_FUNC_cipher_newctx(function); break;
        case OSSL_FUNC_CIPHER_FREECTX: free_ = OSSL_FUNC_cipher_freectx(function); break;
        case OSSL_FUNC_CIPHER_ENCRYPT_INIT: seal_ = OSSL_FUNC_cipher_encrypt_init(function); break;
        case OSSL_FUNC_CIPHER_DECRYPT_INIT: open_ = OSSL_FUNC_cipher_decrypt_init(function); break;
        case OSSL_FUNC_CIPHER_CIPHER: run_ = OSSL_FUNC_cipher_cipher(function); break;
        case OSSL_FUNC_CIPHER_GET_CTX_PARAMS: get_ = OSSL_FUNC_cipher_get_ctx_params(function); break;
        default: break;
      }
    }
  }

  // Whether it seals and opens one known text as it should, and refuses it if a bit was changed: test case 4 of the
  // submission of GCM to NIST. A provider that this file does not know may want to be called otherwise.
  bool IsRight() const;

  void* provider_ = nullptr;
  OSSL_FUNC_cipher_newctx_fn* make_ = nullptr;
  OSSL_FUNC_cipher_freectx_fn* free_ = nullptr;
  OSSL_FUNC_cipher_encrypt_init_fn* seal_ = nullptr;
  OSSL_FUNC_cipher_decrypt_init_fn* open_ = nullptr;
  OSSL_FUNC_cipher_cipher_fn* run_ = nullptr;
  OSSL_FUNC_cipher_get_ctx_params_fn* get_ = nullptr;
  const bool works_;
};

class Stream {
 public:
  Stream(const Cipher& cipher, const Frame& frame, bool seals) : cipher_(cipher), frame_(frame), seals_(seals), context_(cipher.MakeContext()) {}
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  ~Stream() {
    if (context_ != nullptr) cipher_.FreeContext(context_);
  }

  bool valid() const { return context_ != nullptr; }
  bool has_key() const { return has_key_; }

  bool SetKey(const uint8_t* key) { return has_key_ = cipher_.Begin(context_, seals_, key, nullptr, nullptr); }

  void Forget() {
    const uint8_t zeros[kKeyBytes] = {};
    SetKey(zeros);
    has_key_ = false;
  }

  bool Seal(uint8_t* datagram, size_t length) {
    return Crypt(datagram, length, nullptr) && cipher_.ReadTag(context_, datagram + frame_.tag_at);
  }

  // False: not authentic, and the body is garbage.
  bool Open(uint8_t* datagram, size_t length) { return Crypt(datagram, length, datagram + frame_.tag_at); }

 private:
  bool Crypt(uint8_t* datagram, size_t length, uint8_t* tag) {
    // The frame of the wire is copied with lengths that the compiler knows. With other lengths the copies took 50 ns
    // (docs/internals/decisions/encryption.md).
    uint8_t nonce[kNonceBytes] = {};
    if (frame_.nonce_bytes == sizeof(uint64_t)) std::memcpy(nonce + kNonceBytes - sizeof(uint64_t), datagram + frame_.nonce_at, sizeof(uint64_t));
    else std::memcpy(nonce + kNonceBytes - frame_.nonce_bytes, datagram + frame_.nonce_at, frame_.nonce_bytes);
    uint8_t clear[kClearBytesMax];
    if (frame_.head_bytes <= kShortHead && frame_.body_at >= kShortHead) std::memcpy(clear, datagram, kShortHead);
    else std::memcpy(clear, datagram, frame_.head_bytes);
    for (size_t i = 0; i < frame_.tail_bytes; i++) clear[frame_.head_bytes + i] = datagram[frame_.tail_at + i];
    const size_t clear_bytes = frame_.head_bytes + frame_.tail_bytes;
    const size_t body_bytes = length - frame_.body_at;
    return cipher_.Begin(context_, seals_, nullptr, nonce, tag) &&
           (clear_bytes == 0 || cipher_.Authenticate(context_, clear, clear_bytes)) &&
           (body_bytes == 0 || cipher_.Crypt(context_, datagram + frame_.body_at, body_bytes)) && cipher_.End(context_);
  }

  const Cipher& cipher_;
  const Frame frame_;
  const bool seals_;
  void* const context_;
  bool has_key_ = false;
};

bool Cipher::IsRight() const {
  static constexpr uint8_t kKey[] = {0xfe, 0xff, 0xe9, 0x92, 0x86, 0x65, 0x73, 0x1c, 0x6d, 0x6a, 0x8f, 0x94, 0x67, 0x30, 0x83, 0x08};
  static constexpr uint8_t kTag[] = {0x5b, 0xc9, 0x4f, 0xbc, 0x32, 0x21, 0xa5, 0xdb, 0x94, 0xfa, 0xe9, 0x5a, 0xe7, 0x12, 0x1a, 0x47};
  // Clear bytes, nonce, room for the tag, body.
  static constexpr uint8_t kPlain[] = {
      0xfe, 0xed, 0xfa, 0xce, 0xde, 0xad, 0xbe, 0xef, 0xfe, 0xed, 0xfa, 0xce, 0xde, 0xad, 0xbe, 0xef, 0xab, 0xad, 0xda, 0xd2,
      0xca, 0xfe, 0xba, 0xbe, 0xfa, 0xce, 0xdb, 0xad, 0xde, 0xca, 0xf8, 0x88,
      0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
      0xd9, 0x31, 0x32, 0x25, 0xf8, 0x84, 0x06, 0xe5, 0xa5, 0x59, 0x09, 0xc5, 0xaf, 0xf5, 0x26, 0x9a, 0x86, 0xa7, 0xa9, 0x53,
      0x15, 0x34, 0xf7, 0xda, 0x2e, 0x4c, 0x30, 0x3d, 0x8a, 0x31, 0x8a, 0x72, 0x1c, 0x3c, 0x0c, 0x95, 0x95, 0x68, 0x09, 0x53,
      0x2f, 0xcf, 0x0e, 0x24, 0x49, 0xa6, 0xb5, 0x25, 0xb1, 0x6a, 0xed, 0xf5, 0xaa, 0x0d, 0xe6, 0x57, 0xba, 0x63, 0x7b, 0x39,
  };
  constexpr Frame kFrame = {20, 12, 32, 20, 48, 0, 48};
  uint8_t datagram[sizeof kPlain];
  std::memcpy(datagram, kPlain, sizeof datagram);
  Stream sealing(*this, kFrame, true), opening(*this, kFrame, false);
  if (!sealing.valid() || !opening.valid() || !sealing.SetKey(kKey) || !opening.SetKey(kKey)) return false;
  if (!sealing.Seal(datagram, sizeof datagram) || std::memcmp(datagram + kFrame.tag_at, kTag, kTagBytes) != 0) return false;
  uint8_t forged[sizeof datagram];
  std::memcpy(forged, datagram, sizeof forged);
  forged[0] ^= 1;
  if (opening.Open(forged, sizeof forged) || !opening.Open(datagram, sizeof datagram)) return false;
  return std::memcmp(datagram + kFrame.body_at, kPlain + kFrame.body_at, sizeof datagram - kFrame.body_at) == 0;
}

void ThrowFailure(napi_env env, const char* code, const char* message) {
  Napi::Error error = Napi::Error::New(env, message);
  error.Value().Set("code", Napi::String::New(env, code));
  error.ThrowAsJavaScriptException();
}

// Streams of one direction, by slot.
class Table {
 public:
  Table(const Cipher& cipher, const Frame& frame, bool seals, std::shared_ptr<uint8_t> memory, size_t memory_length)
      : fields(kFields), cipher_(cipher), frame_(frame), seals_(seals), memory_(std::move(memory)), memory_length_(memory_length) {}

  // What a call without arguments takes and gives: AeadField in src/native/addon.ts.
  enum Field : size_t { kSlot, kOffset, kLength, kIntact, kFields };
  const SharedArray<int32_t> fields;

  // A slot for one stream, which has no key yet; kSlotsMax if all are taken, or OpenSSL makes no context.
  size_t Take() {
    if (!free_.empty()) {
      const size_t slot = free_.back();
      free_.pop_back();
      return slot;
    }
    if (streams_.size() == kSlotsMax) return kSlotsMax;
    auto stream = std::make_unique<Stream>(cipher_, frame_, seals_);
    if (!stream->valid()) return kSlotsMax;
    streams_.push_back(std::move(stream));
    free_.reserve(streams_.size());
    return streams_.size() - 1;
  }

  // The context stays, without a key, for the next stream.
  void Free(size_t slot) {
    streams_[slot]->Forget();
    free_.push_back(slot);
  }

  // Null if there is no such slot.
  Stream* At(size_t slot) const { return slot < streams_.size() ? streams_[slot].get() : nullptr; }

  // The datagram that the fields name, or null.
  uint8_t* InMemory() const {
    const int32_t offset = fields[kOffset], length = fields[kLength];
    if (memory_ == nullptr || offset < 0 || length < frame_.body_at) return nullptr;
    return Fits(memory_length_, static_cast<size_t>(offset), static_cast<size_t>(length)) ? memory_.get() + offset : nullptr;
  }

  bool Run(Stream* stream, uint8_t* datagram, size_t length) const { return seals_ ? stream->Seal(datagram, length) : stream->Open(datagram, length); }

  bool seals() const { return seals_; }
  size_t body_at() const { return frame_.body_at; }

  // Twice what a replica remembers: see src/wire/streams.ts.
  static constexpr size_t kSlotsMax = 8192;

 private:
  const Cipher& cipher_;
  const Frame frame_;
  const bool seals_;
  const std::shared_ptr<uint8_t> memory_;
  const size_t memory_length_;
  std::vector<std::unique_ptr<Stream>> streams_;
  std::vector<size_t> free_;
};

Table& Arguments(napi_env env, napi_callback_info info, size_t count, napi_value* args) {
  void* table;
  napi_get_cb_info(env, info, &count, args, nullptr, &table);
  return *static_cast<Table*>(table);
}

void ThrowNoKey(napi_env env) { ThrowInvalidArgument(env, "aead: the slot must be what setKey gave and forget has not taken"); }
void ThrowUnsealed(napi_env env) { ThrowFailure(env, "aead-failed", "aead: OpenSSL encrypted nothing"); }

// A slot with a key; null after an exception.
Stream* ReadStream(napi_env env, const Table& table, napi_value value, size_t* slot) {
  Stream* stream = ReadIndex(env, value, slot) ? table.At(*slot) : nullptr;
  if (stream != nullptr && stream->has_key()) return stream;
  ThrowNoKey(env);
  return nullptr;
}

// setKey(slot, key) -> slot; -1 for a new one
napi_value SetKey(napi_env env, napi_callback_info info) {
  napi_value args[2];
  Table& table = Arguments(env, info, 2, args);
  ByteSpan key;
  if (!ReadBytes(env, args[1], &key) || key.length != kKeyBytes) {
    ThrowInvalidArgument(env, "setKey: key must be a Uint8Array of 16 bytes");
    return nullptr;
  }
  int32_t given;
  size_t slot;
  if (ReadInt32(env, args[0], &given) && given == -1) {
    slot = table.Take();
    if (slot == Table::kSlotsMax) {
      ThrowFailure(env, "aead-limit", "setKey: 8192 streams have a key, or OpenSSL makes no context; forget some");
      return nullptr;
    }
  } else if (ReadStream(env, table, args[0], &slot) == nullptr) {
    return nullptr;
  }
  if (!table.At(slot)->SetKey(key.data)) {
    table.Free(slot);
    ThrowFailure(env, "aead-failed", "setKey: OpenSSL refused the key");
    return nullptr;
  }
  napi_value result = nullptr;
  napi_create_int32(env, static_cast<int32_t>(slot), &result);
  return result;
}

// forget(slot)
napi_value Forget(napi_env env, napi_callback_info info) {
  napi_value args[1];
  Table& table = Arguments(env, info, 1, args);
  size_t slot;
  if (ReadStream(env, table, args[0], &slot) != nullptr) table.Free(slot);
  return nullptr;
}

// run(slot, bytes, offset, length) -> boolean: true if it was sealed, or is authentic
napi_value Run(napi_env env, napi_callback_info info) {
  napi_value args[4];
  Table& table = Arguments(env, info, 4, args);
  size_t slot;
  Stream* stream = ReadStream(env, table, args[0], &slot);
  if (stream == nullptr) return nullptr;
  ByteSpan bytes;
  if (!ReadBytes(env, args[1], &bytes)) {
    ThrowInvalidArgument(env, "aead: bytes must be a Uint8Array");
    return nullptr;
  }
  size_t offset, length;
  if (!ReadIndex(env, args[2], &offset) || !ReadIndex(env, args[3], &length) || !Fits(bytes.length, offset, length) ||
      length < table.body_at() || length > INT32_MAX) {
    ThrowOutOfBounds(env, "aead: offset and length must be whole numbers from 0 on, stay inside bytes and hold the frame");
    return nullptr;
  }
  const bool good = table.Run(stream, bytes.data + offset, length);
  if (!good && table.seals()) {
    ThrowUnsealed(env);
    return nullptr;
  }
  napi_value result = nullptr;
  napi_get_boolean(env, good, &result);
  return result;
}

// runInMemory(): the same for a datagram in the table's memory; everything lies in the fields
napi_value RunInMemory(napi_env env, napi_callback_info info) {
  void* data;
  napi_get_cb_info(env, info, nullptr, nullptr, nullptr, &data);
  Table& table = *static_cast<Table*>(data);
  // JavaScript may write to the fields at any time, but not while this runs: it is this thread's.
  const int32_t slot = table.fields[Table::kSlot];
  Stream* stream = slot < 0 ? nullptr : table.At(static_cast<size_t>(slot));
  if (stream == nullptr || !stream->has_key()) {
    ThrowNoKey(env);
    return nullptr;
  }
  uint8_t* datagram = table.InMemory();
  if (datagram == nullptr) {
    ThrowOutOfBounds(env, "aead: offset and length must be from 0 on, stay inside the memory and hold the frame");
    return nullptr;
  }
  const bool good = table.Run(stream, datagram, static_cast<size_t>(table.fields[Table::kLength]));
  table.fields[Table::kIntact] = good ? 1 : 0;
  if (!good && table.seals()) ThrowUnsealed(env);
  return nullptr;
}

// aeadTable(frame, seals[, memory]): see AeadTable in src/native/addon.ts
Napi::Value MakeTable(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  ByteSpan bytes;
  Frame frame;
  if (!ReadBytes(env, info[0], &bytes) || bytes.length != sizeof frame || !info[1].IsBoolean()) {
    ThrowInvalidArgument(env, "aeadTable: frame must be a Uint8Array of 7 bytes, and seals a boolean");
    return env.Undefined();
  }
  std::memcpy(&frame, bytes.data, sizeof frame);
  if (!frame.IsValid()) {
    ThrowInvalidArgument(env, "aeadTable: nonce, tag, head and tail of the frame must lie before its body");
    return env.Undefined();
  }
  std::shared_ptr<uint8_t> memory;
  bytes = {nullptr, 0};
  if (!info[2].IsUndefined()) {
    if (ReadBytes(env, info[2], &bytes)) memory = OwnMemory::Find(bytes);
    if (memory == nullptr) {
      ThrowInvalidArgument(env, "aeadTable: memory must be an array that the addon made in this thread, as a whole");
      return env.Undefined();
    }
  }
  const Cipher* cipher = Cipher::Get();
  if (cipher == nullptr) {
    ThrowFailure(env, "aead-unavailable", "aeadTable: the OpenSSL of this Node offers no AES-128-GCM that it can call");
    return env.Undefined();
  }
  const auto owned = std::make_shared<Table>(*cipher, frame, info[1].As<Napi::Boolean>().Value(), memory, bytes.length);
  Table* table = owned.get();
  if (!table->fields.valid()) {
    Napi::Error::New(env, "aeadTable: the system has no memory for it").ThrowAsJavaScriptException();
    return env.Undefined();
  }
  Napi::Object result = Napi::Object::New(env);
  result.Set("fields", table->fields.Expose(env));
  const struct {
    const char* name;
    napi_callback callback;
  } functions[] = {{"setKey", SetKey}, {"forget", Forget}, {"run", Run}, {"runInMemory", RunInMemory}};
  for (const auto& [name, callback] : functions) {
    // Raw Node-API, like everything called for a datagram. Each function holds a share of the table.
    auto share = std::make_unique<std::shared_ptr<Table>>(owned);
    napi_value function;
    if (napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, table, &function) != napi_ok) return env.Undefined();
    auto release = [](napi_env, void* data, void*) { delete static_cast<std::shared_ptr<Table>*>(data); };
    if (napi_add_finalizer(env, function, share.get(), release, nullptr, nullptr) != napi_ok) return env.Undefined();
    share.release();
    result.Set(name, Napi::Function(env, function));
  }
  return result;
}

}  // namespace

void RegisterAead(Napi::Env env, Napi::Object exports) { exports.Set("aeadTable", Napi::Function::New(env, MakeTable, "aeadTable")); }

}  // namespace jitpaxos
