/*
 * Stands in for PTP hardware clocks, for hosts without any: preloaded (LD_PRELOAD), it answers open() for a few names under
 * /dev/ptp-test and clock_gettime() for the dynamic clock ids of the descriptors it gave out. Everything else goes to the
 * C library. What a descriptor answers is forgotten when it is closed, so a stale clock id fails as it does on Linux.
 *
 * /dev/ptp-model is a clock whose behaviour a test chooses, and changes while it runs: `struct model` in the file that
 * FAKE_PTP_MODEL names (all zeros when it is not set). It answers the ioctls of linux/ptp_clock.h with noise, and
 * clock_gettime() with the truth, which is what the error of a disciplined clock is measured against.
 *
 * With FAKE_PTP_ROOT, a folder, the host also looks as if it had the devices: what is below /sys/class/ptp, /sys/class/net
 * and (listed, not opened) /dev is taken from there, and /dev/ptp0 is the model clock.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/ptp_clock.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { FDS = 4096, TAI_MINUS_UTC_S = 37, READINGS_BEFORE_LOSS = 3 };
enum behaviour { NOT_OURS, TAI, FIXED, LOST, MODEL };

/* All int64, native byte order: test/clock/model.ts writes it. */
struct model {
  int64_t offset_ns;      /* ahead of UTC as of the first use */
  int64_t drift_ppb;      /* against CLOCK_MONOTONIC_RAW, from `drift_from_raw_ns` on */
  int64_t drift_from_raw_ns;
  int64_t noise_ns;       /* readings by ioctl are off by up to so much either way */
  int64_t bracket_ns;     /* time that a reading takes beyond what it takes anyway */
  int64_t gone;           /* ENODEV to everything */
  int64_t lacks;          /* bits: 1 PRECISE, 2 EXTENDED, 4 OFFSET answer EOPNOTSUPP */
  int64_t busy;           /* EBUSY to every reading by ioctl */
  int64_t denied;         /* EACCES to open() */
  int64_t busy_gettime;   /* EBUSY to clock_gettime(), which tests take for the truth otherwise */
  int64_t fixed;          /* nobody can adjust or set it */
  int64_t busy_until_raw_ns; /* EBUSY to every reading of any kind until then, by CLOCK_MONOTONIC_RAW */
  int64_t host_ahead_ns;  /* all clocks of the host are ahead by this: CLOCK_REALTIME and the device */
};

static const struct model nothing;
static const volatile struct model *model = &nothing;
static int64_t realtime_minus_raw;
static _Atomic uint32_t noise_state = 12345;

static _Atomic int behaviour_of[FDS];
static _Atomic int readings_of[FDS];

static const struct { const char *path; enum behaviour behaviour; int open_errno; } devices[] = {
    {"/dev/ptp-test0", TAI, 0},
    {"/dev/ptp-test1", TAI, 0},
    {"/dev/ptp-test-fixed", FIXED, 0},
    {"/dev/ptp-test-lost", LOST, 0},
    {"/dev/ptp-model", MODEL, 0},
    {"/dev/ptp0", MODEL, 0},
    {"/dev/ptp-test-denied", NOT_OURS, EACCES},
    {"/dev/ptp-test-busy", NOT_OURS, EBUSY},
    {"/dev/ptp-test-no-files-left", NOT_OURS, EMFILE},
};

static int real_gettime(clockid_t clock, struct timespec *reading) {
  static int (*_Atomic real)(clockid_t, struct timespec *);
  if (real == NULL) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
  return real(clock, reading);
}

static int64_t read_ns(clockid_t clock) {
  struct timespec reading;
  real_gettime(clock, &reading);
  return (int64_t)reading.tv_sec * 1000000000 + reading.tv_nsec + (clock == CLOCK_REALTIME ? model->host_ahead_ns : 0);
}

/* The device belongs to the host, so all processes with the same model see the same clock: the base is of the kernel. */
static void load_model(void) {
  static _Atomic int loaded;
  if (atomic_exchange(&loaded, 1)) return;
  realtime_minus_raw = read_ns(CLOCK_REALTIME) - read_ns(CLOCK_MONOTONIC_RAW);
  const char *path = getenv("FAKE_PTP_MODEL");
  if (path == NULL) return;
  int (*real_open)(const char *, int, ...) = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open");
  int fd = real_open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) abort();
  void *mapped = mmap(NULL, sizeof *model, PROT_READ, MAP_SHARED, fd, 0);
  if (mapped == MAP_FAILED) abort();
  model = mapped;
}

