/**
 * A client: stamps requests, sends them to every member of the view's quorum, and completes them.
 *
 * This file takes what comes in (the caller's operations, the replicas' messages, time) to the file that owns the
 * matter:
 * - commit-rule.ts (S) decides whether a request is committed.
 * - slots.ts holds the open request of each lane; a lane has one open at a time.
 * - timestamps.ts, lead.ts and margins.ts choose timestamps; retries.ts says when a request may be sent again.
 * - send-window.ts says how many are on their way at once; the others wait here.
 * - view-search.ts finds the view that runs; epochs.ts knows whose it is; registration.ts begins the session.
 *
 * All state lies in typed arrays: `submit`, `receive` and `tick` allocate nothing.
 */
import { LastWords, wordsOf } from '../../wire/copy.js';
import * as wire from '../../wire/messages.js';
import {
  RejectReason,
  type RejectReasonCode,
  ReplicaStatus,
  ReplyStatus,
  typeOf,
  type TypesFor,
} from '../../wire/messages.js';
import { indexAt, readI32, readIndex, readU16 } from '../../wire/u64.js';
import { checkLanes, checkRequestsPerLane, REQUESTS_PER_LANE_MAX, type ClientConfig } from '../config.js';
import { Outcome, type ClientEvents, type Instant, type Outbox } from '../contract.js';
import { CLIENT_COUNTER_NAMES, CLIENT_REJECT_COUNTERS, ClientCounter } from '../counters.js';
import { invariant } from '../invariant.js';
import { Jitter } from '../jitter.js';
import { Payloads } from '../log/payloads.js';
import { REGISTER_BYTES } from '../log/sessions.js';
import { Views } from '../views.js';
import type { ClientClock } from './client-clock.js';
import { ClientSender } from './client-sender.js';
import { CommitRule } from './commit-rule.js';
import { Epochs } from './epochs.js';
import { LeadControl } from './lead.js';
import { OtherLists } from './other-lists.js';
import { Registration } from './registration.js';
import { Retries } from './retries.js';
import { SendWindow } from './send-window.js';
import { Pace, Slots } from './slots.js';
import { Timestamps } from './timestamps.js';
import { ViewSearch } from './view-search.js';

/** Operations and results up to here need no array of their own. */
const SHORT_BYTES = 128;

export class ClientCore {
  /** The session is registered: requests may be submitted. */
  registered = false;
  /** The cluster no longer knows the session: every request ends with `sessionLost`. */
  sessionLost = false;
  /** A lane has used most of its request numbers: the client should move to another session, while this one serves. */
  worn = false;
  readonly counters = new Float64Array(CLIENT_COUNTER_NAMES.length);
  /** The replicas that last answered a probe with "more logs are lost than the cluster survives", one bit each. */
  majorityLost = 0;
  /** Replicas that count the cluster's replicas differently: none of them is heard. */
  readonly lists: OtherLists;
  readonly lead: LeadControl;
  readonly clock: ClientClock;

  /** How many requests are on their way. */
  readonly window: SendWindow;

  private readonly rule: CommitRule;
  private readonly views: Views;
  private readonly epochs: Epochs;
  private readonly places: number;
  private readonly slots: Slots;
  private readonly timestamps: Timestamps;
  private readonly retries: Retries;
  private readonly search: ViewSearch;
  private readonly registration: Registration;
  private readonly sender: ClientSender;
  private readonly operations: Payloads;
  /** What the primary answered to the request of each slot. */
  private readonly results: Payloads;
  private readonly resultStatus: Uint8Array;
  private readonly submitted = new LastWords();
  private readonly received = new LastWords();
  private readonly requestsMax: number;
  private readonly wornAt: number;

