/**
 * Wakes a host when its core wants it.
 *
 * A core's wake-up time changes with nearly every operation, mostly to a later one, and arming a timer is a system
 * call. So a timer that is too early is left alone: the host finds nothing due and arms it again. If the timer counts
 * whole milliseconds (no addon), the host spends the last few hundred microseconds before a wake-up (a held-back
 * request) in turns of the event loop instead, which still serves arriving packets.
 */
import { DOUBLE_ZERO } from '../protocol/double-zero.js';
import { openDeadlineTimer, type DeadlineTimer } from '../clock/deadline-timer.js';
import type { NativeBinding } from '../native/addon.js';

const TURNS_US = 400;
/** A timer this late means that something blocked the event loop. */
const STALL_US = 10_000;

export class WakeTimer {
  /** How often, and at worst how long, the event loop was blocked, as far as timers noticed. */
  stalls = 0;
  stallMaxUs = DOUBLE_ZERO;

  private readonly timer: DeadlineTimer;
  /** Latest time at which it wakes; Infinity: not armed. Arming it for a later time does nothing. */
  armedForUs = Infinity;
  private immediate: NodeJS.Immediate | undefined;

  /** @param wake does what is due, which may be nothing yet, and arms the timer again */
  constructor(
    private readonly wake: () => void,
    binding?: NativeBinding,
  ) {
    this.timer = openDeadlineTimer(() => this.fired(), binding);
  }

  /** Makes sure that `wake` is called at `wakeAtUs` or earlier. Times are those of `performance.now()`, in µs. */
  arm(wakeAtUs: number, nowUs: number): void {
    if (wakeAtUs >= this.armedForUs) return;
    this.armedForUs = Math.max(wakeAtUs, nowUs); // lateness is measured from then on
    clearImmediate(this.immediate);
    if (this.timer.isPrecise || wakeAtUs - nowUs >= TURNS_US) this.timer.arm(wakeAtUs, nowUs);
    else {
      this.timer.disarm();
      this.immediate = setImmediate(this.turn);
    }
  }

  /** Afterwards it never wakes. */
  stop(): void {
    this.timer.close();
    clearImmediate(this.immediate);
    this.armedForUs = -Infinity;
  }

  private fired(): void {
    const lateUs = performance.now() * 1000 - this.armedForUs;
    if (lateUs > STALL_US) this.stalls++;
    if (lateUs > this.stallMaxUs) this.stallMaxUs = lateUs;
    this.armedForUs = Infinity;
    this.wake();
  }

  private readonly turn = (): void => {
    if (performance.now() * 1000 < this.armedForUs) {
      this.immediate = setImmediate(this.turn);
      return;
    }
    this.armedForUs = Infinity;
    this.wake();
  };
}