static int64_t device_at(int64_t raw) {
  int64_t drifted = (int64_t)((__int128)(raw - model->drift_from_raw_ns) * model->drift_ppb / 1000000000);
  return raw + realtime_minus_raw + model->host_ahead_ns + model->offset_ns + drifted;
}

static int64_t noise(void) {
  if (model->noise_ns == 0) return 0;
  noise_state = noise_state * 1664525u + 1013904223u;
  return (int64_t)(noise_state >> 8) % (2 * model->noise_ns + 1) - model->noise_ns;
}

static struct ptp_clock_time ptp_time(int64_t ns) {
  struct ptp_clock_time time = {.sec = ns / 1000000000, .nsec = (uint32_t)(ns % 1000000000)};
  return time;
}

/* The device at the present moment, half a bracket of time before and after. */
static struct ptp_clock_time read_device(void) {
  int64_t until = read_ns(CLOCK_MONOTONIC_RAW) + model->bracket_ns / 2;
  int64_t raw;
  do raw = read_ns(CLOCK_MONOTONIC_RAW);
  while (raw < until);
  int64_t ns = device_at(raw);
  until = raw + model->bracket_ns / 2;
  while (read_ns(CLOCK_MONOTONIC_RAW) < until) continue;
  return ptp_time(ns + noise());
}

static int is_busy(int64_t always) {
  return always || read_ns(CLOCK_MONOTONIC_RAW) < model->busy_until_raw_ns;
}

static int model_ioctl(unsigned long request, void *argument) {
  static const struct { unsigned long request; int64_t bit; } ioctls[] = {{PTP_SYS_OFFSET_PRECISE, 1}, {PTP_SYS_OFFSET_EXTENDED, 2}, {PTP_SYS_OFFSET, 4}};
  if (model->gone) {
    errno = ENODEV;
    return -1;
  }
  for (size_t i = 0; i < sizeof ioctls / sizeof *ioctls; i++) {
    if (ioctls[i].request == request && (model->lacks & ioctls[i].bit)) {
      errno = EOPNOTSUPP;
      return -1;
    }
  }
  if (request != PTP_CLOCK_GETCAPS && is_busy(model->busy)) {
    errno = EBUSY;
    return -1;
  }
  switch (request) {
    case PTP_CLOCK_GETCAPS: {
      struct ptp_clock_caps *caps = argument;
      memset(caps, 0, sizeof *caps);
      caps->max_adj = model->fixed ? 0 : 62499999;
      caps->cross_timestamping = !(model->lacks & 1);
      return 0;
    }
    case PTP_SYS_OFFSET_PRECISE: {
      struct ptp_sys_offset_precise *precise = argument;
      int64_t raw = read_ns(CLOCK_MONOTONIC_RAW);
      precise->sys_monoraw = ptp_time(raw);
      precise->device = ptp_time(device_at(raw) + noise());
      precise->sys_realtime = ptp_time(raw + realtime_minus_raw + model->host_ahead_ns);
      return 0;
    }
    case PTP_SYS_OFFSET_EXTENDED: {
      struct ptp_sys_offset_extended *extended = argument;
      for (unsigned i = 0; i < extended->n_samples; i++) {
        extended->ts[i][0] = ptp_time(read_ns(CLOCK_REALTIME));
        extended->ts[i][1] = read_device();
        extended->ts[i][2] = ptp_time(read_ns(CLOCK_REALTIME));
      }
      return 0;
    }
    case PTP_SYS_OFFSET: {
      struct ptp_sys_offset *offset = argument;
      offset->ts[0] = ptp_time(read_ns(CLOCK_REALTIME));
      for (unsigned i = 0; i < offset->n_samples; i++) {
        offset->ts[2 * i + 1] = read_device();
        offset->ts[2 * i + 2] = ptp_time(read_ns(CLOCK_REALTIME));
      }
      return 0;
    }
    default:
      errno = ENOTTY;
      return -1;
  }
}

