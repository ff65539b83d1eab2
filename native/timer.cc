// One-shot timers on Node's event loop with the kernel's precision: libuv counts whole milliseconds.
//
// A timerfd that uv_poll watches wakes the loop when it sleeps; it is set in the prepare phase, before that. A polling
// transport fires the deadline itself instead (deadlines.h). A descriptor that becomes readable too early does no harm:
// its reader finds nothing due, and it is set again before the next sleep.
//
// The rule: the memory of the handle lives until libuv has given it back, and the JavaScript object at least until
// `close`.

#include <errno.h>
#include <napi.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include <uv.h>

#include "arguments.h"
#include "callback.h"
#include "capabilities.h"
#include "deadlines.h"
#include "monotonic.h"
#include "shared_array.h"
#include "system_errors.h"

namespace jitpaxos {

namespace {

// The part that outlives its JavaScript object until libuv is done with it.
class Timer final : public Deadline {
 public:
  explicit Timer(napi_env env) : env_(env), at(1) {}

  const Napi::Env env_;
  // Written by JavaScript, so that a time is not an argument, which would be a number on the heap.
  const SharedArray<double> at;

  // Returns 0 or errno, and what failed.
  int Open(Napi::Object owner, Napi::Function fired, const char** failed) {
    *failed = "timerfd_create";
    fd_ = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (fd_ < 0) return errno;
    uv_loop_t* loop = nullptr;
    napi_get_uv_event_loop(env_, &loop);
    *failed = "uv_poll_init";
    const int status = uv_poll_init(loop, &poll_, fd_);
    if (status != 0) {
      CloseDescriptor();
      return -status;
    }
    uv_prepare_init(loop, &prepare_);
    poll_.data = prepare_.data = this;
    owner_ = Napi::Persistent(owner);
    fired_ = Napi::Persistent(fired);
    napi_value name;
    napi_create_string_utf8(env_, "jitpaxos.timer", NAPI_AUTO_LENGTH, &name);
    napi_async_init(env_, nullptr, name, &async_context_);
    napi_add_async_cleanup_hook(env_, [](napi_async_cleanup_hook_handle, void* timer) { static_cast<Timer*>(timer)->Close(); }, this, &cleanup_);
    Deadlines::OfThread().Add(this);
    uv_poll_start(&poll_, UV_READABLE, [](uv_poll_t* handle, int, int) { static_cast<Timer*>(handle->data)->OnReadable(); });
    uv_prepare_start(&prepare_, [](uv_prepare_t* handle) {
      // A poller may still fire the deadline.
      if (!Deadlines::OfThread().polled()) static_cast<Timer*>(handle->data)->SetDescriptor();
    });
    uv_unref(reinterpret_cast<uv_handle_t*>(&prepare_));
    Hold(false);
    handles_ = 2;
    return 0;
  }

  void Arm() {
    if (fd_ < 0) return;
    const double wanted = at[0];
    // 0 would disarm; a value that is not a number is due at once.
    const uint64_t at_ns = wanted >= 1 ? (wanted < 9e18 ? static_cast<uint64_t>(wanted) : uint64_t{9'000'000'000'000'000'000u}) : 1;
    Deadlines::OfThread().Set(this, at_ns);
    Hold(true);
  }

  void Disarm() {
    if (fd_ < 0 || at_ns() == kNever) return;
    Deadlines::OfThread().Set(this, kNever);
    Hold(false);
  }

  void Close() {
    if (fd_ < 0) return;
    Deadlines::OfThread().Remove(this);
    uv_poll_stop(&poll_);
    CloseDescriptor();
    for (uv_handle_t* handle : {reinterpret_cast<uv_handle_t*>(&poll_), reinterpret_cast<uv_handle_t*>(&prepare_)}) {
      uv_close(handle, [](uv_handle_t* closed) { static_cast<Timer*>(closed->data)->OnHandleClosed(); });
    }
  }

  // The JavaScript object is gone.
  void Disown() {
    disowned_ = true;
    Close();
    if (handles_ == 0) delete this;
  }

 private:
  ~Timer() = default;

  // As with Node's own timers, an armed timer keeps the process alive.
  void Hold(bool process) {
    if (process) uv_ref(reinterpret_cast<uv_handle_t*>(&poll_));
    else uv_unref(reinterpret_cast<uv_handle_t*>(&poll_));
  }

