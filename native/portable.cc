// Part of prebuilt binaries only (scripts/prebuilds.mjs), which have to load on systems older than the compiler's.
//
// The headers of a new compiler refer to symbols that older libraries lack. Where one can be defined here in a line, it
// is, and stays inside the addon. scripts/prebuilds.mjs refuses a binary that needs more than Node itself does.

#include <cstdlib>

extern "C" {

// glibc 2.32. shared_ptr asks it whether plain arithmetic is enough. 0 means "there may be several threads", so it counts
// atomically, as it does on an older glibc.
extern __attribute__((visibility("hidden"))) char __libc_single_threaded;
char __libc_single_threaded = 0;

// GCC 11: std::__throw_bad_array_new_length(). The addon is compiled without exceptions, so throwing would end the
// process too.
[[noreturn]] __attribute__((visibility("hidden"))) void ThrowBadArrayNewLength() __asm__("_ZSt28__throw_bad_array_new_lengthv");
void ThrowBadArrayNewLength() { std::abort(); }
}