  /** Throws RangeError if the configuration is out of its ranges. */
  constructor(
    private readonly config: ClientConfig,
    outbox: Outbox,
    private readonly events: ClientEvents,
  ) {
    const { replicas, slots: places = replicas, lanes, timings } = config;
    checkLanes(lanes);
    this.requestsMax = config.requestsPerLane ?? REQUESTS_PER_LANE_MAX;
    checkRequestsPerLane(this.requestsMax);
    this.wornAt = this.requestsMax - (this.requestsMax >>> 3);
    const slots = lanes + 1;
    // A host that asks for members believes no other word about epochs.
    this.views = new Views(replicas, () => events.unknownEpoch === undefined);
    this.epochs = new Epochs(this.views);
    this.places = places;
    const jitter = new Jitter(config.seed);
    this.registration = new Registration(config, jitter);
    this.retries = new Retries(timings.retryUs, timings.retryMaxUs);
    this.search = new ViewSearch(this.views, places, outbox, this.retries, this.counters);
    this.lists = new OtherLists(replicas, places);
    this.rule = new CommitRule(slots, this.views, this.lists);
    this.slots = new Slots(lanes, this.retries, jitter, config.flags ?? 0);
    this.window = new SendWindow(lanes, config.queued);
    this.lead = new LeadControl(timings.leadNs, timings.maxLeadNs, places);
    this.timestamps = new Timestamps(slots, config);
    this.clock = this.timestamps.clock;
    this.operations = new Payloads(slots, SHORT_BYTES);
    this.results = new Payloads(slots, SHORT_BYTES);
    this.resultStatus = new Uint8Array(slots);
    this.sender = new ClientSender(config, outbox, this.slots, this.timestamps, this.operations, this.rule);
    if (config.members !== undefined && this.epochs.learn(config.members)) this.rule.enter(this.views.newest.first);
  }

  /** The view that requests are sent in. */
  get view(): number {
    return this.rule.view;
  }

  /** What a replica is in that view, by how much it has to do: 0 a spare, 1 a member, 2 the primary. */
  burdenOf(replica: number): number {
    if (this.views.primary(this.view) === replica) return 2;
    return this.views.isMember(this.view, replica) ? 1 : 0;
  }

  get sessionHi(): number {
    return this.config.sessionHi;
  }

  get sessionLo(): number {
    return this.config.sessionLo;
  }

  /** Lanes with an open request. */
  get openLanes(): number {
    return this.slots.open;
  }

  /** Monotonic µs at which `tick` should be called next. */
  get wakeAtUs(): number {
    return this.window.isDue ? 0 : Math.min(this.slots.wakeAtUs, this.registration.atUs);
  }

  isIdle(lane: number): boolean {
    return this.slots.isIdle(lane);
  }

  /** The result's bytes, from 0 to `resultLength`; valid until the next submit on the lane. */
  resultBytes(lane: number): Uint8Array {
    return this.results.bytes(lane);
  }

  resultLength(lane: number): number {
    return this.results.length(lane);
  }

  /** What the core of the client's next session starts from: spread it into its configuration. */
  succession(): Pick<
    ClientConfig,
    'afterHi' | 'afterLo' | 'aheadNs' | 'correctionNs' | 'bornHi' | 'bornLo' | 'refusals' | 'members'
  > {
    const { members } = this.epochs;
    return {
      ...(members === undefined ? {} : { members }),
      afterHi: this.timestamps.lastHi,
      afterLo: this.timestamps.lastLo,
      aheadNs: this.clock.aheadNs,
      correctionNs: this.clock.correctionNs,
      ...this.registration.succession(this.worn && !this.sessionLost),
    };
  }

  /** What the clocks of a majority of the voters say of this one (ClockOffsets.majority). Allocates. */
  majorityOfClocks(nowUs: number, baseUs?: number): readonly [offsetUs: number, uncertaintyUs: number] | undefined {
    return this.clock.offsets.majority(this.views.present.voters, nowUs, baseUs);
  }

  /**
   * Stamps as if the clock showed `ns` more, as measured against the replicas' clocks when the host does not trust its
   * own. 0 takes the clock as it is. Speed only, like every timestamp.
   */
  correctClock(ns: number): void {
    this.clock.correct(Math.round(ns));
  }

  /**
   * Begins to register the session, after a pause if sessions before it were refused; `events.registered` says how it
   * ended.
   */
  register(now: Instant): void {
    invariant(
      this.slots.isIdle(this.slots.registration) && !this.registered && this.registration.atUs === Infinity,
      'a session is registered once',
    );
    this.registration.schedule(now);
    if (this.registration.atUs <= now.monotonicUs) this.beginRegistration(now);
  }

