/**
 * What one-way delays of a run are reported, and what is said in their place. The rule: request way and reply way are told
 * apart only as far as the clocks allow. If nothing states how far these may be apart, if that is as much as the delays,
 * or if the delays contradict it, there is a sentence and no figure.
 */
import type { ClockDoubt } from '../../client/time-questions.js';
import { formatDuration } from '../../console/units.js';
import { Histogram, type LatencySummary } from '../../metrics/histogram.js';
import type { OneWaySecond } from './second.js';

/** The delays between this host and one replica. */
export interface OneWayFigures {
  /** Its id. */
  readonly replica: number;
  readonly asked: number;
  readonly answered: number;
  /** Request way and reply way together, known without comparing clocks. */
  readonly bothWaysNs: LatencySummary;
  /** From a question's arrival until its answer left, as a reply to a request would. */
  readonly replicaNs: LatencySummary;
  /** Null: see `says`. */
  readonly requestNs: LatencySummary | null;
  readonly replyNs: LatencySummary | null;
  /** How far the two clocks may be apart: true ways lie within this of the figures. Null: unknown. */
  readonly boundNs: number | null;
  /** By how much the median request way is longer than the median reply way, if the clocks allow to say that it is. */
  readonly longerRequestNs: number | null;
  /** Why request way and reply way are not told apart; null: they are. */
  readonly says: string | null;
}

/** The same for a second of the host's wall clock. */
export interface OneWayInterval {
  /** Since the epoch. */
  readonly second: number;
  readonly replicas: readonly OneWayFigures[];
}

/** Field `oneWay` of `jitpaxos.bench/1`. */
export interface OneWayReport {
  /** About this many questions were asked of each replica in a second. */
  readonly askedPerSecond: number;
  readonly replicas: readonly OneWayFigures[];
  readonly intervals: readonly OneWayInterval[];
  /** Later seconds that are in `replicas` alone. */
  readonly intervalsLeftOut: number;
}

const DOUBTS: Readonly<Record<ClockDoubt, string>> = {
  'own-clock': "nothing states the error of this host's clock",
  'replica-clock': "nothing states the error of the replica's clock",
  epochs: 'the two clocks do not count from the same zero',
};

/** A smaller part of both ways is a matter of chance, not of the path. */
const WORTH_SAYING = 0.1;

/** Clocks that are apart make one way longer and the other one shorter. */
function isLonger(differenceNs: number, boundNs: number, bothWaysNs: number): boolean {
  return Math.abs(differenceNs) - 2 * boundNs > WORTH_SAYING * bothWaysNs;
}

/** Adds up the answers of one replica, from several client processes or seconds. */
export class OneWaySum {
  readonly bothWays = new Histogram();
  readonly inside = new Histogram();
  readonly request = new Histogram();
  readonly reply = new Histogram();
  private asked = 0;
  private boundNs = 0;
  private beyondNs = 0;
  private doubt: ClockDoubt | null = null;

  constructor(private readonly replica: number) {}

  add(second: OneWaySecond): void {
    this.asked += second.asked;
    this.bothWays.merge(Histogram.fromData(second.bothWays));
    this.inside.merge(Histogram.fromData(second.inside));
    this.request.merge(Histogram.fromData(second.request));
    this.reply.merge(Histogram.fromData(second.reply));
    this.boundNs = Math.max(this.boundNs, second.boundNs ?? 0);
    this.beyondNs = Math.max(this.beyondNs, second.beyondNs);
    this.doubt ??= second.doubt;
  }

  figures(): OneWayFigures {
    const { inside, doubt } = this;
    const bothWaysNs = this.bothWays.summary();
    const boundNs = doubt === null && inside.count > 0 ? this.boundNs : null;
    const says = this.says(bothWaysNs.p50, boundNs);
    const requestNs = says === null ? this.request.summary() : null;
    const replyNs = says === null ? this.reply.summary() : null;
    const longer = requestNs === null ? 0 : requestNs.p50! - replyNs!.p50!;
    return {
      replica: this.replica,
      asked: this.asked,
      answered: inside.count,
      bothWaysNs,
      replicaNs: inside.summary(),
      requestNs,
      replyNs,
      boundNs,
      longerRequestNs: requestNs !== null && isLonger(longer, boundNs!, bothWaysNs.p50!) ? longer : null,
      says,
    };
  }

  private says(bothWaysNs: number | null, boundNs: number | null): string | null {
    if (bothWaysNs === null) return 'no answer came';
    if (this.doubt !== null) return DOUBTS[this.doubt];
    if (this.beyondNs > 0)
      return `the clocks are at least ${formatDuration(this.beyondNs)} further apart than the ±${formatDuration(boundNs!)} that they state`;
    // Every share of the two ways in their sum would be possible.
    if (2 * boundNs! >= bothWaysNs)
      return `the clocks may be ±${formatDuration(boundNs!)} apart, as much as the ways take`;
    return null;
  }
}
