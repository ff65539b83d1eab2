/**
 * Answers AskTimes for a replica, beside its core: when the question arrived, and when the answer leaves. The answer
 * takes as long as a Reply to a request that arrives with the question: it waits for the end of the turn, and in durability
 * `os` and `fsync` for what that turn wrote.
 *
 * The rule: a question costs a replica little, and gains a stranger nothing. An answer is never longer than its
 * question. Beyond a rate, and beyond a number that waits, questions are not answered.
 */
import type { Clock, ClockEpoch } from '../clock/clock.js';
import { writeClockDigest } from '../clock/clock-digest.js';
import type { Hash64 } from '../native/hash64.js';
import type { Instant, Outbox } from '../protocol/contract.js';
import { begin } from '../wire/layout.js';
import { AskTimes, ClockEpochCode, Times, UNKNOWN_ERROR } from '../wire/messages.js';
import { copyBytes } from '../wire/copy.js';
import { readI32, readU16, writeI32 } from '../wire/u64.js';
import { StatusRates } from './status-rates.js';

/** Answers at once, and per second: a tool asks 50 times a second. */
export const TIMES_RATES = {
  owner: { burst: 500, perSecond: 2_000 },
  endpoint: { burst: 100, perSecond: 200 },
  unproven: { burst: 20, perSecond: 50 },
} as const;
/** Questions that wait for their answer; a further one gets none. */
export const WAITING_MAX = 256;

/** What a question needs of the replica. */
export interface TimesSource {
  readonly view: () => number;
  /** What the turn wrote so far is durable with this token, and whether a token is reached. */
  readonly awaited: () => number;
  readonly isDurable: (token: number) => boolean;
  readonly clock: Pick<Clock, 'source' | 'epoch' | 'writeHalves'> & {
    readonly quality: { readonly errorNs: number | null };
  };
}

/** One that waits. */
interface Question {
  from: number;
  nonceHi: number;
  nonceLo: number;
  receivedHi: number;
  receivedLo: number;
  /** −1: its turn is not over. */
  token: number;
}

export class TimesService {
  answered = 0;
  /** Questions beyond the rate, too short, or too many that waited, and answers for which there was no room. */
  refused = 0;

  private readonly rates = new StatusRates(TIMES_RATES);
  /** In the order in which they came; those from `waiting` on are free. */
  private readonly questions: Question[] = [];
  private waiting = 0;
  private readonly sent = new Int32Array(2);
  private readonly digest = new Uint8Array(8);
  private digestOf = '';

  constructor(
    private readonly source: TimesSource,
    private readonly outbox: Outbox,
    private readonly hash: Hash64,
  ) {}

  /**
   * Takes one AskTimes message that passed `validate`.
   * @param owner of its key
   * @param proven its endpoint has proven its address, under a key of this owner
   */
  onAskTimes(bytes: Uint8Array, o: number, from: number, now: Instant, owner: number, proven: boolean): void {
    if (
      AskTimes.size + readU16(bytes, o + AskTimes.at.padding) < Times.size ||
      this.waiting === WAITING_MAX ||
      !this.rates.admits(owner, from, proven, now)
    ) {
      this.refused++;
      return;
    }
    const question = (this.questions[this.waiting++] ??= {
      from: 0,
      nonceHi: 0,
      nonceLo: 0,
      receivedHi: 0,
      receivedLo: 0,
      token: -1,
    });
    question.from = from;
    question.nonceHi = readI32(bytes, o + AskTimes.at.nonce);
    question.nonceLo = readI32(bytes, o + AskTimes.at.nonce + 4);
    question.receivedHi = now.wallHi;
    question.receivedLo = now.wallLo;
    question.token = -1;
  }

  /** Called when the core has ended the turn: answers the questions that wait for nothing more. */
  endTurn(): void {
    if (this.waiting === 0) return;
    const { questions, source } = this;
    const awaited = source.awaited();
    for (let at = this.waiting - 1; at >= 0 && questions[at]!.token < 0; at--) questions[at]!.token = awaited;
    let due = 0;
    while (due < this.waiting && source.isDurable(questions[due]!.token)) due++;
    if (due === 0) return;
    this.readClock();
    for (let at = 0; at < due; at++) this.answer(questions[at]!);
    questions.push(...questions.splice(0, due)); // their objects are used again
    this.waiting -= due;
  }

  private readClock(): void {
    const { clock } = this.source;
    clock.writeHalves(this.sent, 0);
    if (clock.source === this.digestOf) return;
    this.digestOf = clock.source;
    writeClockDigest(clock.source, this.hash, this.digest);
  }

  private answer({ from, nonceHi, nonceLo, receivedHi, receivedLo }: Question): void {
    const { outbox, source, sent } = this;
    const o = outbox.reserve(from, Times.size);
    if (o < 0) {
      this.refused++;
      return;
    }
    const { bytes } = outbox;
    begin(Times, bytes, o);
    writeI32(bytes, o + Times.at.view, source.view());
    writeI32(bytes, o + Times.at.nonce, nonceHi);
    writeI32(bytes, o + Times.at.nonce + 4, nonceLo);
    writeI32(bytes, o + Times.at.received, receivedHi);
    writeI32(bytes, o + Times.at.received + 4, receivedLo);
    writeI32(bytes, o + Times.at.sent, sent[0]!);
    writeI32(bytes, o + Times.at.sent + 4, sent[1]!);
    copyBytes(this.digest, 0, bytes, o + Times.at.clock, 8);
    writeI32(bytes, o + Times.at.error, errorCode(source.clock.quality.errorNs));
    bytes[o + Times.at.epoch] = epochCode(source.clock.epoch);
    outbox.commit(Times.size);
    this.answered++;
  }
}

function errorCode(errorNs: number | null): number {
  return errorNs === null ? UNKNOWN_ERROR : Math.min(Math.ceil(errorNs), UNKNOWN_ERROR);
}

function epochCode(epoch: ClockEpoch): number {
  return ClockEpochCode[epoch];
}