  /**
   * Submits an operation on an idle lane. The bytes are copied.
   * @param timeoutUs after which it ends with `unknown`, whole µs, which as an argument cost no allocation; Infinity:
   * never
   */
  submit(lane: number, bytes: Uint8Array, offset: number, length: number, timeoutUs: number, now: Instant): void {
    this.accept(lane, bytes, offset, length);
    this.counters[ClientCounter.submitted]!++;
    this.begin(lane, false, timeoutUs, now);
  }

  /**
   * A quorum read: one round trip and no entry in the log. If the members' logs differ, it is submitted as an operation
   * instead.
   */
  read(lane: number, bytes: Uint8Array, offset: number, length: number, timeoutUs: number, now: Instant): void {
    this.accept(lane, bytes, offset, length);
    this.counters[ClientCounter.reads]!++;
    this.begin(lane, true, timeoutUs, now);
  }

  /** Ends the wait for a lane's request: its outcome is unknown. Does nothing on an idle lane. */
  cancel(lane: number): void {
    if (!this.slots.isIdle(lane)) this.complete(lane, Outcome.unknown, 0);
  }

  /** Takes one message that has passed `validate`, from the replica that the envelope names. */
  receive(bytes: Uint8Array, offset: number, length: number, from: number, now: Instant): void {
    if (from >= this.places || length === 0) return;
    const type = typeOf(bytes, offset);
    if (this.lists.refuses(type, bytes, offset, from)) {
      if (this.search.isTaughtBy(from)) this.unlearnView(now);
      return;
    }
    this.search.heard(from, now);
    const known = type as TypesFor<'client'>;
    switch (known) {
      case wire.Reply.type:
        this.onReply(bytes, offset, from, now);
        break;
      case wire.Reject.type:
        this.onReject(bytes, offset, from, now);
        break;
      case wire.ReadReply.type:
        this.onReadReply(bytes, offset, from, now);
        break;
      case wire.ProbeReply.type:
        this.onProbeReply(bytes, offset, from, now);
        break;
      default:
        known satisfies never; // each message for a client has its case; others are ignored
    }
    if (this.window.isDue) this.sendWaiting(now);
  }

  /** The operating system of a replica's host reports that no process listens there. */
  unreachable(replica: number, now: Instant): void {
    this.counters[ClientCounter.unreachable]!++;
    if (this.slots.open > 0 && this.rule.isMember(replica)) this.search.unreachable(this.view, now);
  }

  tick(now: Instant): void {
    if (now.monotonicUs < this.wakeAtUs) return;
    const { slots } = this;
    slots.wake();
    this.lead.tick(now.monotonicUs);
    if (this.registration.atUs <= now.monotonicUs) this.beginRegistration(now);
    for (let slot = 0; slot < slots.count; slot++) {
      if (slots.isIdle(slot)) continue;
      if (slots.isExpired(slot, now)) {
        this.complete(slot, Outcome.unknown, 0);
        continue;
      }
      if (slots.isRetryDue(slot, now)) this.again(slot, now);
      if (slots.endOrder(slot, now)) this.settle(slot, now);
      slots.wakeFor(slot);
    }
    if (this.window.isDue) this.sendWaiting(now);
  }

  private accept(lane: number, bytes: Uint8Array, offset: number, length: number): void {
    invariant(
      lane >= 0 && lane < this.config.lanes && this.slots.isIdle(lane),
      'a request is submitted on an idle lane',
    );
    invariant(length <= this.config.limits.operationBytes, 'an operation keeps within the limit');
    this.operations.put(lane, this.submitted.of(bytes), offset, length);
  }

  private beginRegistration(now: Instant): void {
    const { timestamps } = this;
    const slot = this.slots.registration;
    timestamps.stamp(slot, this.lead.leadNs, now);
    const operation = this.registration.operation(timestamps.lastHi, timestamps.lastLo);
    this.operations.put(slot, wordsOf(operation), 0, REGISTER_BYTES);
    this.begin(slot, false, Infinity, now);
  }

  private begin(slot: number, isRead: boolean, timeoutUs: number, now: Instant): void {
    const request = this.slots.begin(slot, isRead, timeoutUs, now);
    if (request >= this.wornAt) this.wear(slot, request, now);
    this.timestamps.margins.clear(slot);
    this.rule.forget(slot);
    if (this.sessionLost) {
      // It ends at the next tick, not here: a completion may submit again.
      this.slots.expire(slot, now);
      return;
    }
    const { window } = this;
    if (slot !== this.slots.registration) {
      if (window.waiting > 0 || window.isFull) {
        this.counters[ClientCounter.waited]!++;
        window.wait(slot);
        this.slots.wakeFor(slot);
        return;
      }
      window.depart(slot);
    }
    if (!isRead) this.timestamps.stamp(slot, this.lead.leadNs, now);
    this.send(slot, now);
  }

