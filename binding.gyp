{
  # The addon is plain Node-API: one build runs on every Node version from 20 on. It is Linux-only for now: elsewhere
  # scripts/install.mjs does not call node-gyp at all.
  "variables": {
    # Through Node's own resolution, so that it does not matter where npm hoists a package.
    "node_addon_api_dir": "<!(node -p \"require('path').dirname(require.resolve('node-addon-api/package.json'))\")",
    "xxhash_dir": "<!(node -p \"require('path').dirname(require.resolve('xxhash-addon/package.json'))\")/xxHash",
    # Set by scripts/install.mjs in a checkout. Not in an installed package: a compiler newer than this source may warn
    # of things that no compiler knew before.
    "warnings_are_errors": "<!(node -p \"process.env.JITPAXOS_WARNINGS_ARE_ERRORS === '1' ? 1 : 0\")",
    # Set by scripts/prebuilds.mjs: the binary is to load on systems that are older than the one that compiles it.
    "portable": "<!(node -p \"process.env.JITPAXOS_PORTABLE === '1' ? 1 : 0\")",
    # The loader (src/native/addon.ts) refuses an addon of another version.
    "package_version": "<!(node -p \"require('./package.json').version\")",
  },
  "targets": [
    {
      "target_name": "jitpaxos",
      "sources": [
        "native/addon.cc",
        "native/aead.cc",
        "native/arguments.cc",
        "native/clock.cc",
        "native/hash.cc",
        "native/udp.cc",
        "native/hmac.cc",
        "native/kernel_clock.cc",
        "native/phc.cc",
        "native/system_errors.cc",
        "native/timer.cc",
        "native/unix_datagram.cc",
      ],
      "defines": [
        "NAPI_VERSION=8", 'JITPAXOS_VERSION="<(package_version)"', "NODE_ADDON_API_DISABLE_CPP_EXCEPTIONS", "NODE_ADDON_API_DISABLE_DEPRECATED",
        # A worker that is being terminated runs no JavaScript any more: what its last call would throw must not end the process.
        "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS",
      ],
      # -isystem: what others wrote may warn, what we wrote may not.
      "cflags_cc": [
        "-std=c++17", "-O3", "-fvisibility=hidden", "-Wall", "-Wextra",
        "-isystem", "<(node_addon_api_dir)",
        "-isystem", "<(xxhash_dir)",
      ],
      "cflags_cc!": ["-std=gnu++17", "-std=gnu++20"],
      "conditions": [
        # One by one, because Node's common.gypi takes a plain -Werror out again.
        ["warnings_are_errors==1", {"cflags_cc": ["-Werror=all", "-Werror=extra"]}],
        # Without run-time type information, shared_ptr needs a symbol of GCC 9's library.
        ["portable==1", {"sources": ["native/portable.cc"], "cflags_cc": ["-frtti"], "cflags_cc!": ["-fno-rtti"], "ldflags": ["-s"]}],
      ],
    },
  ],
}
