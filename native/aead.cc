// AES-128-GCM over whole datagrams (NIST SP 800-38D): encrypts and authenticates them in place. The cipher comes from
// the OpenSSL inside Node, as SHA-256 does in hmac.cc.
//
// A stream is one key, ready for use in one direction. Its context is made once; a datagram sets only the nonce. The
// usual calls, which fetch the cipher or set the nonce's length each time, cost two to four times as much. Nothing is
// allocated for a datagram.
//
// The caller says where nonce, tag, authenticated head and encrypted body lie in its datagrams (Frame), so that a
// datagram costs one call with three arguments.
//
// Unlike a MAC in hmac.cc, a sealed datagram is not kept in case that the next one is the same: reading it back right
// after it was written costs more than sealing it, and a request to several replicas is sealed once anyway.

#include <napi.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include <cstring>
#include <memory>

#include "arguments.h"
#include "capabilities.h"

// A newer Node may lack them: AeadStream then says so, and the addon loads all the same.
#pragma weak EVP_aes_128_gcm
#pragma weak EVP_CIPHER_CTX_new
#pragma weak EVP_CIPHER_CTX_free
#pragma weak EVP_CipherInit_ex
#pragma weak EVP_Cipher
#pragma weak EVP_CIPHER_CTX_get_params
#pragma weak EVP_CIPHER_CTX_set_params
#pragma weak OSSL_PARAM_construct_octet_string
#pragma weak OSSL_PARAM_construct_end

namespace jitpaxos {

namespace {

constexpr size_t kKeyBytes = 16;
constexpr size_t kTagBytes = 16;
constexpr size_t kNonceBytes = 12;
// The authenticated bytes in clear, gathered on the stack.
constexpr size_t kClearBytesMax = 64;

bool Available() {
  return &EVP_aes_128_gcm != nullptr && &EVP_CIPHER_CTX_new != nullptr && &EVP_CIPHER_CTX_free != nullptr &&
         &EVP_CipherInit_ex != nullptr && &EVP_Cipher != nullptr && &EVP_CIPHER_CTX_get_params != nullptr &&
         &EVP_CIPHER_CTX_set_params != nullptr && &OSSL_PARAM_construct_octet_string != nullptr &&
         &OSSL_PARAM_construct_end != nullptr;
}

// Where the parts of a datagram lie: see AeadFrame in src/native/aead.ts. Seven bytes, in this order.
struct Frame {
  uint8_t nonce_at, nonce_bytes, tag_at, head_bytes, tail_at, tail_bytes, body_at;

  bool IsValid() const {
    return nonce_bytes <= kNonceBytes && nonce_at + nonce_bytes <= body_at && tag_at + kTagBytes <= body_at &&
           head_bytes <= body_at && tail_at + tail_bytes <= body_at && head_bytes + tail_bytes <= kClearBytesMax;
  }
};
static_assert(sizeof(Frame) == 7);

class Stream {
 public:
  Stream(const Frame& frame, bool seals) : frame_(frame), seals_(seals), context_(EVP_CIPHER_CTX_new()) {}
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  ~Stream() { EVP_CIPHER_CTX_free(context_); }  // cleanses the key

  bool valid() const { return context_ != nullptr; }
  bool has_key() const { return has_key_; }
  bool seals() const { return seals_; }
  size_t body_at() const { return frame_.body_at; }

  bool SetKey(const uint8_t* key) {
    // The cipher is named once: naming it makes OpenSSL look it up.
    has_key_ = EVP_CipherInit_ex(context_, was_named_ ? nullptr : EVP_aes_128_gcm(), nullptr, key, nullptr, seals_ ? 1 : 0) == 1;
    was_named_ = was_named_ || has_key_;
    return has_key_;
  }

  void Forget() {
    if (!has_key_) return;
    const uint8_t zeros[kKeyBytes] = {};
    SetKey(zeros);
    has_key_ = false;
  }

