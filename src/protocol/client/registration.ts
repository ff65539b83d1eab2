/**
 * How a client's session begins: when its Register is sent, what it says, and what the client's next session takes from it.
 *
 * A session that follows refused ones waits before it asks: a cluster that refuses every session is not to be asked as fast as it
 * can answer.
 */
import { addHi, addLo, differenceU64, writeI32, writeU16 } from '../../wire/u64.js';
import type { ClientConfig } from '../config.js';
import type { Instant } from '../contract.js';
import type { Jitter } from '../jitter.js';
import { REGISTER_BORN, REGISTER_BYTES } from '../log/sessions.js';

/** A log that ends this far above the born of a late Register is ahead of the clocks, and the session may have to be born later, ns. */
const LOG_AHEAD_NS = 1_000_000_000;
/** First pause before the session after two that were refused, and the longest, µs. */
const REFUSED_US = 4_000;
const REFUSED_MAX_US = 1_000_000;
/** A session that was registered for this long was not refused, µs. */
const LIVED_US = 1_000_000;

export class Registration {
  /** The Register is to be sent then, monotonic µs; Infinity: it was, or is not to be. */
  atUs = Infinity;
  private registeredUs = Infinity;
  private bornHi = 0;
  private bornLo = 0;
  /** What the next session is to be born at; 0: its timestamp. */
  private nextBornHi = 0;
  private nextBornLo = 0;
  private refusals: number;

  constructor(
    private readonly config: ClientConfig,
    private readonly jitter: Jitter,
  ) {
    this.refusals = config.refusals ?? 0;
  }

  /** Sets `atUs`. */
  schedule(now: Instant): void {
    this.atUs = now.monotonicUs;
    if (this.refusals < 2) return;
    this.jitter.step();
    const pauseUs = Math.min(REFUSED_MAX_US, REFUSED_US * 2 ** (this.refusals - 2));
    this.atUs += pauseUs * (0.5 + 0.5 * this.jitter.value[0]!);
  }

  /**
   * The operation of the Register, the same in every attempt (sessions.ts). It is born at `lastHi`, `lastLo`, the last timestamp given, unless the session
   * before learnt better: that is not above its timestamp either, which is above the last one that the client was told.
   */
  operation(lastHi: number, lastLo: number): Uint8Array {
    const { nonceHi, nonceLo, lanes, bornHi = lastHi, bornLo = lastLo } = this.config;
    this.atUs = Infinity;
    this.bornHi = bornHi;
    this.bornLo = bornLo;
    const operation = new Uint8Array(REGISTER_BYTES);
    writeI32(operation, 0, nonceHi);
    writeI32(operation, 4, nonceLo);
    writeU16(operation, 8, lanes);
    writeI32(operation, REGISTER_BORN, bornHi);
    writeI32(operation, REGISTER_BORN + 4, bornLo);
    return operation;
  }

  registered(now: Instant): void {
    this.registeredUs = now.monotonicUs;
  }

  /** A log that ends there may have evicted sessions as old as this one, for all that the table knows. */
  isOldFor(lastHi: number, lastLo: number): boolean {
    return differenceU64(lastHi, lastLo, this.bornHi, this.bornLo) > LOG_AHEAD_NS;
  }

  /** The next session is to be born right above `hi`, `lo`, which the cluster takes for now. */
  bearNextAbove(hi: number, lo: number): void {
    this.nextBornHi = addHi(hi, lo, 1);
    this.nextBornLo = addLo(lo, 1);
  }

  /** The session is lost. */
  lost(now: Instant): void {
    if (now.monotonicUs - this.registeredUs >= LIVED_US) this.refusals = -1;
  }

  /** @param replaced the session still serves: its successor was not refused to anybody */
  succession(replaced: boolean): Pick<ClientConfig, 'bornHi' | 'bornLo' | 'refusals'> {
    const born = (this.nextBornHi | this.nextBornLo) === 0 ? {} : { bornHi: this.nextBornHi, bornLo: this.nextBornLo };
    return { ...born, refusals: replaced ? 0 : this.refusals + 1 };
  }
}