  /** Sends what waited for the window. */
  private sendWaiting(now: Instant): void {
    const { window, slots } = this;
    while (window.isDue) {
      const slot = window.first;
      window.depart(slot);
      slots.depart(slot, now);
      if (slots.isWrite(slot)) this.timestamps.stamp(slot, this.lead.leadNs, now);
      this.send(slot, now);
    }
  }

  /** The lane is near the end of its numbers. At the end, if the session was not replaced in time, it is given up. */
  private wear(slot: number, request: number, now: Instant): void {
    this.worn = true;
    if (request <= this.requestsMax) return;
    this.slots.useUp(slot, this.requestsMax);
    this.loseSession(now);
  }

  /** Sends the request to every member of the view. */
  private send(slot: number, now: Instant): void {
    this.sender.sendRequest(slot);
    this.slots.awaitAnswer(slot, now);
  }

  /** No answer, or not enough of them, in time. */
  private again(slot: number, now: Instant): void {
    const { slots } = this;
    if (this.search.noAnswer(this.view, slots.noAnswer(slot), now)) {
      this.events.searchMembers?.();
      // A host that left may have named a view that nobody else will ever be in.
      if (this.views.newest.epoch > 0 && this.view > this.views.first) {
        this.unlearnView(now);
        return;
      }
    }
    if (!this.retries.spend(now.monotonicUs)) {
      slots.awaitAnswer(slot, now);
      return;
    }
    slots.repeat(slot);
    this.counters[ClientCounter.retransmitted]!++;
    if (slots.isRead(slot)) {
      this.readThroughLog(slot, now);
      return;
    }
    this.send(slot, now);
    this.settle(slot, now);
  }

  private restamp(slot: number, now: Instant): void {
    this.counters[ClientCounter.restamped]!++;
    this.timestamps.stamp(slot, this.lead.leadNs, now);
    this.slots.restamped(slot);
    this.send(slot, now);
  }

  /** Members' logs differ, or one is silent: the read becomes an operation, under a new number. */
  private readThroughLog(slot: number, now: Instant): void {
    this.slots.becomeWrite(slot);
    this.timestamps.margins.clear(slot);
    this.rule.forget(slot);
    this.timestamps.stamp(slot, this.lead.leadNs, now);
    this.send(slot, now);
  }

  /** The slot whose open request a message of our session is about, or −1. */
  private slotOf(message: DataView, sessionAt: number, laneAt: number, requestAt: number): number {
    if (
      message.getInt32(sessionAt) !== this.config.sessionHi ||
      message.getInt32(sessionAt + 4) !== this.config.sessionLo
    )
      return -1;
    return this.slots.find(message.getUint16(laneAt), message.getInt32(requestAt));
  }

  private onReply(bytes: Uint8Array, o: number, from: number, now: Instant): void {
    const at = wire.Reply.at;
    const { rule } = this;
    const reply = this.received.of(bytes);
    const slot = this.slotOf(reply, o + at.session, o + at.lane, o + at.request);
    const view = reply.getInt32(o + at.view);
    if (slot < 0 || !this.slots.isWrite(slot) || view < rule.view) return;
    if (view > rule.view) this.learnView(view, from, now);
    if (view !== rule.view || !rule.isMember(from)) return;
    const index = indexAt(reply, o + at.index);
    const chainHi = reply.getInt32(o + at.chain);
    const chainLo = reply.getInt32(o + at.chain + 4);
    const timestampLo = reply.getInt32(o + at.timestamp + 4);
    const ordered = reply.getUint8(o + at.ordered);
    this.retries.acknowledged(now);
    const isPrimary = from === rule.primary;
    // A member that acknowledges by the primary's order says nothing about the delay to it.
    if (isPrimary || ordered === 0) {
      if (timestampLo === this.timestamps.lo[slot]) this.heardSlack(from, slot, reply.getInt32(o + at.slack), now);
      else this.lead.heard(from, reply.getInt32(o + at.slack));
    }
    if (!isPrimary) {
      rule.acknowledged(slot, view, from, index, chainHi, chainLo);
      if (ordered === 1) this.differed(slot);
    } else if (!rule.acks.hasPrimary(slot)) {
      this.results.put(slot, reply, o + wire.Reply.size, reply.getUint16(o + at.result));
      this.resultStatus[slot] = reply.getUint8(o + at.status);
      rule.acknowledged(slot, view, from, index, chainHi, chainLo);
      this.slots.setOrdering(slot, ordered);
      this.timestamps.learn(slot, reply.getInt32(o + at.timestamp), timestampLo);
    }
    this.settle(slot, now);
  }

