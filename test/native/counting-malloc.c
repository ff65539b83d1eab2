// Preloaded into a process, counts how often each thread allocates. adjtimex, which NativeAddon.kernelClock calls, then
// reports the count of its thread as `maxerror`.
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/timex.h>

extern void* __libc_malloc(size_t size);
extern void* __libc_calloc(size_t number, size_t size);
extern void* __libc_realloc(void* old, size_t size);
extern void* __libc_memalign(size_t alignment, size_t size);

static _Thread_local long allocations;

void* malloc(size_t size) {
  allocations++;
  return __libc_malloc(size);
}

void* calloc(size_t number, size_t size) {
  allocations++;
  return __libc_calloc(number, size);
}

void* realloc(void* old, size_t size) {
  allocations++;
  return __libc_realloc(old, size);
}

void* aligned_alloc(size_t alignment, size_t size) {
  allocations++;
  return __libc_memalign(alignment, size);
}

int posix_memalign(void** out, size_t alignment, size_t size) {
  allocations++;
  *out = __libc_memalign(alignment, size);
  return *out == NULL ? ENOMEM : 0;
}

int adjtimex(struct timex* record) {
  memset(record, 0, sizeof *record);
  record->maxerror = allocations;
  return 0;
}
