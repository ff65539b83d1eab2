// The addon with libFuzzer inside: the exports of addon.cc, and also
//
//   fuzz(arguments, one) runs libFuzzer with these arguments; calls one(bytes, length) for each input, and never
//   returns
//   kernel(bytes, from, to) what the system calls of kernel.h answer from now on, byte by byte; zeros after the end
//   turn() one pass of the event loop, in which sockets and timers call back
//
// program.mjs interprets the inputs, so that everything works as in a replica: real Node-API, real arrays, including
// detached and shared ones. Only for scripts/fuzz-native.mjs.
#include "kernel.h"

// Here they are the kernel's.
#undef ioctl
#undef clock_gettime
#undef adjtimex
#undef recvmsg
#undef recvmmsg

#include <linux/ptp_clock.h>
#include <netinet/in.h>
#include <uv.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "../capabilities.h"

extern "C" int LLVMFuzzerRunDriver(int* argc, char*** argv, int (*one)(const uint8_t* data, size_t size));

namespace jitpaxos::fuzz {

namespace {

constexpr size_t kInputBytesMax = 4096;

struct Answers {
  std::vector<uint8_t> bytes;
  size_t at = 0;

  uint8_t Byte() { return at < bytes.size() ? bytes[at++] : 0; }
  void Fill(void* to, size_t length) {
    const size_t some = std::min(length, bytes.size() - at);
    if (length == 0) return;
    std::memset(to, 0, length);
    if (some > 0) std::memcpy(to, bytes.data() + at, some);
    at += some;
  }
  // Half of the calls go to the kernel.
  bool Says() { return at < bytes.size() && (Byte() & 1) != 0; }
};

Answers answers;

}  // namespace

int Ioctl(int descriptor, unsigned long request, void* argument) {
  if (_IOC_TYPE(request) != PTP_CLK_MAGIC) return ::ioctl(descriptor, request, argument);
  const uint8_t draw = answers.Byte();
  if (draw > 0xf0) {
    errno = draw - 0xf0;
    return -1;
  }
  // The caller's requested fields stay unchanged, as in the kernel.
  uint32_t samples = 0;
  std::memcpy(&samples, argument, sizeof samples);
  answers.Fill(argument, _IOC_SIZE(request));
  if (request == PTP_SYS_OFFSET || request == PTP_SYS_OFFSET_EXTENDED) std::memcpy(argument, &samples, sizeof samples);
  return 0;
}

int ClockGettime(clockid_t clock, timespec* reading) {
  if (clock >= 0) return ::clock_gettime(clock, reading);
  const uint8_t draw = answers.Byte();
  if (draw > 0xf0) {
    errno = draw - 0xf0;
    return -1;
  }
  answers.Fill(reading, sizeof *reading);
  return 0;
}

int Adjtimex(timex* record) {
  answers.Fill(record, sizeof *record);
  return answers.Byte() % 8 - 1;
}

ssize_t Recvmsg(int descriptor, msghdr* message, int flags) {
  if ((flags & MSG_ERRQUEUE) == 0 || !answers.Says()) return ::recvmsg(descriptor, message, flags);
  answers.Fill(message->msg_name, message->msg_namelen);
  answers.Fill(message->msg_control, message->msg_controllen);
  message->msg_controllen = std::min<size_t>(message->msg_controllen, answers.Byte());
  return 0;
}

int Recvmmsg(int descriptor, mmsghdr* messages, unsigned count, int flags, timespec* timeout) {
  if (!answers.Says()) return ::recvmmsg(descriptor, messages, count, flags, timeout);
  const uint8_t draw = answers.Byte();
  if (draw > 0xf0) {
    errno = draw - 0xf0;
    return -1;
  }
  const unsigned received = std::min<unsigned>(count, draw);
  for (unsigned i = 0; i < received; i++) {
    msghdr& header = messages[i].msg_hdr;
    // An IPv4 address is shorter than the room for one.
    answers.Fill(header.msg_name, (answers.Byte() & 1) != 0 ? sizeof(sockaddr_in) : header.msg_namelen);
    uint16_t length = 0;
    answers.Fill(&length, sizeof length);
    messages[i].msg_len = static_cast<unsigned>(std::min<size_t>(header.msg_iov[0].iov_len, length));
    if (messages[i].msg_len > 0) static_cast<uint8_t*>(header.msg_iov[0].iov_base)[messages[i].msg_len - 1] = answers.Byte();
  }
  return static_cast<int>(received);
}

namespace {

napi_env environment;
napi_ref one_input;
napi_ref input_array;
uint8_t* input;

// An exception from JavaScript is a finding: program.mjs catches the expected ones.
void Fail(const char* what) {
  bool pending = false;
  napi_value error, text;
  if (napi_is_exception_pending(environment, &pending) == napi_ok && pending && napi_get_and_clear_last_exception(environment, &error) == napi_ok) {
    napi_value stack;
    char buffer[4096] = "";
    if (napi_get_named_property(environment, error, "stack", &stack) == napi_ok && napi_coerce_to_string(environment, stack, &text) == napi_ok) {
      napi_get_value_string_utf8(environment, text, buffer, sizeof buffer, nullptr);
    }
    std::fprintf(stderr, "%s\n", buffer);
  }
  std::fprintf(stderr, "fuzz: %s\n", what);
  std::abort();
}

int OneInput(const uint8_t* data, size_t size) {
  const size_t length = std::min(size, kInputBytesMax);
  std::memcpy(input, data, length);
  napi_handle_scope scope;
  napi_open_handle_scope(environment, &scope);
  napi_value function, undefined, arguments[2], result;
  napi_get_reference_value(environment, one_input, &function);
  napi_get_undefined(environment, &undefined);
  napi_get_reference_value(environment, input_array, &arguments[0]);
  napi_create_uint32(environment, static_cast<uint32_t>(length), &arguments[1]);
  if (napi_call_function(environment, undefined, function, 2, arguments, &result) != napi_ok) Fail("the program threw");
  napi_close_handle_scope(environment, scope);
  return 0;
}

void Fuzz(const Napi::CallbackInfo& info) {
  environment = info.Env();
  std::vector<std::string> given = {"fuzz-native"};
  Napi::Array list = info[0].As<Napi::Array>();
  for (uint32_t i = 0; i < list.Length(); i++) given.push_back(list.Get(i).ToString());
  napi_create_reference(environment, info[1], 1, &one_input);
  Napi::Uint8Array array = Napi::Uint8Array::New(info.Env(), kInputBytesMax);
  input = array.Data();
  napi_create_reference(environment, array, 1, &input_array);
  std::vector<char*> pointers;
  for (std::string& argument : given) pointers.push_back(argument.data());
  pointers.push_back(nullptr);
  int count = static_cast<int>(given.size());
  char** arguments = pointers.data();
  std::exit(LLVMFuzzerRunDriver(&count, &arguments, OneInput));
}

void Kernel(const Napi::CallbackInfo& info) {
  Napi::Uint8Array bytes = info[0].As<Napi::Uint8Array>();
  const size_t from = info[1].ToNumber().Uint32Value();
  const size_t to = info[2].ToNumber().Uint32Value();
  answers.bytes.assign(bytes.Data() + from, bytes.Data() + to);
  answers.at = 0;
}

void Turn(const Napi::CallbackInfo& info) {
  uv_loop_t* loop = nullptr;
  napi_get_uv_event_loop(info.Env(), &loop);
  uv_run(loop, UV_RUN_NOWAIT);
}

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  RegisterClock(env, exports);
  RegisterHash(env, exports);
  RegisterUdp(env, exports);
  RegisterHmac(env, exports);
  RegisterKernelClock(env, exports);
  RegisterUnixDatagram(env, exports);
  RegisterTimer(env, exports);
  RegisterAead(env, exports);
  exports.Set("fuzz", Napi::Function::New(env, Fuzz));
  exports.Set("kernel", Napi::Function::New(env, Kernel));
  exports.Set("turn", Napi::Function::New(env, Turn));
  return exports;
}

}  // namespace

}  // namespace jitpaxos::fuzz

static Napi::Object JitpaxosFuzzInit(Napi::Env env, Napi::Object exports) { return jitpaxos::fuzz::Init(env, exports); }
NODE_API_MODULE(jitpaxos, JitpaxosFuzzInit)