  /** A reply or reject to the present timestamp of `slot`: it shows the replica's clock and the delay to it. */
  private heardSlack(from: number, slot: number, slackUs: number, now: Instant): void {
    this.lead.heard(from, slackUs);
    // If it was sent twice, it is unknown which copy the slack belongs to.
    if (!this.slots.isRepeated(slot)) this.clock.heard(from, slot, slackUs, now);
  }

  /** A member did not have the request where the primary has it, or not at once. */
  private differed(slot: number): void {
    if (this.slots.differed(slot)) this.lead.missed();
  }

  /** Commits the request of a slot if the rule holds; otherwise asks members that differ to reconcile. */
  private settle(slot: number, now: Instant): void {
    const { rule, slots } = this;
    if (!rule.isDecidable(slot)) return;
    const missing = rule.missing(slot);
    if (missing === 0) {
      this.commit(slot, now);
      return;
    }
    for (let r = 0; missing >>> r !== 0; r++) {
      if (((missing >>> r) & 1) === 0 || slots.isAsked(slot, r)) continue;
      if (!slots.isRejectedBy(slot, r) && !rule.acks.hasAnswered(slot, r)) continue;
      this.differed(slot);
      if (slots.isOrdering(slot)) slots.awaitOrder(slot, now);
      else this.reconcile(slot, r);
    }
  }

  private reconcile(slot: number, replica: number): void {
    this.slots.ask(slot, replica);
    if (!this.sender.sendReconcile(slot, replica)) return;
    this.counters[ClientCounter.reconciled]!++;
    this.slots.reconciled(slot);
  }

  private commit(slot: number, now: Instant): void {
    const { slots } = this;
    const status = this.resultStatus[slot]!;
    if (status === ReplyStatus.superseded && slots.flagsOf(slot) === wire.RequestFlag.query) {
      // It was executed, and its result is not kept. A query changes nothing, so another one may be asked.
      this.readThroughLog(slot, now);
      return;
    }
    this.rule.commit(slot);
    const pace = slots.paceOf(slot);
    this.search.committed(now);
    if (slots.isRepeated(slot)) this.retries.committedAgain(slots.sentUs, slot, now);
    else {
      this.retries.committed(slots.sentUs, slot, now);
      this.window.committed(slots.sentUs, slot, now);
    }
    if (pace === Pace.one) this.lead.committedFast(slots.sentUs, slot, now);
    if (slot === slots.registration) {
      slots.end(slot);
      this.registered = status === ReplyStatus.ok;
      this.registration.registered(now);
      this.events.registered(status);
      return;
    }
    if (status === ReplyStatus.ok) {
      this.counters[ClientCounter.commits]!++;
      if (pace === Pace.one) this.counters[ClientCounter.commits_fast]!++;
      else if (pace === Pace.oneAndAHalf) this.counters[ClientCounter.commits_ordered]!++;
      else if (pace === Pace.reconciled) this.counters[ClientCounter.commits_reconciled]!++;
      this.complete(slot, Outcome.committed, status);
    } else if (status === ReplyStatus.sessionUnknown) {
      this.loseSession(now);
    } else {
      this.complete(slot, Outcome.refused, status);
    }
  }

