/*
 * Stands in for PTP hardware clocks, for hosts without any: preloaded (LD_PRELOAD), it answers open() for a few names under
 * /dev/ptp-test and clock_gettime() for the dynamic clock ids of the descriptors it gave out. Everything else goes to the
 * C library. What a descriptor answers is forgotten when it is closed, so a stale clock id fails as it does on Linux.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

enum { FDS = 4096, TAI_MINUS_UTC_S = 37, READINGS_BEFORE_LOSS = 2 };
enum behaviour { NOT_OURS, TAI, FIXED, LOST };

static _Atomic int behaviour_of[FDS];
static _Atomic int readings_of[FDS];

static const struct { const char *path; enum behaviour behaviour; int open_errno; } devices[] = {
    {"/dev/ptp-test0", TAI, 0},
    {"/dev/ptp-test1", TAI, 0},
    {"/dev/ptp-test-fixed", FIXED, 0},
    {"/dev/ptp-test-lost", LOST, 0},
    {"/dev/ptp-test-denied", NOT_OURS, EACCES},
    {"/dev/ptp-test-busy", NOT_OURS, EBUSY},
    {"/dev/ptp-test-no-files-left", NOT_OURS, EMFILE},
};

static int open_as(const char *symbol, const char *path, int flags, mode_t mode) {
  int (*real_open)(const char *, int, ...) = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, symbol);
  for (size_t i = 0; i < sizeof devices / sizeof *devices; i++) {
    if (strcmp(path, devices[i].path) != 0) continue;
    if (devices[i].open_errno != 0) {
      errno = devices[i].open_errno;
      return -1;
    }
    int fd = real_open("/dev/null", flags, mode);
    if (fd >= FDS) {
      errno = EMFILE;
      return -1;
    }
    if (fd >= 0) {
      readings_of[fd] = 0;
      behaviour_of[fd] = devices[i].behaviour;
    }
    return fd;
  }
  return real_open(path, flags, mode);
}

int open(const char *path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
  va_end(rest);
  return open_as("open", path, flags, mode);
}

int open64(const char *path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
  va_end(rest);
  return open_as("open64", path, flags, mode);
}

int close(int fd) {
  int (*real_close)(int) = (int (*)(int))dlsym(RTLD_NEXT, "close");
  if (fd >= 0 && fd < FDS) behaviour_of[fd] = NOT_OURS;
  return real_close(fd);
}

int clock_gettime(clockid_t clock, struct timespec *reading) {
  static int (*_Atomic real_gettime)(clockid_t, struct timespec *);
  if (real_gettime == NULL) real_gettime = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
  /* CLOCKID_TO_FD of tools/testing/selftests/ptp/testptp.c. */
  int fd = clock < 0 && (clock & 7) == 3 ? (int)~(clock >> 3) : -1;
  switch (fd >= 0 && fd < FDS ? behaviour_of[fd] : NOT_OURS) {
    case LOST:
      if (readings_of[fd]++ >= READINGS_BEFORE_LOSS) {
        errno = ENODEV;
        return -1;
      }
      /* fall through */
    case TAI:
      if (real_gettime(CLOCK_REALTIME, reading) != 0) return -1;
      reading->tv_sec += TAI_MINUS_UTC_S;
      return 0;
    case FIXED: /* 0xfedcba9876543210 ns */
      reading->tv_sec = 18364758544;
      reading->tv_nsec = 493064720;
      return 0;
    default:
      return real_gettime(clock, reading);
  }
}
