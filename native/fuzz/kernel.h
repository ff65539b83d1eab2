// Included before every source of the fuzzed build (-include): system calls whose answers are parsed are answered by
// the fuzzer's bytes instead of the kernel.
#pragma once

#include <errno.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/timex.h>
#include <time.h>

namespace jitpaxos::fuzz {

int Ioctl(int descriptor, unsigned long request, void* argument);
int ClockGettime(clockid_t clock, timespec* reading);
int Adjtimex(timex* record);
ssize_t Recvmsg(int descriptor, msghdr* message, int flags);
int Recvmmsg(int descriptor, mmsghdr* messages, unsigned count, int flags, timespec* timeout);

}  // namespace jitpaxos::fuzz

#define ioctl ::jitpaxos::fuzz::Ioctl
#define clock_gettime ::jitpaxos::fuzz::ClockGettime
#define adjtimex ::jitpaxos::fuzz::Adjtimex
#define recvmsg ::jitpaxos::fuzz::Recvmsg
#define recvmmsg ::jitpaxos::fuzz::Recvmmsg
