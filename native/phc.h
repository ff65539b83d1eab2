// What a PTP hardware clock can do, and simultaneous readings of it and of the host's clock.
#pragma once

#include <napi.h>
#include <time.h>

namespace jitpaxos {

// The POSIX clock that an open descriptor of /dev/ptpN is: see the top of clock.cc.
constexpr clockid_t DynamicClock(int fd) { return static_cast<clockid_t>((~static_cast<unsigned>(fd) << 3) | 3u); }

// capabilities(): what PTP_CLOCK_GETCAPS says. Throws with `errno`.
Napi::Value PhcCapabilities(Napi::Env env, int fd);

// sample(method, count, out): see phc.cc. Throws with `errno` when the device does not answer this way.
Napi::Value PhcSampleFromJs(const Napi::CallbackInfo& info, int fd);

}  // namespace jitpaxos
