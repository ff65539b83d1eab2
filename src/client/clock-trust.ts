/**
 * Whether a client stamps by its own clock or by what the replicas' clocks say of it.
 *
 * The clock is believed as long as nothing speaks against it. Two things may: its own quality, and a majority of the
 * replicas whose clocks agree with each other and not with this one. Then the difference is added to its readings,
 * where it is larger than what the round trips leave open; a smaller one would be noise in place of a clock.
 *
 * The rule: this decides speed, never an answer. Without a majority that agrees there is no correction: two clocks that
 * differ do not tell which one is wrong.
 */
import type { ClockQuality } from '../clock/host-clock.js';

/** A difference below this is not worth correcting, µs. */
const WORTH_US = 50;
/** A clock that states no bound may be so far off before the replicas are believed instead, µs. */
const UNSTATED_US = 500;
/** One that states a bound is granted at least this, µs. */
const STATED_US_MIN = 200;
/** A doubt ends when the difference is below this share of what began it. */
const HYSTERESIS = 0.5;

export class ClockTrust {
  /** To be added to readings, ns; 0 while the clock is believed. */
  correctionNs = 0;
  /** The replicas contradict the clock by more than it can be off by its own word. */
  contradicted = false;

  /** `majority`: offset of the replicas' clocks from ours and its uncertainty in µs (protocol/clock-offsets.ts). */
  judge(quality: ClockQuality, majority: readonly [offsetUs: number, uncertaintyUs: number] | undefined): void {
    if (majority === undefined) return; // what was known last still is
    const [offsetUs, uncertaintyUs] = majority;
    const off = Math.abs(offsetUs);
    const own = quality.errorNs === null ? UNSTATED_US : Math.max(STATED_US_MIN, quality.errorNs / 1e3);
    this.contradicted = off > (uncertaintyUs + own) * (this.contradicted ? HYSTERESIS : 1);
    const correct = (this.contradicted || !quality.healthy) && off > uncertaintyUs + WORTH_US;
    this.correctionNs = correct ? Math.round(offsetUs * 1e3) : 0;
  }
}
