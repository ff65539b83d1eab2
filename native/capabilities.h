// What addon.cc registers: one function per capability, each defined in the .cc of its name. A capability adds its
// functions to `exports` and keeps its own state for each environment (main thread and every worker load the addon
// separately).
#pragma once

#include <napi.h>

namespace jitpaxos {

void RegisterClock(Napi::Env env, Napi::Object exports);
void RegisterHash(Napi::Env env, Napi::Object exports);
void RegisterUdp(Napi::Env env, Napi::Object exports);
void RegisterHmac(Napi::Env env, Napi::Object exports);
void RegisterAead(Napi::Env env, Napi::Object exports);
void RegisterKernelClock(Napi::Env env, Napi::Object exports);
void RegisterUnixDatagram(Napi::Env env, Napi::Object exports);
void RegisterTimer(Napi::Env env, Napi::Object exports);

}  // namespace jitpaxos
