/**
 * Wakes an open loop when the next arrival is due, as precisely as the host allows.
 *
 * `sleep`: by a timer (clock/deadline-timer.ts), one wake-up latency late. Without the addon, arrivals go out in
 * bursts, up to two milliseconds late, and the reported scheduling delay shows it. `spin`: a timer for all but the last
 * moment, then turns of the event loop, which serve arriving packets; such a client keeps a core busy, unless it sends
 * rarely.
 */
import { openDeadlineTimer, type DeadlineTimer } from '../../clock/deadline-timer.js';
import type { NativeBinding } from '../../native/addon.js';

export type PacingKind = 'spin' | 'sleep';

/** At least as long as the lateness of timers. */
const SPIN_US = 200;
const SPIN_IMPRECISE_US = 2_000;

export class Pacer {
  private readonly timer: DeadlineTimer;
  private readonly turnsUs: number;
  /** When the timer fires. */
  private timerUs = Infinity;
  private immediate: NodeJS.Immediate | undefined;

  /** @param wake finds out what is due, which may be nothing yet, and arms again */
  constructor(
    kind: PacingKind,
    private readonly wake: () => void,
    binding?: NativeBinding,
  ) {
    this.timer = openDeadlineTimer(() => this.fired(), binding);
    this.turnsUs = kind === 'sleep' ? 0 : this.timer.isPrecise ? SPIN_US : SPIN_IMPRECISE_US;
  }

  /**
   * Calls `wake` as close to `atUs` as possible, perhaps earlier; Infinity: perhaps not at all. Times are those of
   * `performance.now()`, in µs. A timer that is too early is left alone: setting one is a system call, and an open loop
   * at its limit asks after every completion.
   */
  arm(atUs: number, nowUs: number): void {
    if (atUs - nowUs > this.turnsUs) {
      clearImmediate(this.immediate);
      this.immediate = undefined;
      if (atUs - this.turnsUs >= this.timerUs) return;
      this.timerUs = atUs - this.turnsUs;
      this.timer.arm(this.timerUs, nowUs);
    } else if (this.immediate === undefined) {
      this.timerUs = Infinity;
      this.timer.disarm();
      this.immediate = setImmediate(this.onImmediate);
    } // otherwise it comes with the next turn anyway
  }

  disarm(): void {
    this.timerUs = Infinity;
    this.timer.disarm();
    clearImmediate(this.immediate);
    this.immediate = undefined;
  }

  /** `wake` is not called afterwards. */
  close(): void {
    this.disarm();
    this.timer.close();
  }

  private fired(): void {
    this.timerUs = Infinity;
    this.wake();
  }

  private readonly onImmediate = (): void => {
    this.immediate = undefined;
    this.wake();
  };
}
