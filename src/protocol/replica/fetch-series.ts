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
 *
 * A network may repeat messages. A repeated answer counts once; else each would bring forth further questions. A repeated
 * question cannot be told from a further one, so the source goes on only up to ANSWERS_AHEAD answers beyond the base that
 * the question names.
 */
import { SLOTS } from '../configuration.js';
import type { Instant } from '../contract.js';
import { DOUBLE_ZERO } from '../double-zero.js';
import { ANSWERS_AHEAD, SERIES_NUMBERS } from './transfer-sender.js';

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
  /** The base of the last answer that was counted. */
  private counted = -1;
  /** The numbers before the present one back to the first series in a row that was given up: nothing came in time. */
  private givenUp = 0;

  /** What is known of how far the source is away does not count any more. */
  forget(): void {
    this.waits = 1;
    this.givenUp = 0;
  }

  /**
   * Begins a series. The caller sends one question.
   * @param number of the series, drawn by TransferSender.nextSeries
   * @param inVain nothing came for the one before in time
   */
  begin(number: number, inVain: boolean, now: Instant): void {
    const passed = (number - this.number + SERIES_NUMBERS) % SERIES_NUMBERS;
    this.givenUp = inVain ? Math.min(SERIES_NUMBERS - 1, this.givenUp + passed) : 0;
    this.number = number;
    this.counted = -1;
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
    const age = (this.number - series + SERIES_NUMBERS) % SERIES_NUMBERS;
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

  /**
   * An answer to the present series is here to its end.
   * @param base of its last Chunk
   * @returns how many questions to send now
   */
  answered(base: number): number {
    if (base <= this.counted) return 0;
    this.counted = base;
    if (this.open > 0) this.open--;
    this.room = Math.min(ANSWERS_AHEAD, this.room + 1);
    const more = this.room - this.open;
    this.open = this.room;
    return more;
  }
}

/** The replica that is asked: by slot, the last series, and where its last ANSWERS_AHEAD answers ended. */
export class AnsweredSeries {
  private readonly numbers = new Uint8Array(SLOTS);
  private readonly ends = new Float64Array(SLOTS * ANSWERS_AHEAD);
  /** By slot, the place in `ends` of the last answer. */
  private readonly last = new Uint8Array(SLOTS);

  forget(slot: number): void {
    this.numbers[slot] = 0;
  }

  /**
   * Where the answer to a question behind `base` begins, in a log that is given up to `limit`; -1: ANSWERS_AHEAD answers
   * from beyond `base` are on their way, and the question is one that the network repeated.
   */
  beginning(slot: number, series: number, base: number, limit: number): number {
    if (series === 0 || series !== this.numbers[slot]) return base;
    const first = slot * ANSWERS_AHEAD;
    const end = this.ends[first + this.last[slot]!]!;
    if (end <= base || end > limit) return base;
    return this.ends[first + this.next(slot)]! > base ? -1 : end;
  }

  answered(slot: number, series: number, end: number): void {
    const first = slot * ANSWERS_AHEAD;
    if (series !== this.numbers[slot]) this.ends.fill(-1, first, first + ANSWERS_AHEAD);
    this.numbers[slot] = series;
    this.last[slot] = this.next(slot);
    this.ends[first + this.last[slot]!] = end;
  }

  private next(slot: number): number {
    return (this.last[slot]! + 1) % ANSWERS_AHEAD;
  }
}
