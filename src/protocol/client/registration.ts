/**
 * How a client's session begins: when its Register is sent, what it contains, and what the client's next session takes
 * from it.
 *
 * A session that follows refused ones waits before it asks: a cluster that refuses every session must not be asked as
 * fast as it can answer.
 */
import { addHi, addLo, differenceU64, writeI32, writeU16 } from '../../wire/u64.js';
import type { ClientConfig } from '../config.js';
import type { Instant } from '../contract.js';
import type { Jitter } from '../jitter.js';
import { REGISTER_BORN, REGISTER_BYTES } from '../log/sessions.js';

/**
 * A log that ends this far above the `born` of a late Register is ahead of the clocks, and the session may need a later
 * `born`, ns.
 */
const LOG_AHEAD_NS = 1_000_000_000;
/** First pause before the session that follows two refused ones, and the longest pause, µs. */
const REFUSED_US = 4_000;
const REFUSED_MAX_US = 1_000_000;
/** A session that was registered for this long was not refused, µs. */
const LIVED_US = 1_000_000;

export class Registration {
  /** When the Register is to be sent, monotonic µs; Infinity: it was sent, or is not to be. */
  atUs = Infinity;
  private registeredUs = Infinity;
  private bornHi = 0;
  private bornLo = 0;
  /** The `born` of the next session; 0: its timestamp. */
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
   * The operation of the Register, the same in every attempt (sessions.ts). Its `born` is `lastHi`, `lastLo`, the last
   * timestamp given, unless the previous session learnt a better value. Neither is above its timestamp, which is above
   * the last one that the client was told.
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

  /** A log that ends there may have evicted sessions as old as this one, as far as the table can tell. */
  isOldFor(lastHi: number, lastLo: number): boolean {
    return differenceU64(lastHi, lastLo, this.bornHi, this.bornLo) > LOG_AHEAD_NS;
  }

  /** The next session's `born` is to be right above `hi`, `lo`, which the cluster accepts at present. */
  bearNextAbove(hi: number, lo: number): void {
    this.nextBornHi = addHi(hi, lo, 1);
    this.nextBornLo = addLo(lo, 1);
  }

  /** The session is lost. */
  lost(now: Instant): void {
    if (now.monotonicUs - this.registeredUs >= LIVED_US) this.refusals = -1;
  }

  /** @param replaced the session still serves: its successor was never refused */
  succession(replaced: boolean): Pick<ClientConfig, 'bornHi' | 'bornLo' | 'refusals'> {
    const born = (this.nextBornHi | this.nextBornLo) === 0 ? {} : { bornHi: this.nextBornHi, bornLo: this.nextBornLo };
    return { ...born, refusals: replaced ? 0 : this.refusals + 1 };
  }
}
