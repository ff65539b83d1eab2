/**
 * How much of a snapshot is asked for at once, and how long its pieces are waited for. May be changed freely: it decides
 * only when something is asked for.
 *
 * Both follow what the source and the path give, as in TCP (RFC 5681, RFC 6298). After a loss half as much is asked for, and
 * then one answer more in each round. A piece that does not come in time is asked for alone: what was asked for before
 * may only be late, and asked for again it would all come twice. How long to wait is what answers took recently. A source
 * that shares its processor with others may need many times as long as one at rest.
 */
import type { Instant } from '../../contract.js';
import { ANSWERS_AHEAD } from '../transfer-sender.js';

/**
 * Most bytes that are asked for at first, however long an answer is. They share the receive buffer with the messages of the
 * running view, and the default one of Linux is 208 KiB, of which the kernel's own bookkeeping takes a part.
 */
const FIRST_BYTES = 128 * 1024;
/** At a replica that is no member of the view: nobody waits for what it may lose. */
export const SPARE_BYTES = 512 * 1024;
/** How much longer than `fetchTimeoutUs` an answer is waited for, at most. */
const WAITS_MAX = 16;
/** Weights of the newest time in the average, and of its distance from there in the usual deviation (RFC 6298). */
const TIME_WEIGHT = 1 / 8;
const DEVIATION_WEIGHT = 1 / 4;
const DEVIATIONS = 4;

export class PieceWindow {
  /** Bytes up to here were asked for. */
  asked = 0;
  /** Bytes that may be asked for beyond those that have come. */
  ahead = 0;
  private aheadMax = 0;
  /** Up to here `ahead` grows by each piece, beyond by one answer a round. */
  private threshold = 0;
  /** What was asked for up to here was asked for before the last loss. */
  private lossEnd = 0;
  /** When what ends at `timedEnd` was first asked for; Infinity: nothing is timed. */
  private timedEnd = Infinity;
  private timedUs = 0;
  /** What an answer takes, and how much that differs; 0: not known. */
  private answerUs = 0;
  private deviationUs = 0;
  /** Doubled by each question in vain since something came. */
  private patience = 1;

  /** @param timeoutUs how long an answer is waited for at least */
  constructor(
    private readonly chunkBytes: number,
    private readonly timeoutUs: number,
  ) {}

  /** Another source: nothing is known of how long it takes. */
  forget(): void {
    this.answerUs = 0;
    this.deviationUs = 0;
    this.patience = 1;
  }

  /**
   * Begins with a snapshot of which `received` bytes have come.
   * @param isMember the view waits for messages that this replica has room for in the same buffer
   */
  begin(received: number, isMember: boolean): void {
    this.ahead = Math.min(ANSWERS_AHEAD * this.chunkBytes, FIRST_BYTES);
    this.aheadMax = isMember ? this.ahead : Math.max(this.ahead, Math.min(4 * this.ahead, SPARE_BYTES));
    this.threshold = this.ahead;
    this.asked = received;
    this.lossEnd = 0;
    this.timedEnd = Infinity;
    this.patience = 1;
  }

  /** How many times the least time an answer usually takes. */
  get usualWaits(): number {
    const us = this.answerUs + DEVIATIONS * this.deviationUs;
    return Math.min(WAITS_MAX, Math.max(1, us / this.timeoutUs));
  }

  /** How many times the least time the next piece is waited for. */
  get waits(): number {
    return Math.min(WAITS_MAX, this.usualWaits * this.patience);
  }

  /** There is room for another question. */
  mayAsk(received: number, length: number): boolean {
    return this.asked < length && this.asked - received < this.ahead;
  }

  /** What begins at `asked` is asked for. */
  asks(now: Instant): void {
    this.asked += this.chunkBytes;
    if (this.timedEnd !== Infinity) return;
    this.timedEnd = this.asked;
    this.timedUs = now.monotonicUs;
  }

  /** `length` bytes have come, up to `received`. */
  took(length: number, received: number, isWhole: boolean, now: Instant): void {
    const more = this.ahead < this.threshold ? length : (this.chunkBytes * length) / this.ahead;
    this.ahead = Math.min(this.aheadMax, this.ahead + more);
    this.asked = Math.max(this.asked, received);
    this.patience = 1;
    if (received >= this.timedEnd || (isWhole && this.timedEnd !== Infinity))
      this.measured(now.monotonicUs - this.timedUs);
  }

  private measured(us: number): void {
    this.timedEnd = Infinity;
    const distance = Math.abs(us - this.answerUs);
    if (this.answerUs === 0) {
      this.answerUs = us;
      this.deviationUs = us / 2;
    } else {
      this.deviationUs += DEVIATION_WEIGHT * (distance - this.deviationUs);
      this.answerUs += TIME_WEIGHT * (us - this.answerUs);
    }
  }

  /** A piece behind `received` is lost, and others from beyond it have come. Of one round, one loss counts. */
  lost(received: number): void {
    if (received < this.lossEnd) return;
    this.lossEnd = this.asked;
    this.ahead = this.threshold = Math.max(this.chunkBytes, this.ahead / 2);
  }

  /** Nothing came in time: all that was asked for may be lost, or late. */
  late(received: number): void {
    this.threshold = Math.max(this.chunkBytes, this.ahead / 2);
    this.ahead = this.chunkBytes;
    this.asked = received;
    this.lossEnd = 0;
    this.patience = Math.min(WAITS_MAX, 2 * this.patience);
  }
}
