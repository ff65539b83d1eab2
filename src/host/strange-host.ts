/**
 * Whether a host that is not listed is asked who the members are, when it speaks. It may be a member already and know more
 * than this process. But a recorded datagram of it may be sent by anyone, from any address.
 *
 * - Only a host whose id may have been given since the list that is known here is asked. Ids rise and are never given
 *   again, so one with a lower id has left, and knows nothing newer.
 * - Its address gets at most AMPLIFICATION times the bytes that came from there.
 * - One address at a time, for HOLD_US; after FORGET_US it is forgotten.
 * - The pause after each question doubles, until a newer list is found or nobody strange spoke for a while.
 */
import type { Instant } from '../protocol/contract.js';
import { AMPLIFICATION, CREDIT_MAX } from '../wire/address-proofs.js';
import { WAITING_ID } from '../wire/host-ids.js';

type Now = Pick<Instant, 'monotonicUs'>;

/** For so long no other address takes the place of one that is asked. */
export const HOLD_US = 1_000_000;
/** An address that has not spoken for this long is written to no more. */
export const FORGET_US = 10_000_000;
/** Pause between two questions, at first and at most. */
export const PAUSE_US = 100_000;
export const PAUSE_MAX_US = 60_000_000;

export class StrangeHost {
  /** The number of its address; −1: there is none. */
  private endpoint = -1;
  private placedUs = -Infinity;
  private heardUs = -Infinity;
  private dueUs = -Infinity;
  private pauseUs = PAUSE_US;
  private credit = 0;

  /**
   * @param nextId the first id that may have been given since the list that is known here
   * @param place the sender of the current datagram has the place of the strange host from now on
   * @param unplace nobody has it any more
   */
  constructor(
    private readonly nextId: () => number,
    private readonly place: () => void,
    private readonly unplace: () => void,
  ) {}

  /** A datagram of `length` bytes came from a host that is not listed. True if it is the one that is asked. */
  heard(id: number, endpoint: number, length: number, now: Now): boolean {
    if (id < this.nextId() || id >= WAITING_ID) return false;
    this.forgetSilent(now);
    if (endpoint !== this.endpoint) {
      if (this.endpoint >= 0 && now.monotonicUs - this.placedUs < HOLD_US) return false;
      this.endpoint = endpoint;
      this.placedUs = now.monotonicUs;
      this.credit = 0;
      this.place();
    }
    if (now.monotonicUs - this.heardUs > PAUSE_MAX_US) this.pauseUs = PAUSE_US;
    this.heardUs = now.monotonicUs;
    this.credit = Math.min(CREDIT_MAX, this.credit + AMPLIFICATION * length);
    return true;
  }

  /** Whether it may be asked now, beginning with a datagram of at least `least` bytes; if so, the next time is later. */
  takeTurn(least: number, now: Now): boolean {
    if (now.monotonicUs < this.dueUs || this.mayGet(now) < least) return false;
    this.dueUs = now.monotonicUs + this.pauseUs;
    this.pauseUs = Math.min(PAUSE_MAX_US, 2 * this.pauseUs);
    return true;
  }

  /** How many bytes may be sent to it now. */
  mayGet(now: Now): number {
    this.forgetSilent(now);
    return this.credit;
  }

  sent(length: number): void {
    this.credit -= length;
  }

  /** A newer list was found: questions were of use. */
  found(): void {
    this.pauseUs = PAUSE_US;
    this.dueUs = -Infinity;
  }

  private forgetSilent(now: Now): void {
    if (this.endpoint < 0 || now.monotonicUs - this.heardUs <= FORGET_US) return;
    this.endpoint = -1;
    this.credit = 0;
    this.unplace();
  }
}
