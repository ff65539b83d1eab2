// How the addon refuses arguments: the same errors that the TypeScript side throws (src/native/errors.ts), so that a
// caller cannot tell which of the two checked.

#include "arguments.h"

#include <napi.h>

namespace jitpaxos {

namespace {

void ThrowCallerError(Napi::Error error, const char* code) {
  Napi::Object object = error.Value();
  Napi::Env env = error.Env();
  object.Set("code", Napi::String::New(env, code));
  object.Set("category", Napi::String::New(env, "caller"));
  object.Set("retryable", Napi::Boolean::New(env, false));
  error.ThrowAsJavaScriptException();
}

}  // namespace

void ThrowOutOfBounds(napi_env env, const char* message) {
  ThrowCallerError(Napi::RangeError::New(env, message), "out-of-bounds");
}

void ThrowInvalidArgument(napi_env env, const char* message) {
  ThrowCallerError(Napi::TypeError::New(env, message), "invalid-argument");
}

}  // namespace jitpaxos
