/**
 * Wakes a host when its core wants it.
 *
 * A core's wake-up time moves with nearly every operation, mostly to later, and arming a Node timer costs more than
 * handling a request. So a timer that fires too early is left alone: the host finds nothing due and arms it again. Node's timers
 * count whole milliseconds; the last few hundred microseconds before a wake-up (a request held back until its time) pass
 * in turns of the event loop instead, which still serves packets as they come.
 */
const SPIN_US = 400;
/** A timer that comes so much later than asked for means that something held the event loop. */
const STALL_US = 10_000;
/** Node's timers are int32 milliseconds. */
const LONGEST_MS = 0x3fffffff;

export class WakeTimer {
  /** How often, and at worst how long, the event loop was held up, as far as timers noticed. */
  stalls = 0;
  stallMaxUs = 0.5; // a fraction from the start on: V8 then keeps the field as a double

  private armedForUs = Infinity;
  private firesAtUs = Infinity;
  private timeout: NodeJS.Timeout | undefined;
  private immediate: NodeJS.Immediate | undefined;

  /** @param wake does what is due, which may be nothing yet, and arms the timer again */
  constructor(private readonly wake: () => void) {}

  /** Sees to it that `wake` is called at `wakeAtUs` or before. Times are those of `performance.now()`, in µs. */
  arm(wakeAtUs: number, nowUs: number): void {
    if (wakeAtUs >= this.armedForUs) return;
    this.cancel();
    const delayUs = wakeAtUs - nowUs;
    this.armedForUs = wakeAtUs;
    if (delayUs < SPIN_US) {
      this.immediate = setImmediate(this.spin);
      return;
    }
    const delayMs = Math.min(LONGEST_MS, Math.ceil(delayUs / 1000));
    this.firesAtUs = nowUs + delayMs * 1000;
    this.timeout = setTimeout(this.fired, delayMs);
  }

  stop(): void {
    this.cancel();
  }

  private cancel(): void {
    if (this.timeout !== undefined) clearTimeout(this.timeout);
    if (this.immediate !== undefined) clearImmediate(this.immediate);
    this.timeout = undefined;
    this.immediate = undefined;
    this.armedForUs = Infinity;
  }

  private readonly fired = (): void => {
    const lateUs = performance.now() * 1000 - this.firesAtUs;
    if (lateUs > STALL_US) this.stalls++;
    if (lateUs > this.stallMaxUs) this.stallMaxUs = lateUs;
    this.timeout = undefined;
    this.armedForUs = Infinity;
    this.wake();
  };

  private readonly spin = (): void => {
    if (performance.now() * 1000 < this.armedForUs) {
      this.immediate = setImmediate(this.spin);
      return;
    }
    this.immediate = undefined;
    this.armedForUs = Infinity;
    this.wake();
  };
}