  private onReadReply(bytes: Uint8Array, o: number, from: number, now: Instant): void {
    const at = wire.ReadReply.at;
    const { rule } = this;
    const reply = this.received.of(bytes);
    const slot = this.slotOf(reply, o + at.session, o + at.lane, o + at.request);
    const view = readI32(bytes, o + at.view);
    if (slot < 0 || !this.slots.isRead(slot) || view !== rule.view || !rule.isMember(from)) return;
    if (from === rule.primary) this.results.put(slot, reply, o + wire.ReadReply.size, readU16(bytes, o + at.result));
    const index = readIndex(bytes, o + at.lastIndex);
    rule.acknowledged(slot, view, from, index, readI32(bytes, o + at.lastChain), readI32(bytes, o + at.lastChain + 4));
    if (!rule.isDecidable(slot)) return;
    const missing = rule.missing(slot);
    if (missing === 0) {
      rule.commit(slot);
      this.counters[ClientCounter.reads_fast]!++;
      this.complete(slot, Outcome.committed, ReplyStatus.ok);
    } else if (rule.haveAnswered(slot, missing)) {
      this.readThroughLog(slot, now);
    }
  }

  private onReject(bytes: Uint8Array, o: number, from: number, now: Instant): void {
    const at = wire.Reject.at;
    const { rule, slots } = this;
    const slot = this.slotOf(this.received.of(bytes), o + at.session, o + at.lane, o + at.request);
    if (slot < 0) return;
    const reason = bytes[o + at.reason]! as RejectReasonCode;
    const view = readI32(bytes, o + at.view);
    if (reason === RejectReason.wrongView) {
      this.counters[CLIENT_REJECT_COUNTERS[reason]!]!++;
      this.learnView(view, from, now);
      return;
    }
    if (!slots.isWrite(slot) || view !== rule.view) return;
    // A reject of an earlier timestamp has been dealt with.
    if (!this.timestamps.isPresent(slot, readI32(bytes, o + at.timestamp), readI32(bytes, o + at.timestamp + 4)))
      return;
    this.counters[CLIENT_REJECT_COUNTERS[reason]!]!++;
    const isPrimary = from === rule.primary;
    if (reason !== RejectReason.late || isPrimary) slots.slow(slot);
    const lastHi = readI32(bytes, o + at.lastTimestamp);
    const lastLo = readI32(bytes, o + at.lastTimestamp + 4);
    const slackUs = readI32(bytes, o + at.slack);
    switch (reason) {
      case RejectReason.late:
        this.heardSlack(from, slot, slackUs, now);
        if (isPrimary) this.primaryRejectedLate(slot, lastHi, lastLo, slackUs, now);
        else {
          this.differed(slot);
          this.memberRejected(slot, from, now);
        }
        return;
      case RejectReason.tooFarAhead:
        // A member's clock may be wrong. If the primary says so, it is ours.
        if (isPrimary) this.primaryRefusedAhead(slot, lastHi, lastLo, now);
        else this.memberRejected(slot, from, now);
        return;
      case RejectReason.sessionUnknown:
        if (isPrimary) this.loseSession(now);
        else slots.rejectedBy(slot, from);
        return;
      case RejectReason.badRequest:
        if (isPrimary) this.complete(slot, Outcome.refused, ReplyStatus.badRequest);
        return;
      case RejectReason.busy:
        if (slot !== slots.registration) this.window.busy();
        return; // it is sent again after the wait for an answer
      case RejectReason.notInQuorum:
        return; // it is sent again after the wait for an answer
      default:
        reason satisfies never; // each reason has its case; one of a later version is only counted, as unknown
    }
  }

  /** The primary's entry will have to be fetched by this member, once the primary has answered. */
  private memberRejected(slot: number, replica: number, now: Instant): void {
    this.slots.rejectedBy(slot, replica);
    this.settle(slot, now);
  }

  /** The primary's log ends at the timestamp `lastHi`, `lastLo`, and did not take the request. */
  private primaryRejectedLate(slot: number, lastHi: number, lastLo: number, slackUs: number, now: Instant): void {
    const { timestamps } = this;
    const isRegister = slot === this.slots.registration;
    if (this.rule.acks.hasPrimary(slot)) {
      // The primary had the registration and no longer knows it: the session was evicted before all members had answered.
      if (isRegister) this.complete(slot, Outcome.refused, ReplyStatus.sessionTaken);
      return;
    }
    this.lead.missed();
    if (isRegister) timestamps.margins.countRegister(slot);
    timestamps.rejectedLate(slot, lastHi, lastLo, slackUs, now);
    if (isRegister && this.registration.isOldFor(lastHi, lastLo)) this.refuseRegistration(lastHi, lastLo);
    else this.restamp(slot, now);
  }

