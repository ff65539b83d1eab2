/** Asks the times of questions at random moments, for a client's host: see time-questions.ts. */
import { writeClockDigest } from '../clock/clock-digest.js';
import type { HostClock } from '../clock/host-clock.js';
import type { TurnLoop } from '../host/turn-loop.js';
import { loadHash } from '../native/hash64.js';
import type { Instant } from '../protocol/contract.js';
import { TimeQuestions, type OneWaySample, type OwnClock } from './time-questions.js';

/** Replicas are named by their ids. See TimeQuestionEvents. */
export interface OneWayEvents {
  asked(replica: number, number: number): void;
  answered(replica: number, sample: OneWaySample, number: number): void;
}

export class TimeSampler {
  private readonly questions: TimeQuestions;
  private timer: NodeJS.Timeout | undefined;

  /**
   * @param everyMs time between two questions, on average
   * @param places of the replicas now
   * @param idAt the id of the replica at a place
   */
  constructor(
    private readonly loop: Pick<TurnLoop, 'outbox' | 'turn'>,
    clock: Pick<HostClock, 'source' | 'epoch' | 'quality'>,
    private readonly everyMs: number,
    private readonly places: () => readonly number[],
    idAt: (place: number) => number,
    events: OneWayEvents,
  ) {
    this.questions = new TimeQuestions(loop.outbox, crypto.getRandomValues(new Int32Array(1))[0]!, ownClock(clock), {
      asked: (place, number) => events.asked(idAt(place), number),
      answered: (place, sample, number) => events.answered(idAt(place), sample, number),
    });
    this.next();
  }

  /** See TimeQuestions. */
  onTimes(bytes: Uint8Array, o: number, from: number, now: Instant): void {
    this.questions.onTimes(bytes, o, from, now);
  }

  /** Asks nothing more. */
  close(): void {
    clearTimeout(this.timer);
  }

  /** Not at even distances: a load may have a rhythm. */
  private next(): void {
    this.timer = setTimeout(
      () => {
        this.next();
        this.loop.turn((now) => this.questions.ask(this.places(), now));
      },
      this.everyMs * (0.5 + Math.random()),
    );
    this.timer.unref();
  }
}

function ownClock(clock: Pick<HostClock, 'source' | 'epoch' | 'quality'>): () => OwnClock {
  const hash = loadHash();
  const digest = new Uint8Array(8);
  let digestOf = '';
  return () => {
    if (clock.source !== digestOf) writeClockDigest((digestOf = clock.source), hash, digest);
    return { epoch: clock.epoch, errorNs: clock.quality.errorNs, digest };
  };
}
