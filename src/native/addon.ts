/**
 * Finds and loads the C++ addon.
 *
 * The rule: the addon makes things faster but is never required. Importing this module cannot fail. If the addon is
 * missing, `native.reason` says why and what to do, and every user of it has another way (or an error that repeats the
 * reason). The addon belongs to the package, so it is looked for relative to this file, never to the working directory:
 * compiled on this host in build/Release/, otherwise prebuilt in prebuilds/. A binary of another version is refused.
 */

import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { familySync, MUSL } from 'detect-libc';
import type { UdpPort, UdpPortOptions } from './udp-port.js';

/**
 * Zeroed memory, at most 2^31 − 1 bytes. Hashing a range of it costs a third of `hash64`: the call has no arguments,
 * and each argument costs as much as the hash.
 */
export interface HashArena {
  readonly bytes: Uint8Array;
  /** Input: offset and length of the range. Output: the digest, upper and lower half, as in wire/u64.ts. */
  readonly fields: Int32Array;
  /** Throws RangeError `out-of-bounds`; the digest then stays unchanged. */
  readonly hash: () => void;
}

/**
 * What `native/` exports, function by function. Hot functions allocate nothing on the JavaScript heap and check every
 * bound themselves. They throw TypeError (`invalid-argument`) and RangeError (`out-of-bounds`), each with `code`,
 * `category` and `retryable`.
 */
export interface NativeAddon {
  /** The version of the package that it was built from. */
  readonly version: string;
  /** See Hash64. */
  hash64(bytes: Uint8Array, offset: number, length: number, out: Uint8Array, outOffset: number): void;
  /** SipHash-2-4 under a secret of 16 bytes: see loadSipHash. The other arguments are those of `hash64`. */
  sipHash64(
    secret: Uint8Array,
    bytes: Uint8Array,
    offset: number,
    length: number,
    out: Uint8Array,
    outOffset: number,
  ): void;
  /** See Hash64. With a secret of 16 bytes it uses SipHash-2-4. */
  hashArena(length: number, secret?: Uint8Array): HashArena;
  /**
   * Expands a key of 32 bytes and returns a slot for `hmac128`. Throws an Error with code `hmac-limit` (8,192 per
   * thread) or `hmac-unavailable`.
   */
  hmacOpen(key: Uint8Array): number;
  /** Forgets a key. */
  hmacClose(slot: number): void;
  /** See Mac. */
  hmac128(slot: number, bytes: Uint8Array, offset: number, length: number, out: Uint8Array, outOffset: number): void;
  /**
   * AES-128-GCM for streams of datagrams in one direction: see aead.ts. `frame` is a packed AeadFrame. `memory` is an
   * array that this addon made in this thread. Throws an Error with code `aead-unavailable`.
   */
  aeadTable(frame: Uint8Array, seals: boolean, memory?: Uint8Array): AeadTable;
  /** Clock ids that are always open, by name. */
  readonly systemClocks: Readonly<Record<'realtime' | 'tai' | 'monotonic' | 'monotonic-raw', number>>;
  /**
   * Nanoseconds. Allocates the BigInt. This and the next two functions throw an Error with code `clock-closed`, or with
   * `errno` if the device is gone.
   */
  clockReadBigInt(id: number): bigint;
  /** Nanoseconds, 8 bytes big-endian from `bytes[offset]` on. */
  clockWriteBE(id: number, bytes: Uint8Array, offset: number): void;
  /** Nanoseconds, upper half into `out[index]`, lower into `out[index + 1]`, as in wire/u64.ts. */
  clockWriteHalves(id: number, out: Int32Array, index: number): void;
  /**
   * Opens a PTP hardware clock. Throws an Error with `errno` (negative) and `syscall`, or with code `clock-limit` (60
   * per thread).
   */
  readonly PhcHandle: new (
    path: string,
  ) => PhcHandle;
  /** The sockets of one transport. */
  readonly UdpPort: new (
    options: UdpPortOptions,
  ) => UdpPort;
  /** A clock computed from CLOCK_MONOTONIC_RAW (native/discipline.h). Throws an Error with code `clock-limit`. */
  readonly DisciplinedClock: new () => DisciplinedHandle;
  /** adjtimex(2), without changing anything. Throws an Error with `errno`. */
  kernelClock(): KernelClockRecord;
  /**
   * A Unix datagram socket, bound to the path `local` (empty: the kernel picks a name) and connected to `remote`. Throws
   * an Error with `errno` and `syscall`.
   */
  readonly UnixDatagram: new (
    local: string,
    remote: string,
  ) => UnixDatagramHandle;
  /** A timer that calls `fired` once each time it is armed. Throws an Error with `errno` and `syscall`. */
  readonly Timer: new (
    fired: () => void,
  ) => TimerHandle;
}

