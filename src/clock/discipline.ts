/**
 * What a disciplined clock shows: follows the device's line without ever going back.
 *
 * After each sample the line is a little elsewhere. A small difference is slewed away before the next sample is due. A
 * large one forwards is a jump, because staying behind would serve nobody; a large one backwards is time given back at
 * half speed, because no reading may be below an earlier one. Jumps and half speed are counted as steps.
 *
 * Pure, like the filter. Segments have the form that native/discipline.h follows, and `read` computes what it computes.
 */
import type { PhcLine } from './phc-filter.js';

/** Differences up to here are slewed. */
export const STEP_NS = 100_000;
/** Fastest slew: what the kernel allows for its own clock (adjtimex). */
const SLEW_RATE_MAX = 500e-6;
/** A clock that is ahead goes at half speed until it is not. */
const HALF_SPEED = -0.5;
/** Shortest time for a slew, ns: the interval between samples is not always what it should be. */
const SLEW_NS_MIN = 1_000_000;
const RATE_SHIFT = 40n;
const RATE_UNIT = 2 ** 40;

export class Discipline {
  /** [raw, reading, rate] of the present segment and of the next: what the addon's `set` takes. */
  readonly segments = new BigInt64Array(6);
  /** Jumps forward, and backward differences that were given back at half speed. */
  steps = 0;
  private started = false;

  /** From `raw` on follow `line` (plus `shiftNs`), reaching it within `slewNs` where that is possible. */
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

  /** What the clock shows at `raw`, without its guard against going back. */
  read(raw: bigint): bigint {
    const { segments } = this;
    const at = raw < segments[3]! ? 0 : 3;
    const elapsed = raw - segments[at]!;
    return segments[at + 1]! + elapsed + ((elapsed * segments[at + 2]!) >> RATE_SHIFT);
  }

  /** The clock is ahead of its device and goes at half speed. */
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

/** What the line says the device shows at `raw`, shifted. */
function lineAt(line: PhcLine, shiftNs: bigint, raw: bigint): bigint {
  const elapsed = raw - line.rawAt;
  return line.deviceAt + shiftNs + elapsed + ((elapsed * rateOf(line.rate)) >> RATE_SHIFT);
}

function rateOf(rate: number): bigint {
  return BigInt(Math.round(rate * RATE_UNIT));
}