int ioctl(int fd, unsigned long request, ...) {
  va_list rest;
  va_start(rest, request);
  void *argument = va_arg(rest, void *);
  va_end(rest);
  if (fd >= 0 && fd < FDS && behaviour_of[fd] == MODEL) return model_ioctl(request, argument);
  int (*real_ioctl)(int, unsigned long, ...) = (int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl");
  return real_ioctl(fd, request, argument);
}

/* Where `path` is to be looked for: below FAKE_PTP_ROOT, or where it says. `room` takes PATH_MAX. */
static const char *moved(const char *path, char *room, int listing) {
  static const char *const moving[] = {"/sys/class/ptp", "/sys/class/net"};
  const char *root = getenv("FAKE_PTP_ROOT");
  if (root == NULL) return path;
  int moves = listing && strcmp(path, "/dev") == 0;
  for (size_t i = 0; i < sizeof moving / sizeof *moving; i++) moves = moves || strncmp(path, moving[i], strlen(moving[i])) == 0;
  if (!moves) return path;
  snprintf(room, PATH_MAX, "%s%s", root, path);
  return room;
}

static int open_as(const char *symbol, const char *path, int flags, mode_t mode) {
  int (*real_open)(const char *, int, ...) = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, symbol);
  char room[PATH_MAX];
  path = moved(path, room, 0);
  for (size_t i = 0; i < sizeof devices / sizeof *devices; i++) {
    if (strcmp(path, devices[i].path) != 0) continue;
    if (strcmp(path, "/dev/ptp0") == 0 && getenv("FAKE_PTP_ROOT") == NULL) break;
    if (devices[i].open_errno != 0) {
      errno = devices[i].open_errno;
      return -1;
    }
    if (devices[i].behaviour == MODEL) {
      load_model();
      if (model->gone) {
        errno = ENODEV;
        return -1;
      }
      if (model->denied) {
        errno = EACCES;
        return -1;
      }
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

typedef int (*scanner)(const char *, struct dirent ***, int (*)(const struct dirent *), int (*)(const struct dirent **, const struct dirent **));

int scandir(const char *path, struct dirent ***names, int (*filter)(const struct dirent *), int (*order)(const struct dirent **, const struct dirent **)) {
  char room[PATH_MAX];
  return ((scanner)dlsym(RTLD_NEXT, "scandir"))(moved(path, room, 1), names, filter, order);
}

int scandir64(const char *path, struct dirent64 ***names, int (*filter)(const struct dirent64 *), int (*order)(const struct dirent64 **, const struct dirent64 **)) {
  char room[PATH_MAX];
  return ((scanner)dlsym(RTLD_NEXT, "scandir64"))(moved(path, room, 1), (struct dirent ***)names, (int (*)(const struct dirent *))filter, (int (*)(const struct dirent **, const struct dirent **))order);
}

ssize_t readlink(const char *path, char *target, size_t size) {
  char room[PATH_MAX];
  ssize_t (*real_readlink)(const char *, char *, size_t) = (ssize_t (*)(const char *, char *, size_t))dlsym(RTLD_NEXT, "readlink");
  return real_readlink(moved(path, room, 0), target, size);
}

int close(int fd) {
  int (*real_close)(int) = (int (*)(int))dlsym(RTLD_NEXT, "close");
  if (fd >= 0 && fd < FDS) behaviour_of[fd] = NOT_OURS;
  return real_close(fd);
}

int clock_gettime(clockid_t clock, struct timespec *reading) {
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
    case MODEL: {
      if (model->gone) {
        errno = ENODEV;
        return -1;
      }
      if (is_busy(model->busy_gettime)) {
        errno = EBUSY;
        return -1;
      }
      int64_t ns = device_at(read_ns(CLOCK_MONOTONIC_RAW));
      reading->tv_sec = ns / 1000000000;
      reading->tv_nsec = ns % 1000000000;
      return 0;
    }
    case FIXED: /* 0xfedcba9876543210 ns */
      reading->tv_sec = 18364758544;
      reading->tv_nsec = 493064720;
      return 0;
    default:
      if (clock == CLOCK_REALTIME && getenv("FAKE_PTP_MODEL") != NULL) {
        load_model();
        int64_t ns = read_ns(clock);
        reading->tv_sec = ns / 1000000000;
        reading->tv_nsec = ns % 1000000000;
        return 0;
      }
      return real_gettime(clock, reading);
  }
}