/** Streams of datagrams in one direction, each with a key of its own. A stream is named by a slot. */
export interface AeadTable {
  /** Input and output of `runInMemory`: see AeadField. */
  readonly fields: Int32Array;
  /**
   * Gives a stream a key of 16 bytes, which is copied, in the place of the one before. Returns its slot. A slot of −1
   * makes a new stream. Throws an Error with code `aead-limit` (8,192 streams) or `aead-failed`.
   */
  readonly setKey: (slot: number, key: Uint8Array) => number;
  /** Wipes the key. The slot belongs to nobody then. */
  readonly forget: (slot: number) => void;
  /**
   * Seals or opens a datagram in place. False if it is not authentic. Throws an Error with code `aead-failed` if sealing
   * fails.
   */
  readonly run: (slot: number, bytes: Uint8Array, offset: number, length: number) => boolean;
  /** The same for a datagram in the table's memory. Costs less: the call has no arguments. */
  readonly runInMemory: () => void;
}

/** Fields of an AeadTable. */
export const AeadField = Object.freeze({
  slot: 0,
  offset: 1,
  length: 2,
  /** Output: 1 if the datagram was sealed, or is authentic. */
  intact: 3,
});

/** An open PTP hardware clock; the descriptor is closed by `close` or when the handle is collected. */
export interface PhcHandle {
  /** For the clock functions; −1 once closed. */
  readonly id: number;
  /** PTP_CLOCK_GETCAPS. Throws an Error with `errno`. */
  capabilities(): PhcCapabilities;
  /**
   * Reads device and host together by `method` (1 PRECISE, 2 EXTENDED, 3 OFFSET, 4 clock_gettime), `count` (1…25)
   * times, and keeps the narrowest: out[0] CLOCK_MONOTONIC_RAW ns, out[1] device ns, out[2] width of the bracket in ns.
   * False: the sample must be taken again. Throws an Error with `errno` if the device does not support this method.
   */
  sample(method: number, count: number, out: BigInt64Array): boolean;
  close(): void;
}

/** The capabilities of a PTP clock; source: struct ptp_clock_caps in linux/ptp_clock.h. */
export interface PhcCapabilities {
  readonly maxAdjustmentPpb: number;
  readonly alarms: number;
  readonly externalTimestamps: number;
  readonly periodicOutputs: number;
  readonly pins: number;
  readonly pps: boolean;
  /** The device can latch its own time and the host's at the same moment. */
  readonly crossTimestamping: boolean;
}

/** A clock whose readings follow the lines that were set, and never go back. */
export interface DisciplinedHandle {
  /** For the clock functions; −1 once closed. */
  readonly id: number;
  /** Two segments [raw ns, reading ns, rate in 2^-40]; the second applies from its own `raw` on. Copied. */
  set(segments: BigInt64Array): void;
  close(): void;
}

/** The fields of struct timex that matter here, in the kernel's units; see adjtimex(2). */
export interface KernelClockRecord {
  /** Return value of the call: TIME_OK 0 … TIME_ERROR 5. */
  readonly state: number;
  /** STA_* bits. */
  readonly status: number;
  /** µs, or ns with STA_NANO. */
  readonly offset: number;
  /** ppm in 2^-16. */
  readonly frequency: number;
  readonly maxErrorUs: number;
  readonly estimatedErrorUs: number;
  /** TAI − UTC, s; 0 if no daemon told the kernel. */
  readonly taiOffsetS: number;
}

export interface UnixDatagramHandle {
  /** Throws an Error with `errno`. */
  send(bytes: Uint8Array): void;
  /**
   * Writes the waiting datagram to `bytes`, cut to its length, and returns the datagram's length; −1 if there was none.
   * Throws an Error with `errno`.
   */
  receive(bytes: Uint8Array): number;
  /** Also removes the local path. */
  close(): void;
}

/** A timerfd on the event loop. It holds a descriptor until `close`; while armed it keeps the process alive. */
export interface TimerHandle {
  /** When to fire, ns of CLOCK_MONOTONIC; a time in the past is due at once. Read by `arm`. */
  readonly at: Float64Array;
  /** Replaces what was armed before. */
  arm(): void;
  disarm(): void;
  close(): void;
}

/** Compiled on this host, or come with the package as a binary. */
export type AddonKind = 'compiled' | 'prebuilt';

/** The addon, or the reason why it is missing. */
export type NativeBinding =
  | { readonly available: true; readonly addon: NativeAddon; readonly reason: '' }
  | { readonly available: false; readonly addon: null; readonly reason: string };

/** The addon of this package; `kind` is null without one. */
export type OwnBinding = NativeBinding & { readonly kind: AddonKind | null };

type MethodsOf<T> = { [K in keyof T]: T[K] extends (...args: never[]) => unknown ? K : never }[keyof T];

