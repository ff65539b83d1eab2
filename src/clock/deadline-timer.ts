/**
 * A one-shot timer for times of `performance.now()`, as precise as the host has one.
 *
 * With the addon it is one of the kernel's (native/timer.cc): it fires a wake-up's length after its time, on time while the transport polls, and
 * arming it allocates nothing. Without, it is one of Node's, which count whole milliseconds and come up to two late.
 */
import { native, type NativeBinding, type TimerHandle } from '../native/addon.js';
import { monotonicOriginNs } from './monotonic.js';

const NS_PER_US = 1000;
const US_PER_MS = 1000;
/** Node's timers are int32 milliseconds. */
const LONGEST_MS = 0x3fffffff;

export interface DeadlineTimer {
  /** Counts in less than milliseconds. */
  readonly isPrecise: boolean;
  /** Fires once at `atUs`, or as soon after it as may be; Infinity: never. In place of what was armed before. Times in µs. */
  arm(atUs: number, nowUs: number): void;
  disarm(): void;
  /** It does not fire afterwards, whatever is called. */
  close(): void;
}

/** Throws an Error with `errno` when the process has no descriptor left. */
export function openDeadlineTimer(fired: () => void, binding: NativeBinding = native): DeadlineTimer {
  return binding.available ? new KernelTimer(new binding.addon.Timer(fired)) : new NodeTimer(fired);
}

class KernelTimer implements DeadlineTimer {
  readonly isPrecise = true;
  private readonly at: Float64Array;
  private readonly originNs = monotonicOriginNs();

  constructor(private readonly handle: TimerHandle) {
    this.at = handle.at;
  }

  arm(atUs: number): void {
    if (atUs === Infinity) return this.handle.disarm();
    this.at[0] = atUs * NS_PER_US + this.originNs;
    this.handle.arm();
  }

  disarm(): void {
    this.handle.disarm();
  }

  close(): void {
    this.handle.close();
  }
}

class NodeTimer implements DeadlineTimer {
  readonly isPrecise = false;
  private timeout: NodeJS.Timeout | undefined;
  private closed = false;

  constructor(private readonly fired: () => void) {}

  arm(atUs: number, nowUs: number): void {
    this.disarm();
    if (atUs === Infinity || this.closed) return;
    this.timeout = setTimeout(this.fired, Math.min(LONGEST_MS, Math.max(0, Math.ceil((atUs - nowUs) / US_PER_MS))));
  }

  disarm(): void {
    clearTimeout(this.timeout);
  }

  close(): void {
    this.disarm();
    this.closed = true;
  }
}
