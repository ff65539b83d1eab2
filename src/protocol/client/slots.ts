/**
 * The open request of each lane: its number, what it has needed so far, and when something is due for it.
 *
 * There is a slot for each lane, and one more for the registration. All state lies in typed arrays, so a request
 * allocates nothing. commit-rule.ts decides whether the request of a slot is committed, timestamps.ts holds its
 * timestamp, and retries.ts says how long to wait for an answer.
 */
import { RequestFlag } from '../../wire/messages.js';
import type { Instant } from '../contract.js';
import type { Jitter } from '../jitter.js';
import { REGISTER_LANE } from '../log/sessions.js';
import type { Retries } from './retries.js';

const State = { idle: 0, write: 1, read: 2 } as const;

/**
 * What a request has needed so far:
 * - `one`: one round trip.
 * - `oneAndAHalf`: a member differed, and the primary's order, pushed to it, corrected that without the client.
 * - `reconciled`: the client had to ask that member to fetch the primary's entry.
 * - `more`: something was sent again, stamped anew, or sent in another view.
 */
export const Pace = { more: 0, one: 1, oneAndAHalf: 2, reconciled: 3 } as const;

/**
 * Shortest wait for a pushed order before a member that differs is asked to reconcile, µs; the longest recent round
 * trip if that is longer.
 */
const ORDER_PATIENCE_US = 500;
/** Random part of the wait for an answer. */
const JITTER = 0.25;

export class Slots {
  /** The slot of the registration, behind those of the lanes. */
  readonly registration: number;
  /** Slots with an open request. */
  open = 0;
  /** No slot is due before this, monotonic µs. */
  wakeAtUs = Infinity;
  /** When the request was first sent in its view, monotonic µs. */
  readonly sentUs: Float64Array;
  private readonly state: Uint8Array;
  private readonly request: Int32Array;
  /** RequestFlag. */
  private readonly flags: Uint8Array;
  private readonly pace: Uint8Array;
  /** Waits for an answer that were in vain. */
  private readonly attempts: Int32Array;
  /** The request was sent more than once in its view, under the same timestamp. */
  private readonly repeated: Uint8Array;
  /** Members that rejected the present timestamp, and members that were asked to reconcile, one bit each. */
  private readonly rejectedMask: Int32Array;
  private readonly askedMask: Int32Array;
  /** The primary pushes its order to members that differ, so they are not asked before `reconcileUs`. */
  private readonly ordering: Uint8Array;
  /** Infinity: no member differs. */
  private readonly reconcileUs: Float64Array;
  /** When the request is sent again. */
  private readonly retryUs: Float64Array;
  /** When the caller's patience ends. */
  private readonly deadlineUs: Float64Array;

  constructor(
    readonly lanes: number,
    private readonly retries: Retries,
    private readonly jitter: Jitter,
    /** RequestFlag of what is submitted. */
    private readonly writeFlags: number,
  ) {
    const slots = lanes + 1;
    this.registration = lanes;
    this.sentUs = new Float64Array(slots);
    this.state = new Uint8Array(slots);
    this.request = new Int32Array(slots);
    this.flags = new Uint8Array(slots);
    this.pace = new Uint8Array(slots);
    this.attempts = new Int32Array(slots);
    this.repeated = new Uint8Array(slots);
    this.rejectedMask = new Int32Array(slots);
    this.askedMask = new Int32Array(slots);
    this.ordering = new Uint8Array(slots);
    this.reconcileUs = new Float64Array(slots).fill(Infinity);
    this.retryUs = new Float64Array(slots).fill(Infinity);
    this.deadlineUs = new Float64Array(slots).fill(Infinity);
  }

  /** Lanes, and the registration. */
  get count(): number {
    return this.state.length;
  }

  isIdle(slot: number): boolean {
    return this.state[slot] === State.idle;
  }

  isWrite(slot: number): boolean {
    return this.state[slot] === State.write;
  }

  isRead(slot: number): boolean {
    return this.state[slot] === State.read;
  }

  requestOf(slot: number): number {
    return this.request[slot]!;
  }

  flagsOf(slot: number): number {
    return this.flags[slot]!;
  }

  paceOf(slot: number): number {
    return this.pace[slot]!;
  }

  isRepeated(slot: number): boolean {
    return this.repeated[slot] === 1;
  }

  /** The lane number in messages. */
  wireLane(slot: number): number {
    return slot === this.registration ? REGISTER_LANE : slot;
  }

  /** The slot whose open request a message names by its lane and number, or −1. */
  find(wireLane: number, request: number): number {
    const slot = wireLane === REGISTER_LANE ? this.registration : wireLane < this.lanes ? wireLane : -1;
    return slot < 0 || this.isIdle(slot) || request !== this.request[slot] ? -1 : slot;
  }

  /** A request begins on an idle slot. Returns its number. */
  begin(slot: number, isRead: boolean, timeoutUs: number, now: Instant): number {
    this.state[slot] = isRead ? State.read : State.write;
    this.open++;
    this.flags[slot] = slot === this.registration ? RequestFlag.register : isRead ? RequestFlag.query : this.writeFlags;
    this.attempts[slot] = 0;
    this.repeated[slot] = 0;
    this.pace[slot] = Pace.one;
    this.deadlineUs[slot] = now.monotonicUs + timeoutUs;
    this.sentUs[slot] = now.monotonicUs;
    this.forgetAnswers(slot);
    return ++this.request[slot]!;
  }

