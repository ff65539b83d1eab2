/**
 * Asks replicas when a question of ours arrived and when its answer left: the four times from which one-way delays
 * follow (RFC 5905, 8). It is sampled beside the operations and changes nothing about them.
 *
 * A way is the difference of two clocks, so it is as uncertain as these are far apart. How far that may be is said with
 * every answer, or why it is not known; nothing is assumed about the network.
 */
import type { ClockEpoch } from '../clock/clock.js';
import { sameClock } from '../clock/clock-digest.js';
import type { Instant, Outbox } from '../protocol/contract.js';
import { begin } from '../wire/layout.js';
import { AskTimes, ClockEpochCode, Times, UNKNOWN_ERROR } from '../wire/messages.js';
import { differenceU64, readI32, writeI32, writeU16 } from '../wire/u64.js';

/** Questions to a replica that may be open. An answer that comes after this many further questions counts as lost. */
const OPEN_MAX = 64;
/** The answer is as long as the question. */
const PADDING_BYTES = Times.size - AskTimes.size;

/**
 * Why it is not known how far the two clocks are apart. `own-clock`, `replica-clock`: nothing states how good that one is.
 * `epochs`: they count from different zeros.
 */
export type ClockDoubt = 'own-clock' | 'replica-clock' | 'epochs';

/** What one answer says, ns. */
export interface OneWaySample {
  /** The replica's clock when it had read the question, minus ours when it was sent. May be negative. */
  readonly requestNs: number;
  /** From the question's arrival until its answer left, both by the replica's clock. */
  readonly replicaNs: number;
  /** Our clock when the answer was here, minus the replica's when it left. May be negative. */
  readonly replyNs: number;
  /** How far the two clocks may be apart; both ways are known within this. Null: see `doubt`. */
  readonly boundNs: number | null;
  readonly doubt: ClockDoubt | null;
}

/** The clock that a client reads. */
export interface OwnClock {
  readonly epoch: ClockEpoch;
  readonly errorNs: number | null;
  /** See writeClockDigest. */
  readonly digest: Uint8Array;
}

export interface TimeQuestionEvents {
  /**
   * @param place of the replica
   * @param number of the question; questions are numbered in their order
   */
  asked(place: number, number: number): void;
  /** @param number of the question that this answers */
  answered(place: number, sample: OneWaySample, number: number): void;
}

class OpenQuestions {
  /** By the number of the question, modulo OPEN_MAX; −1: it was answered. */
  readonly numbers = new Float64Array(OPEN_MAX).fill(-1);
  /** Our clock when it was sent, halves. */
  readonly sent = new Int32Array(2 * OPEN_MAX);
}

export class TimeQuestions {
  private number = 0;
  private readonly open = new Map<number, OpenQuestions>();

  /**
   * @param nonce upper half of the nonces, drawn at random
   * @param own the clock as it is now
   */
  constructor(
    private readonly outbox: Outbox,
    private readonly nonce: number,
    private readonly own: () => OwnClock,
    private readonly events: TimeQuestionEvents,
  ) {}

  /** Asks the replicas at these places. `now` has just been read, and the turn ends at once. */
  ask(places: readonly number[], now: Instant): void {
    const number = (this.number = (this.number + 1) >>> 0);
    for (const place of places) {
      const o = this.outbox.reserve(place, AskTimes.size + PADDING_BYTES);
      if (o < 0) continue;
      const { bytes } = this.outbox;
      begin(AskTimes, bytes, o);
      writeI32(bytes, o + AskTimes.at.nonce, this.nonce);
      writeI32(bytes, o + AskTimes.at.nonce + 4, number);
      writeU16(bytes, o + AskTimes.at.padding, PADDING_BYTES);
      bytes.fill(0, o + AskTimes.size, o + AskTimes.size + PADDING_BYTES);
      this.outbox.commit(AskTimes.size + PADDING_BYTES);
      let open = this.open.get(place);
      if (open === undefined) this.open.set(place, (open = new OpenQuestions()));
      const at = number % OPEN_MAX;
      open.numbers[at] = number;
      open.sent[2 * at] = now.wallHi;
      open.sent[2 * at + 1] = now.wallLo;
      this.events.asked(place, number);
    }
  }

  /** Takes one Times message that passed `validate`. A second answer to a question is ignored. */
  onTimes(bytes: Uint8Array, o: number, from: number, now: Instant): void {
    const open = this.open.get(from);
    if (open === undefined || readI32(bytes, o + Times.at.nonce) !== this.nonce) return;
    const number = readI32(bytes, o + Times.at.nonce + 4) >>> 0;
    const at = number % OPEN_MAX;
    if (open.numbers[at] !== number) return;
    open.numbers[at] = -1;
    const sentHi = open.sent[2 * at]!;
    const sentLo = open.sent[2 * at + 1]!;
    const { received, sent } = Times.at;
    const receivedHi = readI32(bytes, o + received);
    const receivedLo = readI32(bytes, o + received + 4);
    const answeredHi = readI32(bytes, o + sent);
    const answeredLo = readI32(bytes, o + sent + 4);
    const sample = {
      requestNs: differenceU64(receivedHi, receivedLo, sentHi, sentLo),
      replicaNs: differenceU64(answeredHi, answeredLo, receivedHi, receivedLo),
      replyNs: differenceU64(now.wallHi, now.wallLo, answeredHi, answeredLo),
      ...apart(this.own(), bytes, o),
    };
    this.events.answered(from, sample, number);
  }
}

/** How far our clock and that of an answer may be apart. */
function apart(own: OwnClock, bytes: Uint8Array, o: number): Pick<OneWaySample, 'boundNs' | 'doubt'> {
  if (sameClock(own.digest, 0, bytes, o + Times.at.clock)) return { boundNs: 0, doubt: null };
  if (own.epoch === 'boot' || bytes[o + Times.at.epoch] !== ClockEpochCode[own.epoch])
    return { boundNs: null, doubt: 'epochs' };
  if (own.errorNs === null) return { boundNs: null, doubt: 'own-clock' };
  const error = readI32(bytes, o + Times.at.error) >>> 0;
  if (error === UNKNOWN_ERROR) return { boundNs: null, doubt: 'replica-clock' };
  return { boundNs: Math.ceil(own.errorNs) + error, doubt: null };
}
