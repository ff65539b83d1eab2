// Kernel clocks, read straight into where the reading is needed.
//
// A PTP hardware clock is a character device that is also a POSIX clock: an open descriptor of /dev/ptpN becomes a
// clock id by ((~fd) << 3) | 3, and clock_gettime with that id asks the network card. Source: Linux,
// Documentation/driver-api/ptp.rst ("PTP hardware clock user space API") and FD_TO_CLOCKID in
// tools/testing/selftests/ptp/testptp.c; clock_gettime(2), "Dynamic clocks".
//
// The rule: a descriptor has one owner, a PhcHandle. It is closed by close() or when the handle is collected, and its
// id leaves the table before the descriptor is closed. Readings are nanoseconds as an unsigned 64-bit number; that
// lasts until 2554.

#include <errno.h>
#include <fcntl.h>
#include <napi.h>
#include <time.h>
#include <unistd.h>

#include <iterator>
#include <memory>
#include <string>

#include "arguments.h"
#include "capabilities.h"
#include "clock_table.h"
#include "phc.h"
#include "system_errors.h"

namespace jitpaxos {

namespace {

constexpr size_t kReadingBytes = 8;
constexpr size_t kReadingHalves = 2;

// --- Reading: hot -----------------------------------------------------------------------------------------------------

bool ReadClock(napi_env env, const ClockTable& table, napi_value id_value, uint64_t* ns) {
  int32_t id;
  if (!ReadInt32(env, id_value, &id)) {
    ThrowInvalidArgument(env, "clock: the first argument must be a clock id, an integer");
    return false;
  }
  const ClockTable::Entry* entry = table.Find(id);
  if (entry == nullptr) {
    ThrowCode(env, "clock-closed", "clock: this id is closed or was never open");
    return false;
  }
  timespec reading;
  if (clock_gettime(entry->clock, &reading) != 0) {
    ThrowErrno(env, errno, "clock_gettime");
    return false;
  }
  *ns = static_cast<uint64_t>(Nanoseconds(reading));
  if (entry->discipline != nullptr) *ns = static_cast<uint64_t>(entry->discipline->Read(static_cast<int64_t>(*ns)));
  return true;
}

// The environment's table is the function's data pointer: one load, no lookup.
const ClockTable& Arguments(napi_env env, napi_callback_info info, size_t count, napi_value* args) {
  void* table;
  napi_get_cb_info(env, info, &count, args, nullptr, &table);
  return *static_cast<const ClockTable*>(table);
}

// clockReadBigInt(id)
napi_value ReadBigInt(napi_env env, napi_callback_info info) {
  napi_value args[1];
  const ClockTable& table = Arguments(env, info, 1, args);
  uint64_t ns;
  if (!ReadClock(env, table, args[0], &ns)) return nullptr;
  napi_value result = nullptr;
  napi_create_bigint_uint64(env, ns, &result);
  return result;
}

// clockWriteBE(id, bytes, offset)
napi_value WriteBE(napi_env env, napi_callback_info info) {
  napi_value args[3];
  const ClockTable& table = Arguments(env, info, 3, args);
  ByteSpan bytes;
  size_t offset;
  if (!ReadBytes(env, args[1], &bytes)) {
    ThrowInvalidArgument(env, "clock: bytes must be a Uint8Array");
    return nullptr;
  }
  if (!ReadIndex(env, args[2], &offset) || !Fits(bytes.length, offset, kReadingBytes)) {
    ThrowOutOfBounds(env, "clock: offset must be a whole number from 0 on and leave 8 bytes");
    return nullptr;
  }
  uint64_t ns;
  if (ReadClock(env, table, args[0], &ns)) WriteU64BigEndian(bytes.data + offset, ns);
  return nullptr;
}

// clockWriteHalves(id, out, index)
napi_value WriteHalves(napi_env env, napi_callback_info info) {
  napi_value args[3];
  const ClockTable& table = Arguments(env, info, 3, args);
  Int32Span out;
  size_t index;
  if (!ReadInt32s(env, args[1], &out)) {
    ThrowInvalidArgument(env, "clock: out must be an Int32Array");
    return nullptr;
  }
  if (!ReadIndex(env, args[2], &index) || !Fits(out.length, index, kReadingHalves)) {
    ThrowOutOfBounds(env, "clock: index must be a whole number from 0 on and leave 2 elements");
    return nullptr;
  }
  uint64_t ns;
  if (!ReadClock(env, table, args[0], &ns)) return nullptr;
  out.data[index] = static_cast<int32_t>(static_cast<uint32_t>(ns >> 32));
  out.data[index + 1] = static_cast<int32_t>(static_cast<uint32_t>(ns));
  return nullptr;
}

// --- Opening: cold ----------------------------------------------------------------------------------------------------

// new PhcHandle(path): opens the device and checks by one reading that it is a clock. `id` is for the functions above.
// Throws with `errno` and `syscall` if a call failed, with `code` "clock-limit" if the table is full.
class PhcHandle : public Napi::ObjectWrap<PhcHandle> {
 public:
  static Napi::Function Define(Napi::Env env, std::shared_ptr<ClockTable>* table) {
    return DefineClass(env, "PhcHandle",
                       {InstanceAccessor<&PhcHandle::GetId>("id"), InstanceMethod<&PhcHandle::CapabilitiesFromJs>("capabilities"),
                        InstanceMethod<&PhcHandle::SampleFromJs>("sample"), InstanceMethod<&PhcHandle::CloseFromJs>("close")},
                       table);
  }

