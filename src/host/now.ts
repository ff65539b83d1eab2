/** Fills an Instant: the only place where a host reads its clocks for a core. */
import type { Clock } from '../clock/clock.js';
import { openMonotonic } from '../clock/monotonic.js';
import { Instant } from '../protocol/contract.js';

export class Now {
  readonly instant = new Instant();
  private readonly halves = new Int32Array(2);
  private readonly monotonic = openMonotonic();

  constructor(private readonly clock: Clock) {}

  /** The current moment; always the same object. Throws ClockError `clock-lost` if the clock's device is gone. */
  read(): Instant {
    const { instant, halves, monotonic } = this;
    this.clock.writeHalves(halves, 0);
    instant.wallHi = halves[0]!;
    instant.wallLo = halves[1]!;
    monotonic.read();
    instant.monotonicUs = monotonic.at[0]!;
    return instant;
  }
}
