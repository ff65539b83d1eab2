// How the addon reports what the system refused, and small helpers for cold functions.
#pragma once

#include <napi.h>
#include <time.h>

#include <cstddef>
#include <cstdint>

#include "wrapping.h"

namespace jitpaxos {

// A failed system call. Node's own convention, a negative errno, so that util.getSystemErrorName names it.
void ThrowErrno(Napi::Env env, int error_number, const char* syscall);

// An error of the addon's own, with `code`.
void ThrowCode(Napi::Env env, const char* code, const char* message);

// Copies a BigInt64Array of exactly `count` elements. False for anything else.
bool ReadBigInt64s(Napi::Env env, Napi::Value value, size_t count, int64_t* out);

// Writes `count` elements to the start of a BigInt64Array of at least this length. False for anything else.
bool WriteBigInt64s(Napi::Env env, Napi::Value value, size_t count, const int64_t* from);

inline int64_t Nanoseconds(const timespec& reading) { return WrappingAdd(WrappingMultiply(reading.tv_sec, 1000000000), reading.tv_nsec); }

}  // namespace jitpaxos
