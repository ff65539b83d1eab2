/**
 * How far ahead of its clock a client stamps its requests. Speed only.
 *
 * Members hold a request until its timestamp is due, so requests of several clients enter all logs in the same order
 * when they arrive before their time. That costs the lead in latency: it is zero until rejects and mismatches show that
 * there is contention, then what the slowest member's observed delay asks for, and it decays when things are quiet.
 */

/** Requests after which the share of misses is looked at. */
const WINDOW = 64;
/** Share of misses in a window above which the lead rises, and below which it may fall. */
const RISE = 0.02;
const FALL = 0.005;
/** Windows in a row that were quiet before the lead falls. */
const QUIET_WINDOWS = 8;
/** A window without WINDOW requests ends after this, µs. */
const WINDOW_US = 100_000;

export class LeadControl {
  /** Nanoseconds to add to the clock reading. */
  leadNs: number;
  /** Estimate of each replica's p99 of (arrival clock − our clock), µs. */
  private readonly delayUs: Float64Array;
  private seen = 0;
  private misses = 0;
  private quiet = 0;
  private windowEndUs = 0.5;

  constructor(
    private readonly minNs: number,
    private readonly maxNs: number,
    replicas: number,
  ) {
    this.leadNs = minNs;
    this.delayUs = new Float64Array(replicas);
  }

  /** A reply carried its slack: arrival clock − timestamp, µs. */
  heard(replica: number, slackUs: number): void {
    const sample = slackUs + this.leadNs / 1000;
    const estimate = this.delayUs[replica]!;
    // Steps up 99 times as far as down: settles where one sample of a hundred is above.
    const step = Math.max(0.1, Math.abs(estimate) / 128);
    this.delayUs[replica] = sample > estimate ? Math.min(sample, estimate + 99 * step) : Math.max(sample, estimate - step);
  }

  /** Another view: others are members, and who is not says nothing any more. */
  forget(): void {
    this.delayUs.fill(0);
  }

  committedFast(): void {
    if (++this.seen >= WINDOW) this.endWindow();
  }

  /** A request was rejected as late, or a member differed. */
  missed(): void {
    this.misses++;
    if (++this.seen >= WINDOW) this.endWindow();
  }

  tick(nowUs: number): void {
    if (nowUs < this.windowEndUs) return;
    this.windowEndUs = nowUs + WINDOW_US;
    if (this.seen > 0) this.endWindow();
  }

  private endWindow(): void {
    const share = this.misses / this.seen;
    const enough = this.seen >= WINDOW / 4;
    this.seen = 0;
    this.misses = 0;
    if (this.maxNs === 0 || !enough) return;
    let slowest = 0;
    for (let r = 0; r < this.delayUs.length; r++) slowest = Math.max(slowest, this.delayUs[r]!);
    // Beyond what the slowest member takes a lead only costs.
    if (this.leadNs > 1250 * slowest) this.leadNs = Math.max(this.minNs, Math.round(slowest * 1000));
    if (share > RISE) {
      this.quiet = 0;
      this.leadNs = Math.max(this.minNs, Math.min(this.maxNs, Math.round(slowest * 1000)));
    } else if (share < FALL && ++this.quiet >= QUIET_WINDOWS) {
      this.quiet = 0;
      this.leadNs = Math.max(this.minNs, Math.floor(this.leadNs * 0.8));
      if (this.leadNs < this.minNs + 1000) this.leadNs = this.minNs;
    }
  }
}
