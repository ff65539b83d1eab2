/**
 * Decides whether a client uses its own clock or a correction from the replicas' clocks.
 *
 * The clock is trusted as long as nothing speaks against it. Two things may: its own quality, and a majority of the
 * replicas whose clocks agree with each other and not with this one. Then the difference is added to its readings, if
 * it is larger than what the round trips leave open; a smaller correction would only be noise.
 *
 * The rule: this affects speed, never an answer. Without an agreeing majority there is no correction: two clocks that
 * differ do not tell which one is wrong.
 */
import type { ClockQuality } from '../clock/host-clock.js';

/** A difference below this is not worth correcting, µs. */
const WORTH_US = 50;
/** How far a clock without a stated bound may be off before the replicas are trusted instead, µs. */
const UNSTATED_US = 500;
/** The least that a clock with a stated bound may be off, µs. */
const STATED_US_MIN = 200;
/** A doubt ends when the difference falls below this share of the one that began it. */
const HYSTERESIS = 0.5;

export class ClockTrust {
  /** Added to readings, ns; 0 while the clock is trusted. */
  correctionNs = 0;
  /** The replicas contradict the clock by more than its own bound allows. */
  contradicted = false;

  /** `majority`: offset of the replicas' clocks from ours and its uncertainty in µs (protocol/clock-offsets.ts). */
  judge(quality: ClockQuality, majority: readonly [offsetUs: number, uncertaintyUs: number] | undefined): void {
    if (majority === undefined) return; // the last result still holds
    const [offsetUs, uncertaintyUs] = majority;
    const off = Math.abs(offsetUs);
    const own = quality.errorNs === null ? UNSTATED_US : Math.max(STATED_US_MIN, quality.errorNs / 1e3);
    this.contradicted = off > (uncertaintyUs + own) * (this.contradicted ? HYSTERESIS : 1);
    const correct = (this.contradicted || !quality.healthy) && off > uncertaintyUs + WORTH_US;
    this.correctionNs = correct ? Math.round(offsetUs * 1e3) : 0;
  }
}