  /**
   * The cluster's time counts: `nowHi`, `nowLo`, which is the primary's clock, or the end of its log if that is ahead,
   * replaces our clock from here on.
   */
  private primaryRefusedAhead(slot: number, nowHi: number, nowLo: number, now: Instant): void {
    if (this.rule.acks.hasPrimary(slot)) return;
    this.timestamps.refusedAhead(slot, this.lead.leadNs, nowHi, nowLo);
    // A Register may not go back in time (sessions.ts): the next session starts with what was learnt.
    if (slot === this.slots.registration) this.refuseRegistration(nowHi, nowLo);
    else this.restamp(slot, now);
  }

  /** Ends the registration; the next session starts from what the cluster takes for now. */
  private refuseRegistration(hi: number, lo: number): void {
    this.registration.bearNextAbove(hi, lo);
    this.complete(this.slots.registration, Outcome.refused, ReplyStatus.sessionTaken);
  }

  private onProbeReply(bytes: Uint8Array, o: number, from: number, now: Instant): void {
    const at = wire.ProbeReply.at;
    if ((bytes[o + at.condition]! & wire.ReplicaCondition.majorityLost) !== 0) this.majorityLost |= 1 << from;
    else this.majorityLost &= ~(1 << from);
    if (bytes[o + at.status] === ReplicaStatus.normal) this.learnView(readI32(bytes, o + at.view), from, now);
  }

  /** A replica names a view. If it is above ours, it runs or is about to. */
  private learnView(view: number, from: number, now: Instant): void {
    const { epochs } = this;
    if (view <= this.view) return;
    if (!epochs.isKnown(view)) this.events.unknownEpoch?.(from, view);
    else if (epochs.mayName(view, from)) this.enterView(view, from, now);
  }

  /** These are the members, committed somewhere; older ones than are known here change nothing. */
  takeMembers(bytes: Uint8Array, now: Instant): void {
    if (this.epochs.learn(bytes) && !this.enterWanted(now)) this.search.ask(this.view, false, now);
  }

  /** A replica in `view` knows of no change of the members. */
  takeFirstMembers(view: number, now: Instant): void {
    if (this.epochs.cross(view)) this.enterWanted(now);
  }

  private enterWanted(now: Instant): boolean {
    const view = this.epochs.wantedAbove(this.view);
    if (view >= 0) this.enterView(view, -1, now);
    return view >= 0;
  }

  /** The replica that named the present view is not to be believed: the others say which view runs. */
  private unlearnView(now: Instant): void {
    this.enterView(this.views.first, -1, now);
    this.search.ask(this.view, false, now);
  }

  /** Every open request is sent again in `view`. */
  private enterView(view: number, taughtBy: number, now: Instant): void {
    const { slots } = this;
    this.search.entered(taughtBy);
    this.rule.enter(view);
    this.lead.forget();
    this.counters[ClientCounter.view_changes]!++;
    for (let slot = 0; slot < slots.count; slot++) {
      if (slots.isIdle(slot) || this.window.isWaiting(slot) || this.sessionLost) continue;
      slots.enterView(slot, now);
      this.send(slot, now);
    }
  }

  private loseSession(now: Instant): void {
    if (this.sessionLost) return;
    this.sessionLost = true;
    this.registration.lost(now);
    this.counters[ClientCounter.session_lost]!++;
    for (let slot = 0; slot < this.slots.count; slot++) if (!this.slots.isIdle(slot)) this.slots.expire(slot, now);
  }

  private complete(slot: number, outcome: number, status: number): void {
    const { slots } = this;
    const fast = slots.paceOf(slot) === Pace.one;
    const ending = outcome === Outcome.unknown && this.sessionLost ? Outcome.sessionLost : outcome;
    if (ending === Outcome.unknown) this.counters[ClientCounter.unknown]!++;
    if (ending === Outcome.refused) this.counters[ClientCounter.refused]!++;
    slots.end(slot);
    this.window.end(slot);
    if (slot === slots.registration)
      this.events.registered(status === ReplyStatus.ok ? ReplyStatus.sessionUnknown : status);
    else this.events.completed(slot, ending, status, fast);
  }
}
