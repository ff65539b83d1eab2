// Registers the capabilities of the addon, says of which version it is, and does nothing else.

#include "capabilities.h"

namespace {

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  jitpaxos::RegisterClock(env, exports);
  jitpaxos::RegisterHash(env, exports);
  jitpaxos::RegisterUdp(env, exports);
  jitpaxos::RegisterHmac(env, exports);
  jitpaxos::RegisterAead(env, exports);
  jitpaxos::RegisterKernelClock(env, exports);
  jitpaxos::RegisterUnixDatagram(env, exports);
  jitpaxos::RegisterTimer(env, exports);
  exports.Set("version", Napi::String::New(env, JITPAXOS_VERSION));
  return exports;
}

}  // namespace

NODE_API_MODULE(jitpaxos, Init)
