// Arguments of hot functions, read without an allocation and without trust.
//
// The rule: a hot function touches memory only after `Fits` has checked offset and width against the length that the
// array has *in this call* (JavaScript may have detached or resized it since the last one). No unchecked argument, be
// it NaN, a fraction or a string, reaches a pointer. Raw Node-API instead of node-addon-api, because its wrapper
// objects cost a measurable part of calls that take 50 ns in all (docs/internals/decisions/node-addon-api.md).
#pragma once

#include <node_api.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace jitpaxos {

struct ByteSpan {
  uint8_t* data;
  size_t length;
};

struct Int32Span {
  int32_t* data;
  size_t length;
};

// Throw a JavaScript error with `code`, `category` "caller" and `retryable` false. Cold: they allocate.
void ThrowOutOfBounds(napi_env env, const char* message);
void ThrowInvalidArgument(napi_env env, const char* message);

// A whole number from 0 to 2^53 - 1: an offset, a length, an index.
inline bool ReadIndex(napi_env env, napi_value value, size_t* out) {
  double number;
  if (napi_get_value_double(env, value, &number) != napi_ok) return false;
  if (!(number >= 0.0 && number <= 9007199254740991.0)) return false;  // written so that NaN fails
  *out = static_cast<size_t>(number);
  return static_cast<double>(*out) == number;
}

// A whole number from 0 to `last`: a port, a size.
inline bool ReadUpTo(napi_env env, napi_value value, size_t last, size_t* out) { return ReadIndex(env, value, out) && *out <= last; }

// A whole number that an int32 holds: a slot, an id. Not napi_get_value_int32, which converts as ToInt32 does: NaN and
// 0.5 would be slot 0, and 2^32 + 1 slot 1.
inline bool ReadInt32(napi_env env, napi_value value, int32_t* out) {
  double number;
  if (napi_get_value_double(env, value, &number) != napi_ok) return false;
  if (!(number >= INT32_MIN && number <= INT32_MAX)) return false;  // written so that NaN fails
  *out = static_cast<int32_t>(number);
  return static_cast<double>(*out) == number;
}

// Uint8Array or Buffer. Does not ask for the array buffer itself: that would create a handle.
inline bool ReadBytes(napi_env env, napi_value value, ByteSpan* out) {
  napi_typedarray_type type;
  void* data;
  if (napi_get_typedarray_info(env, value, &type, &out->length, &data, nullptr, nullptr) != napi_ok) return false;
  out->data = static_cast<uint8_t*>(data);
  return type == napi_uint8_array;
}

inline bool ReadInt32s(napi_env env, napi_value value, Int32Span* out) {
  napi_typedarray_type type;
  void* data;
  if (napi_get_typedarray_info(env, value, &type, &out->length, &data, nullptr, nullptr) != napi_ok) return false;
  out->data = static_cast<int32_t*>(data);
  return type == napi_int32_array;
}

// Whether `width` elements from `offset` on lie inside `capacity`. Cannot overflow.
inline bool Fits(size_t capacity, size_t offset, size_t width) { return offset <= capacity && width <= capacity - offset; }

inline void WriteU64BigEndian(uint8_t* to, uint64_t value) {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  value = __builtin_bswap64(value);
#endif
  std::memcpy(to, &value, sizeof value);  // `to` need not be aligned
}

}  // namespace jitpaxos