  explicit PhcHandle(const Napi::CallbackInfo& info)
      : Napi::ObjectWrap<PhcHandle>(info), table_(*static_cast<std::shared_ptr<ClockTable>*>(info.Data())) {
    if (info.Length() < 1 || !info[0].IsString()) {
      ThrowInvalidArgument(info.Env(), "PhcHandle: path must be a string");
    } else {
      Open(info.Env(), info[0].As<Napi::String>().Utf8Value());
    }
  }

  ~PhcHandle() override { Close(); }

 private:
  Napi::Value GetId(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), id_); }
  void CloseFromJs(const Napi::CallbackInfo&) { Close(); }
  Napi::Value CapabilitiesFromJs(const Napi::CallbackInfo& info) { return PhcCapabilities(info.Env(), fd_); }
  Napi::Value SampleFromJs(const Napi::CallbackInfo& info) { return PhcSampleFromJs(info, fd_); }

  void Open(Napi::Env env, const std::string& path) {
    // O_NONBLOCK: a FIFO with this name must not block the process. It has no effect on a clock.
    fd_ = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd_ < 0) return ThrowErrno(env, errno, "open");
    timespec reading;
    if (clock_gettime(DynamicClock(fd_), &reading) != 0) {
      const int error_number = errno;
      Close();
      return ThrowErrno(env, error_number, "clock_gettime");
    }
    id_ = table_->Add(DynamicClock(fd_));
    if (id_ == ClockTable::kFull) {
      Close();
      ThrowCode(env, "clock-limit", "PhcHandle: too many clocks are open in this thread");
    }
  }

  void Close() {
    if (fd_ < 0) return;
    table_->Remove(id_);
    id_ = -1;
    close(fd_);
    fd_ = -1;
  }

  // Shared, because at the end of an environment finalizers run after its cleanup hooks.
  std::shared_ptr<ClockTable> table_;
  int fd_ = -1;
  int32_t id_ = -1;
};

// new DisciplinedClock(): an id for the functions above whose readings follow `set`. Reading before the first `set`
// gives 0. Throws with `code` "clock-limit" if the table is full.
class DisciplinedClock : public Napi::ObjectWrap<DisciplinedClock> {
 public:
  static Napi::Function Define(Napi::Env env, std::shared_ptr<ClockTable>* table) {
    return DefineClass(env, "DisciplinedClock",
                       {InstanceAccessor<&DisciplinedClock::GetId>("id"), InstanceMethod<&DisciplinedClock::Set>("set"),
                        InstanceMethod<&DisciplinedClock::CloseFromJs>("close")},
                       table);
  }

  explicit DisciplinedClock(const Napi::CallbackInfo& info)
      : Napi::ObjectWrap<DisciplinedClock>(info), table_(*static_cast<std::shared_ptr<ClockTable>*>(info.Data())) {
    id_ = table_->Add(CLOCK_MONOTONIC_RAW, &discipline_);
    if (id_ == ClockTable::kFull) ThrowCode(info.Env(), "clock-limit", "DisciplinedClock: too many clocks are open in this thread");
  }

  ~DisciplinedClock() override { Close(); }

 private:
  Napi::Value GetId(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), id_); }
  void CloseFromJs(const Napi::CallbackInfo&) { Close(); }

  // set(segments): BigInt64Array [raw, out, rate] of the present segment, and of the one that follows it.
  void Set(const Napi::CallbackInfo& info) {
    int64_t values[2 * Discipline::kSegmentFields];
    if (!ReadBigInt64s(info.Env(), info[0], std::size(values), values)) {
      return ThrowInvalidArgument(info.Env(), "DisciplinedClock: segments must be a BigInt64Array of 6 elements");
    }
    discipline_.Set(values);
  }

  void Close() {
    if (id_ < 0) return;
    table_->Remove(id_);
    id_ = -1;
  }

  std::shared_ptr<ClockTable> table_;
  Discipline discipline_;
  int32_t id_ = -1;
};

void SetFunction(Napi::Object exports, const char* name, napi_callback callback, ClockTable* table) {
  napi_value function;
  if (napi_create_function(exports.Env(), name, NAPI_AUTO_LENGTH, callback, table, &function) != napi_ok) return;
  exports.Set(name, Napi::Function(exports.Env(), function));
}

}  // namespace

void RegisterClock(Napi::Env env, Napi::Object exports) {
  auto* table = new std::shared_ptr<ClockTable>(std::make_shared<ClockTable>());
  napi_add_env_cleanup_hook(env, [](void* data) { delete static_cast<std::shared_ptr<ClockTable>*>(data); }, table);

  // Always open: the kernel's own clocks need no descriptor.
  Napi::Object system_clocks = Napi::Object::New(env);
  system_clocks.Set("realtime", Napi::Number::New(env, (*table)->Add(CLOCK_REALTIME)));
  system_clocks.Set("tai", Napi::Number::New(env, (*table)->Add(CLOCK_TAI)));
  system_clocks.Set("monotonic", Napi::Number::New(env, (*table)->Add(CLOCK_MONOTONIC)));
  system_clocks.Set("monotonic-raw", Napi::Number::New(env, (*table)->Add(CLOCK_MONOTONIC_RAW)));
  exports.Set("systemClocks", system_clocks);

  SetFunction(exports, "clockReadBigInt", ReadBigInt, table->get());
  SetFunction(exports, "clockWriteBE", WriteBE, table->get());
  SetFunction(exports, "clockWriteHalves", WriteHalves, table->get());
  exports.Set("PhcHandle", PhcHandle::Define(env, table));
  exports.Set("DisciplinedClock", DisciplinedClock::Define(env, table));
}

}  // namespace jitpaxos
