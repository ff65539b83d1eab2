/**
 * How many answers with entries are on their way to a replica at once. May be changed freely: each entry is checked when
 * it comes, whatever it was asked for with.
 *
 * With one question at a time, entries come at the rate of one answer a round trip. So the questions of one *series* are
 * answered one behind the other: the second answer begins where the first one ended, though the one who asks does not know
 * yet where that is. It begins with one question, and sends two for each answer that has come in order, until
 * ANSWERS_AHEAD are open. Each question still brings one answer, of at most `chunkBytes`.
 *
 * A message that was lost ends the series: a new one begins behind what is here. A source that does not know series
 * answers every question behind its base, and says series 0; then one question is open at a time.
 *
 * If an answer comes after its series was given up, the source is far away or busy, and is waited for twice as long from
 * then on.
 */
import { SLOTS } from '../configuration.js';
import type { Instant } from '../contract.js';
import { DOUBLE_ZERO } from '../double-zero.js';
import { ANSWERS_AHEAD } from './transfer-sender.js';

/** A series has a number from 1 to this; after the last comes the first. */
const NUMBERS = 255;
/** How much longer than at first a source is waited for, at most. */
const WAITS_MAX = 16;

/** The replica that asks. */
export class FetchSeries {
  /** The present series; 0 before the first. */
  number = 0;
  /** How many times `fetchTimeoutUs` an answer is waited for. */
  waits = 1;
  private room = 1;
  private open = 0;
  private beganUs = DOUBLE_ZERO;
  private isUnanswered = false;
  /** The last series before the present one that were given up because nothing came in time. */
  private givenUp = 0;

  /** What is known of how far the source is away does not count any more. */
  forget(): void {
    this.waits = 1;
    this.givenUp = 0;
  }

  /**
   * Begins a series. The caller sends one question.
   * @param inVain nothing came for the one before in time
   */
  begin(inVain: boolean, now: Instant): void {
    this.givenUp = inVain ? Math.min(NUMBERS - 1, this.givenUp + 1) : 0;
    this.number = (this.number % NUMBERS) + 1;
    this.room = 1;
    this.open = 1;
    this.beganUs = now.monotonicUs;
    this.isUnanswered = true;
  }

  /**
   * A Chunk that says `series` has come. True if it answers a question of the present series.
   * @param timeoutUs how long a source is waited for at first
   */
  heard(series: number, timeoutUs: number, now: Instant): boolean {
    if (series === 0) return false;
    const age = (this.number - series + NUMBERS) % NUMBERS;
    if (age > 0 && age <= this.givenUp) {
      this.givenUp = 0;
      this.waits = Math.min(WAITS_MAX, 2 * this.waits);
    }
    if (age > 0) return false;
    if (this.isUnanswered && this.waits > 1 && 4 * (now.monotonicUs - this.beganUs) < this.waits * timeoutUs)
      this.waits /= 2;
    this.isUnanswered = false;
    return true;
  }

  /** Several answers are awaited at once. */
  get isAhead(): boolean {
    return this.open > 1;
  }

  /** An answer to the present series is here to its end. Returns how many questions to send now. */
  answered(): number {
    if (this.open > 0) this.open--;
    this.room = Math.min(ANSWERS_AHEAD, this.room + 1);
    const more = this.room - this.open;
    this.open = this.room;
    return more;
  }
}

/** The replica that is asked: by slot, the last series, and up to where it was answered. */
export class AnsweredSeries {
  private readonly numbers = new Uint8Array(SLOTS);
  private readonly ends = new Float64Array(SLOTS);

  forget(slot: number): void {
    this.numbers[slot] = 0;
  }

  /** Where the answer to a question behind `base` begins, in a log that is given up to `limit`. */
  beginning(slot: number, series: number, base: number, limit: number): number {
    if (series === 0 || series !== this.numbers[slot]) return base;
    const end = this.ends[slot]!;
    return end > base && end <= limit ? end : base;
  }

  answered(slot: number, series: number, end: number): void {
    this.numbers[slot] = series;
    this.ends[slot] = end;
  }
}
