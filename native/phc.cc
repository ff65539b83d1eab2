// A sample says: while CLOCK_MONOTONIC_RAW went from `raw - bracket / 2` to `raw + bracket / 2`, the device showed
// `device`.
//
// The kernel takes such readings itself, much closer together than a program could: PTP_SYS_OFFSET_PRECISE has the
// hardware latch both at once, PTP_SYS_OFFSET_EXTENDED brackets the very register read, PTP_SYS_OFFSET brackets the
// driver's call. Of several readings, the one with the narrowest bracket was disturbed least and is kept. Source:
// Linux, include/uapi/linux/ptp_clock.h and drivers/ptp/ptp_chardev.c.
//
// All but PRECISE compare with CLOCK_REALTIME, which other programs step and slew. Its reading is converted to the raw
// clock by reading both just before and just after. If these two comparisons differ, the clock was set meanwhile and
// the sample is dropped.

#include "phc.h"

#include <errno.h>
#include <linux/ptp_clock.h>
#include <sys/ioctl.h>
#include <time.h>

#include <cstdint>
#include <cstdlib>
#include <iterator>

#include "arguments.h"
#include "system_errors.h"
#include "wrapping.h"

namespace jitpaxos {

namespace {

// Numbers of src/clock/phc-sampler.ts.
enum Method { kPrecise = 1, kExtended = 2, kOffset = 3, kGettime = 4 };

constexpr int64_t kNsPerS = 1000000000;
// A clock that is slewed by 500 ppm moves by 50 ns in the 100 µs that a slow device takes; one that is set moves more.
constexpr int64_t kRealtimeMovedNs = 500;
constexpr int kPairAttempts = 3;

struct Sample {
  int64_t raw;
  int64_t device;
  int64_t bracket;
};

// CLOCK_REALTIME minus CLOCK_MONOTONIC_RAW, known to `width`.
struct Pair {
  int64_t offset;
  int64_t width;
};

int64_t Ns(const ptp_clock_time& time) { return WrappingAdd(WrappingMultiply(time.sec, kNsPerS), static_cast<int64_t>(time.nsec)); }

int64_t Read(clockid_t clock) {
  timespec reading;
  clock_gettime(clock, &reading);  // the kernel's own clocks: cannot fail
  return Nanoseconds(reading);
}

Pair ReadPair() {
  Pair best = {0, INT64_MAX};
  int64_t before = Read(CLOCK_MONOTONIC_RAW);
  for (int i = 0; i < kPairAttempts; i++) {
    const int64_t realtime = Read(CLOCK_REALTIME);
    const int64_t after = Read(CLOCK_MONOTONIC_RAW);
    if (after - before < best.width) best = {realtime - (before + (after - before) / 2), after - before};
    before = after;
  }
  return best;
}

void KeepNarrowest(int64_t before, int64_t device, int64_t after, Sample* best) {
  const int64_t bracket = WrappingSubtract(after, before);
  if (bracket < 0 || bracket >= best->bracket) return;
  *best = {WrappingAdd(before, bracket / 2), device, bracket};
}

// The following three fill `best`, with `raw` in CLOCK_REALTIME for ioctls that know nothing else. They return 0 or an
// errno.

int SampleExtended(int fd, unsigned count, Sample* best) {
  ptp_sys_offset_extended request = {};
  request.n_samples = count;
  if (ioctl(fd, PTP_SYS_OFFSET_EXTENDED, &request) != 0) return errno;
  for (unsigned i = 0; i < count; i++) KeepNarrowest(Ns(request.ts[i][0]), Ns(request.ts[i][1]), Ns(request.ts[i][2]), best);
  return 0;
}

int SampleOffset(int fd, unsigned count, Sample* best) {
  ptp_sys_offset request = {};
  request.n_samples = count;
  if (ioctl(fd, PTP_SYS_OFFSET, &request) != 0) return errno;
  for (unsigned i = 0; i < count; i++) KeepNarrowest(Ns(request.ts[2 * i]), Ns(request.ts[2 * i + 1]), Ns(request.ts[2 * i + 2]), best);
  return 0;
}

int SampleGettime(int fd, unsigned count, Sample* best) {
  for (unsigned i = 0; i < count; i++) {
    timespec device;
    const int64_t before = Read(CLOCK_MONOTONIC_RAW);
    if (clock_gettime(DynamicClock(fd), &device) != 0) return errno;
    KeepNarrowest(before, Nanoseconds(device), Read(CLOCK_MONOTONIC_RAW), best);
  }
  return 0;
}

int SamplePrecise(int fd, Sample* sample) {
  ptp_sys_offset_precise request = {};
  if (ioctl(fd, PTP_SYS_OFFSET_PRECISE, &request) != 0) return errno;
  *sample = {Ns(request.sys_monoraw), Ns(request.device), 0};
  return 0;
}

// 0, an errno, or EAGAIN: CLOCK_REALTIME was set meanwhile, or no bracket was usable.
int Take(int fd, int method, unsigned count, Sample* sample) {
  if (method == kPrecise) return SamplePrecise(fd, sample);
  *sample = {0, 0, INT64_MAX};
  const Pair before = ReadPair();
  const int failed = method == kExtended ? SampleExtended(fd, count, sample) : method == kOffset ? SampleOffset(fd, count, sample) : SampleGettime(fd, count, sample);
  if (failed != 0) return failed;
  if (sample->bracket == INT64_MAX) return EAGAIN;
  if (method == kGettime) return 0;
  const Pair after = ReadPair();
  const int64_t moved = std::llabs(after.offset - before.offset);
  if (moved > kRealtimeMovedNs + before.width + after.width) return EAGAIN;
  const Pair& pair = before.width <= after.width ? before : after;
  sample->raw = WrappingSubtract(sample->raw, pair.offset);
  sample->bracket = WrappingAdd(sample->bracket, pair.width + moved);
  return 0;
}

}  // namespace

Napi::Value PhcCapabilities(Napi::Env env, int fd) {
  ptp_clock_caps caps = {};
  if (ioctl(fd, PTP_CLOCK_GETCAPS, &caps) != 0) {
    ThrowErrno(env, errno, "ioctl(PTP_CLOCK_GETCAPS)");
    return env.Undefined();
  }
  Napi::Object result = Napi::Object::New(env);
  result.Set("maxAdjustmentPpb", Napi::Number::New(env, caps.max_adj));
  result.Set("alarms", Napi::Number::New(env, caps.n_alarm));
  result.Set("externalTimestamps", Napi::Number::New(env, caps.n_ext_ts));
  result.Set("periodicOutputs", Napi::Number::New(env, caps.n_per_out));
  result.Set("pins", Napi::Number::New(env, caps.n_pins));
  result.Set("pps", Napi::Boolean::New(env, caps.pps != 0));
  result.Set("crossTimestamping", Napi::Boolean::New(env, caps.cross_timestamping != 0));
  return result;
}

// sample(method, count, out): out[0 … 2] = raw ns, device ns, bracket ns. True if there is a sample; false if it must
// be taken again.
Napi::Value PhcSampleFromJs(const Napi::CallbackInfo& info, int fd) {
  Napi::Env env = info.Env();
  size_t method, count;
  if (!ReadIndex(env, info[0], &method) || method < kPrecise || method > kGettime || !ReadIndex(env, info[1], &count) || count < 1 || count > PTP_MAX_SAMPLES) {
    ThrowInvalidArgument(env, "PhcHandle: sample takes a method from 1 to 4 and a count from 1 to 25");
    return env.Undefined();
  }
  Sample sample = {};
  const int failed = Take(fd, static_cast<int>(method), static_cast<unsigned>(count), &sample);
  if (failed == EAGAIN) return Napi::Boolean::New(env, false);
  if (failed != 0) {
    ThrowErrno(env, failed, method == kGettime ? "clock_gettime" : "ioctl(PTP_SYS_OFFSET)");
    return env.Undefined();
  }
  const int64_t values[] = {sample.raw, sample.device, sample.bracket};
  if (!WriteBigInt64s(env, info[2], std::size(values), values)) {
    ThrowInvalidArgument(env, "PhcHandle: out must be a BigInt64Array of at least 3 elements");
    return env.Undefined();
  }
  return Napi::Boolean::New(env, true);
}

}  // namespace jitpaxos