// One entry for each export. An addon that lacks one of them was built from older source, and is refused as a whole.
// The type makes a forgotten entry a compile error.
const EXPORTS: Readonly<Record<keyof NativeAddon, 'function' | 'object' | 'string'>> = {
  version: 'string',
  hash64: 'function',
  sipHash64: 'function',
  hashArena: 'function',
  hmacOpen: 'function',
  hmacClose: 'function',
  hmac128: 'function',
  aeadTable: 'function',
  systemClocks: 'object',
  clockReadBigInt: 'function',
  clockWriteBE: 'function',
  clockWriteHalves: 'function',
  PhcHandle: 'function',
  UdpPort: 'function',
  DisciplinedClock: 'function',
  kernelClock: 'function',
  UnixDatagram: 'function',
  Timer: 'function',
};
// The same for the methods of the class to which methods are added now and then.
const UDP_PORT_METHODS: Readonly<Record<MethodsOf<UdpPort>, true>> = {
  start: true,
  bind: true,
  bufferBytes: true,
  flush: true,
  intern: true,
  endpointOf: true,
  noteReplica: true,
  kernelDrops: true,
  filtered: true,
  readdress: true,
  close: true,
};

const REBUILD =
  'build it with `npm run build:native` in a checkout, `npm rebuild jitpaxos --foreground-scripts` where jitpaxos is a dependency';

/** dist/src/native/ is three levels below the package's root. */
const PACKAGE = new URL('../../../', import.meta.url);
/** Where scripts/install.mjs puts the addon that it compiles for this host. */
const COMPILED_PATH = fileURLToPath(new URL('build/Release/jitpaxos.node', PACKAGE));
/** Where scripts/prebuilds.mjs puts the binary for a published package. */
const PREBUILT_PATH = fileURLToPath(new URL(`prebuilds/linux-${process.arch}/jitpaxos.node`, PACKAGE));

const require = createRequire(import.meta.url);

function missing(reason: string): NativeBinding {
  return { available: false, addon: null, reason };
}

/** Loads the addon at `path`. Does not throw. */
export function loadAddon(path: string, kind: AddonKind = 'compiled'): NativeBinding {
  if (process.platform !== 'linux')
    return missing(`the native addon is Linux-only for now, and this is ${process.platform}`);
  const name = kind === 'prebuilt' ? 'the prebuilt native addon' : 'the native addon';
  // A reason why the prebuilt one is no good is followed by the reason why there is no compiled one: see findAddon.
  const advice = kind === 'prebuilt' ? '' : `: ${REBUILD}`;
  if (!existsSync(path)) {
    return missing(
      `${name} is not built (${path} does not exist): ${REBUILD}. ` +
        'It needs a C++ compiler, make and Python 3 (Debian, Ubuntu: apt-get install build-essential python3)',
    );
  }
  let addon: NativeAddon;
  try {
    addon = require(path) as NativeAddon;
  } catch (error) {
    return missing(`${name} does not load (${error instanceof Error ? error.message : String(error)})${advice}`);
  }
  const stale: string[] = (Object.keys(EXPORTS) as (keyof NativeAddon)[]).filter(
    (name) => typeof addon[name] !== EXPORTS[name],
  );
  const port = (addon.UdpPort as { readonly prototype?: object } | undefined)?.prototype;
  if (port !== undefined)
    for (const name of Object.keys(UDP_PORT_METHODS)) if (!(name in port)) stale.push(`UdpPort.${name}`);
  if (stale.length > 0)
    return missing(`${name} was built from an older source (it lacks ${stale.join(', ')})${advice}`);
  const { version } = require(fileURLToPath(new URL('package.json', PACKAGE))) as { version: string };
  if (addon.version !== version)
    return missing(`${name} was built from jitpaxos ${addon.version}, and this is jitpaxos ${version}${advice}`);
  return { available: true, addon, reason: '' };
}

/**
 * Loads the binary that came with the package. It is linked against glibc: another C library may load it and fail later,
 * so it is not tried there.
 */
export function loadPrebuilt(): NativeBinding {
  if (process.platform === 'linux' && !existsSync(PREBUILT_PATH))
    return missing(`this package has no prebuilt native addon for linux-${process.arch}`);
  if (process.platform === 'linux' && familySync() === MUSL)
    return missing('the prebuilt native addon needs glibc, and this Node uses musl');
  return loadAddon(PREBUILT_PATH, 'prebuilt');
}

/**
 * An addon that was compiled here comes first: somebody may have wanted it (JITPAXOS_BUILD_NATIVE=1), and in a checkout
 * it is newer than a binary that a package was made of.
 */
function findAddon(): OwnBinding {
  const compiled = loadAddon(COMPILED_PATH);
  if (compiled.available) return { ...compiled, kind: 'compiled' };
  const prebuilt = loadPrebuilt();
  if (prebuilt.available) return { ...prebuilt, kind: 'prebuilt' };
  return { ...missing(`${prebuilt.reason}; ${compiled.reason}`), kind: null };
}

/** This package's addon, loaded once. */
export const native: OwnBinding = Object.freeze(findAddon());
