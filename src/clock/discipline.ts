/**
 * The reading of a disciplined clock: follows the device's line and never goes back.
 *
 * After each sample the line has moved a little. A small difference is slewed away before the next sample is due. A
 * large difference forwards is a jump, because lagging behind helps nobody. A large difference backwards is worked off
 * at half speed, because no reading may be below an earlier one. Jumps and half-speed phases are counted as steps.
 *
 * Pure, like the filter. Segments have the form that native/discipline.h follows, and `read` computes the same values.
 */
import type { PhcLine } from './phc-filter.js';

/** Differences up to this size are slewed. */
export const STEP_NS = 100_000;
/** Fastest slew: the limit that the kernel sets for its own clock (adjtimex). */
const SLEW_RATE_MAX = 500e-6;
/** A clock that is ahead runs at half speed until it is not. */
const HALF_SPEED = -0.5;
/** Shortest time for a slew, ns: samples do not always arrive at their interval. */
const SLEW_NS_MIN = 1_000_000;
const RATE_SHIFT = 40n;
const RATE_UNIT = 2 ** 40;

export class Discipline {
  /** [raw, reading, rate] of the current segment and of the next: what the addon's `set` takes. */
  readonly segments = new BigInt64Array(6);
  /** Jumps forward, and backward differences that were worked off at half speed. */
  steps = 0;
  private started = false;

  /** Follows `line` (plus `shiftNs`) from `raw` on, and reaches it within `slewNs` if possible. */
  follow(line: PhcLine, shiftNs: bigint, raw: bigint, slewNs: number): void {
    const { segments } = this;
    const target = lineAt(line, shiftNs, raw);
    if (!this.started) {
      this.started = true;
      this.setLine(raw, target, line.rate);
      return;
    }
    const shown = this.read(raw);
    const ahead = Number(shown - target);
    if (ahead < -STEP_NS) {
      this.steps++;
      this.setLine(raw, target, line.rate);
      return;
    }
    const atHalfSpeed = this.giveBack(raw);
    let correction: number;
    let durationNs: number;
    if (ahead > STEP_NS) {
      if (!atHalfSpeed) this.steps++;
      correction = HALF_SPEED - line.rate;
      durationNs = ahead / -correction;
    } else {
      correction = Math.max(-SLEW_RATE_MAX, Math.min(SLEW_RATE_MAX, -ahead / Math.max(slewNs, SLEW_NS_MIN)));
      durationNs = correction === 0 ? 0 : ahead / -correction;
    }
    const end = raw + BigInt(Math.ceil(durationNs));
    segments[0] = raw;
    segments[1] = shown;
    segments[2] = rateOf(line.rate + correction);
    segments[3] = end;
    segments[4] = lineAt(line, shiftNs, end);
    segments[5] = rateOf(line.rate);
  }

  /** The clock's reading at `raw`, without the guard against going back. */
  read(raw: bigint): bigint {
    const { segments } = this;
    const at = raw < segments[3]! ? 0 : 3;
    const elapsed = raw - segments[at]!;
    return segments[at + 1]! + elapsed + ((elapsed * segments[at + 2]!) >> RATE_SHIFT);
  }

  /** The clock is ahead of its device and runs at half speed. */
  giveBack(raw: bigint): boolean {
    return raw < this.segments[3]! && this.segments[2]! < rateOf(HALF_SPEED / 2);
  }

  private setLine(raw: bigint, reading: bigint, rate: number): void {
    for (const at of [0, 3]) {
      this.segments[at] = raw;
      this.segments[at + 1] = reading;
      this.segments[at + 2] = rateOf(rate);
    }
  }
}

/** The device's reading at `raw` according to the line, shifted. */
function lineAt(line: PhcLine, shiftNs: bigint, raw: bigint): bigint {
  const elapsed = raw - line.rawAt;
  return line.deviceAt + shiftNs + elapsed + ((elapsed * rateOf(line.rate)) >> RATE_SHIFT);
}

function rateOf(rate: number): bigint {
  return BigInt(Math.round(rate * RATE_UNIT));
}
