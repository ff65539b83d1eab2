// What the kernel was told about its own clock: the record that ntp_adjtime(3) and adjtimex(2) return. Nothing is
// changed.

#include <errno.h>
#include <napi.h>
#include <sys/timex.h>

#include "capabilities.h"
#include "system_errors.h"

namespace jitpaxos {

namespace {

// kernelClock(): the fields of struct timex, in the kernel's own units. Throws with `errno`.
Napi::Value KernelClock(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  timex record = {};
  const int state = adjtimex(&record);
  if (state < 0) {
    ThrowErrno(env, errno, "adjtimex");
    return env.Undefined();
  }
  Napi::Object result = Napi::Object::New(env);
  const auto set = [&](const char* name, double value) { result.Set(name, Napi::Number::New(env, value)); };
  set("state", state);
  set("status", record.status);
  set("offset", static_cast<double>(record.offset));
  set("frequency", static_cast<double>(record.freq));
  set("maxErrorUs", static_cast<double>(record.maxerror));
  set("estimatedErrorUs", static_cast<double>(record.esterror));
  set("taiOffsetS", record.tai);
  return result;
}

}  // namespace

void RegisterKernelClock(Napi::Env env, Napi::Object exports) { exports.Set("kernelClock", Napi::Function::New(env, KernelClock, "kernelClock")); }

}  // namespace jitpaxos