  bool Seal(uint8_t* datagram, size_t length) {
    OSSL_PARAM parameters[] = {OSSL_PARAM_construct_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG, datagram + frame_.tag_at, kTagBytes),
                               OSSL_PARAM_construct_end()};
    return Crypt(datagram, length) && EVP_Cipher(context_, nullptr, nullptr, 0) >= 0 &&
           EVP_CIPHER_CTX_get_params(context_, parameters) == 1;
  }

  // False: not authentic, and the body is garbage.
  bool Open(uint8_t* datagram, size_t length) {
    OSSL_PARAM parameters[] = {OSSL_PARAM_construct_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG, datagram + frame_.tag_at, kTagBytes),
                               OSSL_PARAM_construct_end()};
    return Crypt(datagram, length) && EVP_CIPHER_CTX_set_params(context_, parameters) == 1 &&
           EVP_Cipher(context_, nullptr, nullptr, 0) >= 0;
  }

 private:
  // Everything but the tag.
  bool Crypt(uint8_t* datagram, size_t length) {
    uint8_t nonce[kNonceBytes] = {};
    std::memcpy(nonce + kNonceBytes - frame_.nonce_bytes, datagram + frame_.nonce_at, frame_.nonce_bytes);
    if (EVP_CipherInit_ex(context_, nullptr, nullptr, nullptr, nonce, -1) != 1) return false;
    uint8_t clear[kClearBytesMax];
    std::memcpy(clear, datagram, frame_.head_bytes);
    std::memcpy(clear + frame_.head_bytes, datagram + frame_.tail_at, frame_.tail_bytes);
    const unsigned clear_bytes = static_cast<unsigned>(frame_.head_bytes + frame_.tail_bytes);
    if (clear_bytes > 0 && EVP_Cipher(context_, nullptr, clear, clear_bytes) < 0) return false;
    const unsigned body_bytes = static_cast<unsigned>(length - frame_.body_at);
    uint8_t* body = datagram + frame_.body_at;
    return body_bytes == 0 || EVP_Cipher(context_, body, body, body_bytes) >= 0;
  }

  const Frame frame_;
  const bool seals_;
  EVP_CIPHER_CTX* const context_;
  bool was_named_ = false;
  bool has_key_ = false;
};

void ThrowFailure(Napi::Env env, const char* code, const char* message) {
  Napi::Error error = Napi::Error::New(env, message);
  error.Value().Set("code", Napi::String::New(env, code));
  error.ThrowAsJavaScriptException();
}

// new AeadStream(frame, seals): see AeadStreamHandle in src/native/addon.ts.
class AeadStreamObject : public Napi::ObjectWrap<AeadStreamObject> {
 public:
  static Napi::Function Define(Napi::Env env) {
    return DefineClass(env, "AeadStream",
                       {Hot("setKey", SetKey), Hot("seal", Seal), Hot("open", Open), Hot("forget", Forget)});
  }

  explicit AeadStreamObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<AeadStreamObject>(info) {
    Napi::Env env = info.Env();
    ByteSpan bytes;
    Frame frame;
    if (info.Length() < 2 || !ReadBytes(env, info[0], &bytes) || bytes.length != sizeof frame || !info[1].IsBoolean()) {
      ThrowInvalidArgument(env, "AeadStream: frame must be a Uint8Array of 7 bytes, and seals a boolean");
      return;
    }
    std::memcpy(&frame, bytes.data, sizeof frame);
    if (!frame.IsValid()) {
      ThrowInvalidArgument(env, "AeadStream: nonce, tag, head and tail of the frame must lie before its body");
      return;
    }
    if (!Available()) {
      ThrowFailure(env, "aead-unavailable", "AeadStream: the OpenSSL of this Node offers no EVP_Cipher");
      return;
    }
    stream_ = std::make_unique<Stream>(frame, info[1].As<Napi::Boolean>().Value());
    if (!stream_->valid()) {
      stream_.reset();
      ThrowFailure(env, "aead-failed", "AeadStream: OpenSSL made no cipher context");
    }
  }