  void SetDescriptor() override {
    if (at_ns() >= descriptor_ns_) return;
    descriptor_ns_ = at_ns();
    itimerspec when = {};
    when.it_value.tv_sec = static_cast<time_t>(descriptor_ns_ / 1'000'000'000u);
    when.it_value.tv_nsec = static_cast<long>(descriptor_ns_ % 1'000'000'000u);
    timerfd_settime(fd_, TFD_TIMER_ABSTIME, &when, nullptr);
  }

  void CloseDescriptor() {
    close(fd_);
    fd_ = -1;
  }

  void OnReadable() {
    uint64_t expirations;
    if (read(fd_, &expirations, sizeof expirations) != sizeof expirations) return;
    descriptor_ns_ = kNever;
    if (at_ns() <= MonotonicNs()) Deadlines::OfThread().Fire(this);
  }

  void OnDue() override {
    Hold(false);
    napi_handle_scope scope;
    if (napi_open_handle_scope(env_, &scope) != napi_ok) return;
    CallBack(env_, async_context_, owner_.Value(), fired_.Value());
    napi_close_handle_scope(env_, scope);
  }

  void OnHandleClosed() {
    if (--handles_ > 0) return;
    Napi::HandleScope scope(env_);
    napi_async_destroy(env_, async_context_);
    fired_.Reset();
    owner_.Reset();  // from now on the owner may be collected
    napi_remove_async_cleanup_hook(cleanup_);
    if (disowned_) delete this;
  }

  int fd_ = -1;
  // When the descriptor is readable; kNever: not before it is set.
  uint64_t descriptor_ns_ = kNever;
  uv_poll_t poll_;
  uv_prepare_t prepare_;
  int handles_ = 0;  // that libuv has
  bool disowned_ = false;

  Napi::ObjectReference owner_;
  Napi::FunctionReference fired_;
  napi_async_context async_context_ = nullptr;
  napi_async_cleanup_hook_handle cleanup_ = nullptr;
};

// new Timer(fired): see TimerHandle in src/native/addon.ts.
class TimerObject : public Napi::ObjectWrap<TimerObject> {
 public:
  static Napi::Function Define(Napi::Env env) {
    return DefineClass(env, "Timer", {Hot("arm", Arm), Hot("disarm", Disarm), InstanceMethod<&TimerObject::Close>("close")});
  }

  explicit TimerObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<TimerObject>(info) {
    Napi::Env env = info.Env();
    if (info.Length() < 1 || !info[0].IsFunction()) {
      ThrowInvalidArgument(env, "Timer: fired must be a function");
      return;
    }
    timer_ = new Timer(env);
    Napi::Object self = info.This().As<Napi::Object>();
    const char* failed = "mmap";
    const int error = timer_->at.valid() ? timer_->Open(self, info[0].As<Napi::Function>(), &failed) : ENOMEM;
    if (error != 0) ThrowErrno(env, error, failed);
    else self.Set("at", timer_->at.Expose(env));
  }

  ~TimerObject() override {
    if (timer_ != nullptr) timer_->Disown();
  }

 private:
  using Method = napi_value (*)(napi_env, napi_callback_info);

  // A method without node-addon-api's wrapping. V8 checks that it is called on a Timer.
  static Napi::ClassPropertyDescriptor<TimerObject> Hot(const char* name, Method method) {
    napi_property_descriptor descriptor = {};
    descriptor.utf8name = name;
    descriptor.method = method;
    return descriptor;
  }

  static Timer* Self(napi_env env, napi_callback_info info) {
    size_t count = 0;
    napi_value self;
    void* object = nullptr;
    napi_get_cb_info(env, info, &count, nullptr, &self, nullptr);
    napi_unwrap(env, self, &object);
    return object == nullptr ? nullptr : static_cast<TimerObject*>(object)->timer_;
  }

  static napi_value Arm(napi_env env, napi_callback_info info) {
    if (Timer* timer = Self(env, info)) timer->Arm();
    return nullptr;
  }

  static napi_value Disarm(napi_env env, napi_callback_info info) {
    if (Timer* timer = Self(env, info)) timer->Disarm();
    return nullptr;
  }

  void Close(const Napi::CallbackInfo&) { timer_->Close(); }

  Timer* timer_ = nullptr;
};

}  // namespace

void RegisterTimer(Napi::Env env, Napi::Object exports) { exports.Set("Timer", TimerObject::Define(env)); }

}  // namespace jitpaxos
