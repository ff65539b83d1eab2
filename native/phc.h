// The capabilities of a PTP hardware clock, and simultaneous readings of it and of the host's clock.
#pragma once

#include <napi.h>
#include <time.h>

namespace jitpaxos {

// The POSIX clock of an open descriptor of /dev/ptpN: see the top of clock.cc.
constexpr clockid_t DynamicClock(int fd) { return static_cast<clockid_t>((~static_cast<unsigned>(fd) << 3) | 3u); }

// capabilities(): the answer of PTP_CLOCK_GETCAPS. Throws with `errno`.
Napi::Value PhcCapabilities(Napi::Env env, int fd);

// sample(method, count, out): see phc.cc. Throws with `errno` if the device does not support the method.
Napi::Value PhcSampleFromJs(const Napi::CallbackInfo& info, int fd);

}  // namespace jitpaxos
