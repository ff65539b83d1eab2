// Calls from the event loop into JavaScript.
#pragma once

#include <node_api.h>

namespace jitpaxos {

// Runs promises and process.nextTick before it returns. What the function throws becomes an uncaught exception.
inline void CallBack(napi_env env, napi_async_context context, napi_value receiver, napi_value function) {
  if (napi_make_callback(env, context, receiver, function, 0, nullptr, nullptr) == napi_ok) return;
  bool pending = false;
  napi_value error;
  if (napi_is_exception_pending(env, &pending) == napi_ok && pending && napi_get_and_clear_last_exception(env, &error) == napi_ok) {
    napi_fatal_exception(env, error);
  }
}

}  // namespace jitpaxos
