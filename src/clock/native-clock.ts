/**
 * Clocks read by the addon: the kernel's own and PTP hardware clocks.
 *
 * A reading is one call into the addon with a small integer, which allocates nothing. An error of the addon is turned
 * into a ClockError only when it is thrown, so a good reading pays nothing for it. Precision is the source's own, in
 * steps of 1 ns.
 */

import { getSystemErrorName } from 'node:util';
import type { NativeAddon, PhcHandle } from '../native/addon.js';
import type { Clock, ClockEpoch } from './clock.js';
import { epochOf } from './epoch.js';
import { ClockError } from './errors.js';
import type { SystemClockName } from './spec.js';

const EPOCHS: Readonly<Record<SystemClockName, ClockEpoch>> = {
  realtime: 'utc',
  tai: 'tai',
  monotonic: 'boot',
  'monotonic-raw': 'boot',
};

/** Not an id of the addon: reading it throws `clock-closed`. */
const CLOSED = -1;

/** The fields that the addon sets on an error of a system call. */
export interface SystemCallError extends Error {
  readonly errno?: number;
  readonly code?: string;
}

/**
 * Temporary: the device was asked too often, or took too long (ENA: EBUSY; PCIe cross timestamps: ETIMEDOUT). The next
 * answer may be good.
 */
const TRANSIENT = new Set(['EBUSY', 'EAGAIN', 'EINTR', 'ETIMEDOUT']);
/** ENA does not answer for a millisecond after a reading that took too long. */
const PAUSES_MS = [1, 2] as const;

const sleeper = new Int32Array(new SharedArrayBuffer(4));

export function isTransient(error: unknown): boolean {
  return TRANSIENT.has(errnoName(error as SystemCallError));
}

/**
 * Calls `read` again, after a pause, while it returns nothing or throws a temporary error. It blocks the thread for at
 * most 3 ms: use it to open a device, not for readings. In the end it throws the error of the last call.
 */
export function patiently<T>(read: () => T | undefined): T | undefined {
  for (const pauseMs of PAUSES_MS) {
    try {
      const value = read();
      if (value !== undefined) return value;
    } catch (error) {
      if (!isTransient(error)) throw error;
    }
    Atomics.wait(sleeper, 0, 0, pauseMs);
  }
  return read();
}

/** The name of the error, such as `ENODEV`; empty if no system call failed. */
export function errnoName(error: SystemCallError): string {
  return error.errno === undefined ? '' : getSystemErrorName(error.errno);
}

class NativeClock implements Clock {
  readonly source: string;
  readonly epoch: ClockEpoch;
  readonly #addon: NativeAddon;
  readonly #handle: { close(): void } | null;
  #id: number;

  /** `handle` keeps the descriptor open exactly as long as this clock lives. */
  constructor(addon: NativeAddon, source: string, epoch: ClockEpoch, id: number, handle: { close(): void } | null) {
    this.#addon = addon;
    this.source = source;
    this.epoch = epoch;
    this.#id = id;
    this.#handle = handle;
  }

  nowBigInt(): bigint {
    try {
      return this.#addon.clockReadBigInt(this.#id);
    } catch (error) {
      throw this.#explain(error);
    }
  }

  writeBE(bytes: Uint8Array, offset: number): void {
    try {
      this.#addon.clockWriteBE(this.#id, bytes, offset);
    } catch (error) {
      throw this.#explain(error);
    }
  }

  writeHalves(out: Int32Array, index: number): void {
    try {
      this.#addon.clockWriteHalves(this.#id, out, index);
    } catch (error) {
      throw this.#explain(error);
    }
  }

  close(): void {
    this.#id = CLOSED;
    this.#handle?.close();
  }

  #explain(error: unknown): unknown {
    const { code, errno } = error as SystemCallError;
    if (code === 'clock-closed')
      return new ClockError('clock-closed', `${this.source} was closed: open it again with openClock`);
    if (errno === undefined) return error;
    if (isTransient(error))
      return new ClockError(
        'clock-unavailable',
        `${this.source} is busy (${errnoName(error as SystemCallError)}); read it again`,
        error,
      );
    return new ClockError(
      'clock-lost',
      `${this.source} stopped answering (${errnoName(error as SystemCallError)}): the device was removed or its driver failed; check the network card and dmesg, then open the clock again`,
      error,
    );
  }
}

/** A kernel clock. Does not throw. */
export function openSystemClock(addon: NativeAddon, name: SystemClockName): Clock {
  return new NativeClock(addon, name, EPOCHS[name], addon.systemClocks[name], null);
}

/** The clock of the addon with this `id`; `handle` keeps it open. */
export function nativeClock(
  addon: NativeAddon,
  source: string,
  epoch: ClockEpoch,
  id: number,
  handle: { close(): void },
): Clock {
  return new NativeClock(addon, source, epoch, id, handle);
}

/**
 * The PTP hardware clock at `path`, opened read-only. Its epoch is found by comparison with the system clock
 * (epoch.ts), `boot` if it has none. Throws ClockError.
 */
export function openPhc(addon: NativeAddon, path: string): Clock {
  let handle: PhcHandle;
  try {
    handle = patiently(() => new addon.PhcHandle(path))!;
  } catch (error) {
    throw explainOpen(path, error as SystemCallError);
  }
  let epoch: ClockEpoch;
  try {
    epoch = patiently(
      () =>
        epochOf(addon.clockReadBigInt(handle.id) - addon.clockReadBigInt(addon.systemClocks.realtime))?.epoch ?? 'boot',
    )!;
  } catch (error) {
    handle.close();
    throw explainOpen(path, error as SystemCallError);
  }
  return new NativeClock(addon, `phc:${path}`, epoch, handle.id, handle);
}

/** Turns the addon's error at opening a device into a ClockError. */
export function explainOpen(path: string, error: SystemCallError): ClockError {
  if (error.code === 'clock-limit') {
    return new ClockError(
      'clock-limit',
      `${path} cannot be opened: this thread has the maximum number of hardware clocks open; close one`,
      error,
    );
  }
  const reason = errnoName(error);
  switch (reason) {
    case 'ENOENT':
    case 'ENOTDIR':
    case 'ENODEV':
    case 'ENXIO':
    case 'ELOOP':
    case 'ENAMETOOLONG':
      return new ClockError(
        'clock-not-found',
        `${path} is not there (${reason}): \`ls /dev/ptp*\` lists the hardware clocks of this host, \`ethtool -T <interface>\` names the clock of a network card; without one, use realtime`,
        error,
      );
    case 'EACCES':
    case 'EPERM':
      return new ClockError(
        'clock-permission',
        `${path} may not be read by this user (${reason}): give a group access with a udev rule such as SUBSYSTEM=="ptp", GROUP="ptp", MODE="0640" in /etc/udev/rules.d/, add the user to that group, and log in again`,
        error,
      );
    case 'EINVAL':
    case 'ENOTTY':
    case 'ENOTSUP': // libuv's name for EOPNOTSUPP
    case 'EISDIR':
      return new ClockError(
        'clock-not-a-clock',
        `${path} is not a clock (${reason}): a PTP hardware clock is a character device such as /dev/ptp0; \`ls /dev/ptp*\` lists them`,
        error,
      );
    case 'EMFILE':
    case 'ENFILE':
      return new ClockError(
        'clock-limit',
        `${path} cannot be opened: too many files are open (${reason}); raise the limit (ulimit -n) or close some`,
        error,
      );
    default:
      return new ClockError(
        'clock-unavailable',
        `${path} cannot be opened (${error.message}): check the device and its driver (dmesg)`,
        error,
      );
  }
}
