/**
 * One-way delays in a client process: what its questions to each replica told in one second. Ways are recorded only if it
 * is known how far the clocks may be apart; what both ways take together is known without that.
 */
import type { ClockDoubt, OneWaySample } from '../../client/time-questions.js';
import { Histogram, type HistogramData } from '../../metrics/histogram.js';

/** Questions of a host to a replica in a second, all its client processes together. */
export const QUESTIONS_PER_SECOND = 50;

/** What the questions to one replica told. */
export interface OneWaySecond {
  readonly replica: number;
  readonly asked: number;
  readonly answered: number;
  /** Request way and reply way together: no clock but ours, and a duration of the replica's. */
  readonly bothWays: HistogramData;
  /** From the question's arrival until its answer left. */
  readonly inside: HistogramData;
  /** As measured, within `boundNs`; below 0 counts as 0. */
  readonly request: HistogramData;
  readonly reply: HistogramData;
  /** Largest distance of the two clocks that any answer allows; null: one of them did not tell. */
  readonly boundNs: number | null;
  readonly doubt: ClockDoubt | null;
  /** How far a way was below 0 by more than the bound, at most, ns: at least this much the clocks are apart beyond it. */
  readonly beyondNs: number;
}

export class OneWayRecorder {
  private readonly replicas = new Map<number, Answers>();

  /** Number of the last question, and of the first one that is measured. */
  private last = 0;
  private first = 0;

  asked(replica: number, number: number): void {
    this.last = number;
    this.of(replica).asked++;
  }

  /** An answer to a question of the time before the measurement does not count, as that question does not. */
  answered(replica: number, sample: OneWaySample, number: number): void {
    if (number >= this.first) this.of(replica).add(sample);
  }

  /** The measurement begins: what came before is not measured. */
  begin(): void {
    this.take();
    this.first = this.last + 1;
  }

  /** What was recorded since the last call. */
  take(): readonly OneWaySecond[] {
    return [...this.replicas].flatMap(([replica, answers]) =>
      answers.asked + answers.inside.count === 0 ? [] : [answers.take(replica)],
    );
  }

  private of(replica: number): Answers {
    let answers = this.replicas.get(replica);
    if (answers === undefined) this.replicas.set(replica, (answers = new Answers()));
    return answers;
  }
}

class Answers {
  asked = 0;
  readonly inside = new Histogram();
  private readonly bothWays = new Histogram();
  private readonly request = new Histogram();
  private readonly reply = new Histogram();
  private boundNs = 0;
  private beyondNs = 0;
  private doubt: ClockDoubt | null = null;

  add({ requestNs, replicaNs, replyNs, boundNs, doubt }: OneWaySample): void {
    this.inside.record(replicaNs);
    this.bothWays.record(requestNs + replyNs);
    if (boundNs === null) {
      this.doubt = doubt;
      return;
    }
    this.request.record(requestNs);
    this.reply.record(replyNs);
    this.boundNs = Math.max(this.boundNs, boundNs);
    this.beyondNs = Math.max(this.beyondNs, -boundNs - Math.min(requestNs, replyNs));
  }

  take(replica: number): OneWaySecond {
    const { bothWays, inside, request, reply, doubt } = this;
    const second = {
      replica,
      asked: this.asked,
      answered: inside.count,
      bothWays: bothWays.toData(),
      inside: inside.toData(),
      request: request.toData(),
      reply: reply.toData(),
      boundNs: doubt === null && inside.count > 0 ? this.boundNs : null,
      doubt,
      beyondNs: this.beyondNs,
    };
    for (const histogram of [bothWays, inside, request, reply]) histogram.reset();
    this.asked = this.boundNs = this.beyondNs = 0;
    this.doubt = null;
    return second;
  }
}
