/**
 * One-way delays in a client's metrics (`ClientOptions.oneWayPerSecond`): request way, time in the replica, reply way, by
 * replica.
 *
 * What both ways take together is known by one clock. They are told apart only by answers for which the two clocks are known
 * to be closer than that. All others are counted by the reason, and are in neither way.
 */
import { counter, METRIC_PREFIX, type Family, type HistogramSample, type Labels } from '../metrics/exposition.js';
import { BucketCounts } from '../protocol/bucket-counts.js';
import type { OneWayEvents } from './time-sampler.js';
import type { ClockDoubt, OneWaySample } from './time-questions.js';

/** Upper limits, µs. */
const BOUNDS_US = [2, 5, 10, 15, 20, 30, 50, 75, 100, 150, 200, 300, 500, 750, 1_000, 2_000, 5_000, 10_000, 100_000];
/** A replica of which nothing was asked in this many rounds of questions is none any more. */
const GONE_AFTER = 1_000;
const PARTS = ['request', 'replica', 'reply', 'both'] as const;

/** `too-wide`: the clocks may be as far apart as the ways take. `contradicted`: they are further apart than they state. */
type LeftOut = ClockDoubt | 'too-wide' | 'contradicted';
const LEFT_OUT: readonly LeftOut[] = ['own-clock', 'replica-clock', 'epochs', 'too-wide', 'contradicted'];

class Answers {
  /** Number of the last question. */
  asked = 0;
  readonly parts = {
    request: new BucketCounts(BOUNDS_US),
    replica: new BucketCounts(BOUNDS_US),
    reply: new BucketCounts(BOUNDS_US),
    both: new BucketCounts(BOUNDS_US),
  };
  /** How far the clocks may be apart, by those answers for which it is known. */
  readonly bounds = new BucketCounts(BOUNDS_US);
  readonly leftOut = new Map<LeftOut, number>();

  add(sample: OneWaySample): void {
    const { parts } = this;
    const { requestNs, replicaNs, replyNs, boundNs } = sample;
    parts.replica.record(replicaNs / 1e3);
    parts.both.record((requestNs + replyNs) / 1e3);
    if (boundNs !== null) this.bounds.record(boundNs / 1e3);
    const why = whyLeftOut(sample);
    if (why !== null) {
      this.leftOut.set(why, (this.leftOut.get(why) ?? 0) + 1);
      return;
    }
    parts.request.record(Math.max(0, requestNs) / 1e3);
    parts.reply.record(Math.max(0, replyNs) / 1e3);
  }
}

/** Why request way and reply way are not told apart; null: they are. */
function whyLeftOut({ requestNs, replyNs, boundNs, doubt }: OneWaySample): LeftOut | null {
  if (boundNs === null) return doubt ?? 'epochs';
  if (Math.min(requestNs, replyNs) < -boundNs) return 'contradicted';
  return 2 * boundNs >= requestNs + replyNs ? 'too-wide' : null;
}

export class OneWayMetrics implements OneWayEvents {
  /** By id. */
  private readonly replicas = new Map<number, Answers>();
  private last = 0;

  asked(replica: number, number: number): void {
    this.last = number;
    let answers = this.replicas.get(replica);
    if (answers === undefined) {
      for (const [id, { asked }] of this.replicas) if (number - asked > GONE_AFTER) this.replicas.delete(id);
      this.replicas.set(replica, (answers = new Answers()));
    }
    answers.asked = number;
  }

  answered(replica: number, sample: OneWaySample): void {
    this.replicas.get(replica)?.add(sample);
  }

  /** Allocates. */
  families(): Family[] {
    const present = [...this.replicas].filter(([, { asked }]) => this.last - asked <= GONE_AFTER);
    return [
      {
        name: `${METRIC_PREFIX}client_one_way_seconds`,
        kind: 'histogram',
        help: 'Delays between the client and a replica, by part: request (the way there), replica (in the replica), reply (the way back), both (both ways). request and reply have only answers for which the clocks are known well enough to tell them apart',
        samples: present.flatMap(([id, { parts }]) =>
          PARTS.map((part) => sampleOf({ replica: String(id), part }, parts[part])),
        ),
      },
      {
        name: `${METRIC_PREFIX}client_one_way_bound_seconds`,
        kind: 'histogram',
        help: 'How far the clocks of client and replica may be apart, as known with each answer: request and reply are true within this. Answers for which it is not known are not here',
        samples: present.map(([id, { bounds }]) => sampleOf({ replica: String(id) }, bounds)),
      },
      counter(
        `${METRIC_PREFIX}client_one_way_left_out_total`,
        'Answers that do not tell request and reply apart. own-clock, replica-clock: nothing states the error of that clock; epochs: the clocks count from different zeros; too-wide: they may be as far apart as both ways take; contradicted: they are further apart than they state',
        present.flatMap(([id, { leftOut }]) =>
          LEFT_OUT.map((reason) => ({ labels: { replica: String(id), reason }, value: leftOut.get(reason) ?? 0 })),
        ),
      ),
    ];
  }
}

function sampleOf(labels: Labels, counted: BucketCounts): HistogramSample {
  const { bounds, counts, sum } = counted.snapshot();
  return { labels, bounds: bounds.map((bound) => bound / 1e6), counts, sum: sum / 1e6 };
}