 private:
  using Method = napi_value (*)(napi_env, napi_callback_info);

  // A method without node-addon-api's wrapping. V8 checks that it is called on an AeadStream.
  static Napi::ClassPropertyDescriptor<AeadStreamObject> Hot(const char* name, Method method) {
    napi_property_descriptor descriptor = {};
    descriptor.utf8name = name;
    descriptor.method = method;
    return descriptor;
  }

  static Stream* Self(napi_env env, napi_callback_info info, size_t count, napi_value* args) {
    napi_value self;
    void* object = nullptr;
    napi_get_cb_info(env, info, &count, args, &self, nullptr);
    napi_unwrap(env, self, &object);
    return object == nullptr ? nullptr : static_cast<AeadStreamObject*>(object)->stream_.get();
  }

  // The datagram in the arguments (bytes, offset, length), or null after an exception.
  static uint8_t* Datagram(napi_env env, const Stream* stream, bool seals, const napi_value* args, size_t* length) {
    if (stream == nullptr || !stream->has_key() || stream->seals() != seals) {
      ThrowInvalidArgument(env, "AeadStream: it has no key now, or a key for the other direction");
      return nullptr;
    }
    ByteSpan bytes;
    size_t offset;
    if (!ReadBytes(env, args[0], &bytes)) {
      ThrowInvalidArgument(env, "AeadStream: bytes must be a Uint8Array");
      return nullptr;
    }
    if (!ReadIndex(env, args[1], &offset) || !ReadIndex(env, args[2], length) || !Fits(bytes.length, offset, *length) ||
        *length < stream->body_at() || *length > 0x7fffffff) {
      ThrowOutOfBounds(env, "AeadStream: offset and length must be whole numbers from 0 on, stay inside bytes and hold the frame");
      return nullptr;
    }
    return bytes.data + offset;
  }

  // setKey(key)
  static napi_value SetKey(napi_env env, napi_callback_info info) {
    napi_value args[1];
    Stream* stream = Self(env, info, 1, args);
    ByteSpan key;
    if (stream == nullptr || !ReadBytes(env, args[0], &key) || key.length != kKeyBytes) {
      ThrowInvalidArgument(env, "setKey: key must be a Uint8Array of 16 bytes");
      return nullptr;
    }
    if (!stream->SetKey(key.data)) ThrowFailure(env, "aead-failed", "setKey: OpenSSL refused the key");
    return nullptr;
  }

  // seal(bytes, offset, length)
  static napi_value Seal(napi_env env, napi_callback_info info) {
    napi_value args[3];
    Stream* stream = Self(env, info, 3, args);
    size_t length;
    uint8_t* datagram = Datagram(env, stream, true, args, &length);
    if (datagram != nullptr && !stream->Seal(datagram, length))
      ThrowFailure(env, "aead-failed", "seal: OpenSSL encrypted nothing");
    return nullptr;
  }

  // open(bytes, offset, length) -> boolean
  static napi_value Open(napi_env env, napi_callback_info info) {
    napi_value args[3];
    Stream* stream = Self(env, info, 3, args);
    size_t length;
    uint8_t* datagram = Datagram(env, stream, false, args, &length);
    if (datagram == nullptr) return nullptr;
    napi_value result = nullptr;
    napi_get_boolean(env, stream->Open(datagram, length), &result);
    return result;
  }

  // forget()
  static napi_value Forget(napi_env env, napi_callback_info info) {
    if (Stream* stream = Self(env, info, 0, nullptr)) stream->Forget();
    return nullptr;
  }

  std::unique_ptr<Stream> stream_;
};

}  // namespace

void RegisterAead(Napi::Env env, Napi::Object exports) { exports.Set("AeadStream", AeadStreamObject::Define(env)); }

}  // namespace jitpaxos
