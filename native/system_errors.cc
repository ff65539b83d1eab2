#include "system_errors.h"

#include <algorithm>
#include <cstring>
#include <string>

namespace jitpaxos {

void ThrowErrno(Napi::Env env, int error_number, const char* syscall) {
  Napi::Error error = Napi::Error::New(env, std::string(syscall) + ": " + std::strerror(error_number));
  error.Value().Set("errno", Napi::Number::New(env, -error_number));
  error.Value().Set("syscall", Napi::String::New(env, syscall));
  error.ThrowAsJavaScriptException();
}

void ThrowCode(Napi::Env env, const char* code, const char* message) {
  Napi::Error error = Napi::Error::New(env, message);
  error.Value().Set("code", Napi::String::New(env, code));
  error.ThrowAsJavaScriptException();
}

namespace {

int64_t* BigInt64Data(Napi::Env env, Napi::Value value, size_t* length) {
  napi_typedarray_type type;
  void* data;
  if (napi_get_typedarray_info(env, value, &type, length, &data, nullptr, nullptr) != napi_ok) return nullptr;
  return type == napi_bigint64_array ? static_cast<int64_t*>(data) : nullptr;
}

}  // namespace

bool ReadBigInt64s(Napi::Env env, Napi::Value value, size_t count, int64_t* out) {
  size_t length = 0;
  const int64_t* data = BigInt64Data(env, value, &length);
  if (data == nullptr || length != count) return false;
  std::copy(data, data + count, out);
  return true;
}

bool WriteBigInt64s(Napi::Env env, Napi::Value value, size_t count, const int64_t* from) {
  size_t length = 0;
  int64_t* data = BigInt64Data(env, value, &length);
  if (data == nullptr || length < count) return false;
  std::copy(from, from + count, data);
  return true;
}

}  // namespace jitpaxos