  /** The request waited in the client, and is sent now. */
  depart(slot: number, now: Instant): void {
    this.sentUs[slot] = now.monotonicUs;
  }

  /** The numbers of the lane are used up: its request has the last one. */
  useUp(slot: number, last: number): void {
    this.request[slot] = last;
  }

  /** A quorum read becomes an operation, under a new number. */
  becomeWrite(slot: number): void {
    this.state[slot] = State.write;
    this.request[slot]!++;
    this.pace[slot] = Pace.more;
    this.forgetAnswers(slot);
  }

  /** The request is sent in another view. */
  enterView(slot: number, now: Instant): void {
    this.forgetAnswers(slot);
    this.pace[slot] = Pace.more;
    this.attempts[slot] = 0;
    this.repeated[slot] = 0;
    this.sentUs[slot] = now.monotonicUs;
  }

  /** Rejects of an earlier view or request, and what was done about members that differ, no longer count. */
  forgetAnswers(slot: number): void {
    this.rejectedMask[slot] = 0;
    this.askedMask[slot] = 0;
    this.ordering[slot] = 0;
    this.reconcileUs[slot] = Infinity;
  }

  /** The request is sent under a new timestamp. */
  restamped(slot: number): void {
    this.rejectedMask[slot] = 0;
    this.askedMask[slot] = 0;
  }

  /** Another wait for an answer was in vain. Returns how many were. */
  noAnswer(slot: number): number {
    return ++this.attempts[slot]!;
  }

  /** The request is sent again under the same timestamp: members that differ may be asked again. */
  repeat(slot: number): void {
    this.pace[slot] = Pace.more;
    this.repeated[slot] = 1;
    this.askedMask[slot] = 0;
    this.ordering[slot] = 0;
  }

  /** A replica that is not just in another order refused the request. */
  slow(slot: number): void {
    this.pace[slot] = Pace.more;
  }

  /** A member did not have the request where the primary has it, or not at once. True the first time. */
  differed(slot: number): boolean {
    if (this.pace[slot] !== Pace.one) return false;
    this.pace[slot] = Pace.oneAndAHalf;
    return true;
  }

  rejectedBy(slot: number, replica: number): void {
    this.rejectedMask[slot]! |= 1 << replica;
  }

  isRejectedBy(slot: number, replica: number): boolean {
    return ((this.rejectedMask[slot]! >>> replica) & 1) === 1;
  }

  /** A member is asked to reconcile. */
  ask(slot: number, replica: number): void {
    this.askedMask[slot]! |= 1 << replica;
  }

  isAsked(slot: number, replica: number): boolean {
    return ((this.askedMask[slot]! >>> replica) & 1) === 1;
  }

  /** A member was asked to reconcile, and the message left. */
  reconciled(slot: number): void {
    if (this.pace[slot] !== Pace.more) this.pace[slot] = Pace.reconciled;
  }

  /** @param ordered 1 if the primary pushes its order to members that differ */
  setOrdering(slot: number, ordered: number): void {
    this.ordering[slot] = ordered;
  }

  isOrdering(slot: number): boolean {
    return this.ordering[slot] === 1;
  }

  /** The primary's order is on its way to a member that differs, which is asked only after that has had time. */
  awaitOrder(slot: number, now: Instant): void {
    if (this.reconcileUs[slot] !== Infinity) return;
    this.reconcileUs[slot] = now.monotonicUs + Math.max(this.retries.longestUs, ORDER_PATIENCE_US);
    this.wakeFor(slot);
  }

  /** True once the order has had that time. */
  endOrder(slot: number, now: Instant): boolean {
    if (this.reconcileUs[slot]! > now.monotonicUs) return false;
    this.ordering[slot] = 0;
    this.reconcileUs[slot] = Infinity;
    return true;
  }

  /** The request was sent, or may not be sent yet: how long to wait for an answer. */
  awaitAnswer(slot: number, now: Instant): void {
    this.jitter.step();
    this.retryUs[slot] =
      now.monotonicUs + this.retries.waitUs(this.attempts[slot]!) * (1 + JITTER * this.jitter.value[0]!);
    this.wakeFor(slot);
  }

  isRetryDue(slot: number, now: Instant): boolean {
    return this.retryUs[slot]! <= now.monotonicUs;
  }

  isExpired(slot: number, now: Instant): boolean {
    return this.deadlineUs[slot]! <= now.monotonicUs;
  }

  /** The request ends at the next tick, and nothing more is sent. */
  expire(slot: number, now: Instant): void {
    this.retryUs[slot] = Infinity;
    this.deadlineUs[slot] = now.monotonicUs;
    this.wakeFor(slot);
  }

  end(slot: number): void {
    this.state[slot] = State.idle;
    this.open--;
    this.retryUs[slot] = Infinity;
    this.reconcileUs[slot] = Infinity;
    this.deadlineUs[slot] = Infinity;
  }

  /** Every slot is about to be looked at: each says again when it is due. */
  wake(): void {
    this.wakeAtUs = Infinity;
  }

  /** `wakeAtUs` is not above what is due for this slot. */
  wakeFor(slot: number): void {
    const at = Math.min(this.retryUs[slot]!, this.deadlineUs[slot]!, this.reconcileUs[slot]!);
    if (at < this.wakeAtUs) this.wakeAtUs = at;
  }
}
