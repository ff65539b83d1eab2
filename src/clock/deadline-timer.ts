/**
 * A one-shot timer on the time scale of `performance.now()`, as precise as the host allows.
 *
 * With the addon it is a kernel timer (native/timer.cc): it fires one wake-up latency after its time, or on time while
 * the transport polls. Arming it allocates nothing. Without the addon it is a Node timer, which counts whole
 * milliseconds and fires up to two late.
 */
import { native, type NativeBinding, type TimerHandle } from '../native/addon.js';
import { monotonicOriginNs } from './monotonic.js';

const NS_PER_US = 1000;
const US_PER_MS = 1000;
/** Node's timers are int32 milliseconds. */
const LONGEST_MS = 0x3fffffff;

export interface DeadlineTimer {
  /** Resolution is finer than a millisecond. */
  readonly isPrecise: boolean;
  /**
   * Fires once at `atUs`, or as soon afterwards as possible; Infinity: never. Replaces what was armed before. Times in
   * µs.
   */
  arm(atUs: number, nowUs: number): void;
  disarm(): void;
  /** After closing, the timer never fires, even if `arm` is called. */
  close(): void;
}

/** Throws an Error with `errno` when the process is out of file descriptors. */
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
