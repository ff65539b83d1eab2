/**
 * Wakes a host when its core wants it.
 *
 * A core's wake-up time moves with nearly every operation, mostly to later, and arming a timer is a system call. So a timer
 * that fires too early is left alone: the host finds nothing due and arms it again. Where the timer counts whole
 * milliseconds (no addon), the last few hundred microseconds before a wake-up (a request held back until its time) pass in
 * turns of the event loop instead, which still serves packets as they come.
 */
import { openDeadlineTimer, type DeadlineTimer } from '../clock/deadline-timer.js';
import type { NativeBinding } from '../native/addon.js';

const TURNS_US = 400;
/** A timer that comes so much later than asked for means that something held the event loop. */
const STALL_US = 10_000;

export class WakeTimer {
  /** How often, and at worst how long, the event loop was held up, as far as timers noticed. */
  stalls = 0;
  stallMaxUs = 0.5; // a fraction from the start on: V8 then keeps the field as a double

  private readonly timer: DeadlineTimer;
  /** When it wakes at the latest; Infinity: not armed. Arming it for later than that does nothing. */
  armedForUs = Infinity;
  private immediate: NodeJS.Immediate | undefined;

  /** @param wake does what is due, which may be nothing yet, and arms the timer again */
  constructor(
    private readonly wake: () => void,
    binding?: NativeBinding,
  ) {
    this.timer = openDeadlineTimer(() => this.fired(), binding);
  }

  /** Sees to it that `wake` is called at `wakeAtUs` or before. Times are those of `performance.now()`, in µs. */
  arm(wakeAtUs: number, nowUs: number): void {
    if (wakeAtUs >= this.armedForUs) return;
    this.armedForUs = Math.max(wakeAtUs, nowUs); // late is counted from then on
    clearImmediate(this.immediate);
    if (this.timer.isPrecise || wakeAtUs - nowUs >= TURNS_US) this.timer.arm(wakeAtUs, nowUs);
    else {
      this.timer.disarm();
      this.immediate = setImmediate(this.turn);
    }
  }

  /** It does not wake afterwards. */
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
