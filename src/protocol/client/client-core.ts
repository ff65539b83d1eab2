/**
 * A client: stamps requests, sends them to every member of the view's quorum, and says committed when the commit rule holds.
 *
 * Commit rule (S): every member of the view's quorum, its primary included, has answered ok, in the same view, with the
 * primary's index and the primary's chain; the result is the primary's. Acknowledgements are a set per member and view:
 * a newer one that differs does not erase an older one (acknowledgements.ts). A reject ends nothing: the request keeps its
 * number, and is stamped anew or sent again until it commits or its caller gives it up, which leaves the outcome unknown.
 * A member whose cluster file lists another number of replicas completes nothing (other-lists.ts).
 *
 * A lane has one request open. All state lies in typed arrays, a slot a lane: `submit`, `receive` and `tick` allocate nothing.
 */
import { LastWords, wordsOf } from '../../wire/copy.js';
import * as wire from '../../wire/messages.js';
import {
  RejectReason,
  type RejectReasonCode,
  ReplicaStatus,
  ReplyStatus,
  RequestFlag,
  typeOf,
  type TypesFor,
} from '../../wire/messages.js';
import { indexAt, readI32, readIndex, readU16 } from '../../wire/u64.js';
import { Acknowledgements } from './acknowledgements.js';
import { askReplicas } from './ask-replicas.js';
import { checkLanes, checkRequestsPerLane, REQUESTS_PER_LANE_MAX, type ClientConfig } from '../config.js';
import { Outcome, type ClientEvents, type Instant, type Outbox } from '../contract.js';
import { CLIENT_COUNTER_NAMES, CLIENT_REJECT_COUNTERS, ClientCounter } from '../counters.js';
import { invariant } from '../invariant.js';
import type { ClientClock } from './client-clock.js';
import { Pace, State } from './client-request.js';
import { ClientSender } from './client-sender.js';
import { LeadControl } from './lead.js';
import { Payloads } from '../log/payloads.js';
import { Hearing } from './hearing.js';
import { OtherLists } from './other-lists.js';
import { Jitter } from '../jitter.js';
import { Registration } from './registration.js';
import { Retries } from './retries.js';
import { REGISTER_BYTES, REGISTER_LANE } from '../log/sessions.js';
import { Timestamps } from './timestamps.js';
import { Views } from '../views.js';

/** Attempts without an answer after which all replicas are asked for their view, and after which a view change is asked for. */
const PROBE_AFTER = 1;
const PLEA_AFTER = 2;

/** Shortest wait for a pushed order before a member that differs is asked to reconcile, µs; else it is that of the longest round trip lately. */
const ORDER_PATIENCE_US = 500;

/** Operations and results up to here need no array of their own. */
const SHORT_BYTES = 128;

export class ClientCore {
  /** The view that requests are sent in. */
  view = 0;
  /** The session is registered: requests may be submitted. */
  registered = false;
  /** The cluster no longer knows the session: every request ends with `sessionLost`. */
  sessionLost = false;
  /** A lane has used most of its request numbers: time to go on with another session, while this one still takes requests. */
  worn = false;
  readonly counters = new Float64Array(CLIENT_COUNTER_NAMES.length);
  /** The replicas that last answered a probe with "more logs are lost than the cluster survives", bit r for replica r. */
  majorityLost = 0;
  /** Replicas that count the cluster's replicas otherwise: none of them is heard. */
  readonly lists: OtherLists;
  readonly lead: LeadControl;
  readonly clock: ClientClock;
  private readonly timestamps: Timestamps;

  private readonly n: number;
  private readonly views: Views;
  private readonly jitter: Jitter;
  private readonly retries: Retries;
  private readonly hearing: Hearing;
  private readonly acks: Acknowledgements;
  /** Lanes of the caller, and one more for the registration. */
  private readonly lanes: number;
  private readonly state: Uint8Array;
  private readonly request: Int32Array;
  /** Waits for an answer that were in vain. */
  private readonly attempts: Int32Array;
  /** The request was sent more than once in its view, under the same timestamp. */
  private readonly repeated: Uint8Array;
  /** Pace. */
  private readonly pace: Uint8Array;
  /** The primary's reply says that it pushes its order to members that differ: they are asked to reconcile only at … */
  private readonly ordering: Uint8Array;
  /** … monotonic µs; Infinity: no member differs. */
  private readonly reconcileUs: Float64Array;
  /** RequestFlag of the slot's request. */
  private readonly flags: Uint8Array;
  /** Members that rejected the request, or whose acknowledgement differs and that were asked to reconcile. */
  private readonly rejectedMask: Int32Array;
  private readonly askedMask: Int32Array;
  private readonly sentUs: Float64Array;
  private readonly dueUs: Float64Array;
  private readonly deadlineUs: Float64Array;
  private readonly operations: Payloads;
  private readonly results: Payloads;
  private readonly resultStatus: Uint8Array;
  private readonly submitted = new LastWords();
  private readonly received = new LastWords();
  private readonly sender: ClientSender;
  /** When a request was last committed, monotonic µs. */
  private committedUs = -Infinity;
  private earliestUs = Infinity;
  private lastProbeUs = -Infinity;
  /** Who said first that the present view runs; -1: nobody. */
  private taughtBy = -1;
  private open = 0;
  private readonly registration: Registration;
  private readonly requestsMax: number;
  private readonly wornAt: number;

  /** Throws RangeError when the configuration is out of its ranges. */
  constructor(
    private readonly config: ClientConfig,
    private readonly outbox: Outbox,
    private readonly events: ClientEvents,
  ) {
    checkLanes(config.lanes);
    this.requestsMax = config.requestsPerLane ?? REQUESTS_PER_LANE_MAX;
    checkRequestsPerLane(this.requestsMax);
    this.wornAt = this.requestsMax - (this.requestsMax >>> 3);
    this.n = config.replicas;
    this.views = new Views(config.replicas);
    this.jitter = new Jitter(config.seed);
    this.registration = new Registration(config, this.jitter);
    this.retries = new Retries(config.timings.retryUs, config.timings.retryMaxUs);
    this.lanes = config.lanes;
    this.hearing = new Hearing(config.replicas);
    this.lists = new OtherLists(config.replicas);
    const slots = config.lanes + 1;
    this.acks = new Acknowledgements(slots, config.replicas);
    this.lead = new LeadControl(config.timings.leadNs, config.timings.maxLeadNs, config.replicas);
    this.timestamps = new Timestamps(slots, config);
    this.clock = this.timestamps.clock;
    this.state = new Uint8Array(slots);
    this.request = new Int32Array(slots);
    this.attempts = new Int32Array(slots);
    this.repeated = new Uint8Array(slots);
    this.pace = new Uint8Array(slots);
    this.ordering = new Uint8Array(slots);
    this.reconcileUs = new Float64Array(slots).fill(Infinity);
    this.flags = new Uint8Array(slots);
    this.rejectedMask = new Int32Array(slots);
    this.askedMask = new Int32Array(slots);
    this.sentUs = new Float64Array(slots);
    this.dueUs = new Float64Array(slots).fill(Infinity);
    this.deadlineUs = new Float64Array(slots).fill(Infinity);
    this.operations = new Payloads(slots, SHORT_BYTES);
    this.results = new Payloads(slots, SHORT_BYTES);
    this.sender = new ClientSender(outbox, config.replicas, config.sessionHi, config.sessionLo, this.operations);
    this.resultStatus = new Uint8Array(slots);
  }

  /** Starts to register the session, after a pause where sessions before it were refused; `events.registered` says how it ended. */
  register(now: Instant): void {
    invariant(
      this.state[this.lanes] === State.idle && !this.registered && this.registration.atUs === Infinity,
      'a session is registered once',
    );
    this.registration.schedule(now);
    if (this.registration.atUs <= now.monotonicUs) this.beginRegistration(now);
    else this.earliestUs = Math.min(this.earliestUs, this.registration.atUs);
  }

  private beginRegistration(now: Instant): void {
    const { timestamps } = this;
    timestamps.stamp(this.lanes, this.lead.leadNs, now);
    this.operations.put(
      this.lanes,
      wordsOf(this.registration.operation(timestamps.lastHi, timestamps.lastLo)),
      0,
      REGISTER_BYTES,
    );
    this.begin(this.lanes, State.write, Infinity, now);
  }

  isIdle(lane: number): boolean {
    return this.state[lane] === State.idle;
  }

  /** What the core of the client's next session starts from: spread it into its configuration. */
  succession(): Pick<
    ClientConfig,
    'afterHi' | 'afterLo' | 'aheadNs' | 'correctionNs' | 'bornHi' | 'bornLo' | 'refusals'
  > {
    return {
      afterHi: this.timestamps.lastHi,
      afterLo: this.timestamps.lastLo,
      aheadNs: this.clock.aheadNs,
      correctionNs: this.clock.correctionNs,
      ...this.registration.succession(this.worn && !this.sessionLost),
    };
  }

  /**
   * Stamps as if the clock showed `ns` more: what the replicas' clocks say of one that its host does not trust. 0 takes the
   * clock as it is. Speed only, like every timestamp.
   */
  correctClock(ns: number): void {
    this.clock.correct(Math.round(ns));
  }

  get sessionHi(): number {
    return this.config.sessionHi;
  }

  get sessionLo(): number {
    return this.config.sessionLo;
  }

  /** Lanes with a request open. */
  get openLanes(): number {
    return this.open;
  }

  /**
   * Submits an operation on an idle lane. The bytes are copied.
   * @param timeoutUs after which it ends with `unknown`, whole µs, which as an argument cost no allocation; Infinity: never
   */
  submit(lane: number, bytes: Uint8Array, offset: number, length: number, timeoutUs: number, now: Instant): void {
    this.accept(lane, bytes, offset, length);
    this.counters[ClientCounter.submitted]!++;
    this.begin(lane, State.write, timeoutUs, now);
  }

  /** A quorum read: one round trip and no entry in the log; where members' logs differ it is submitted as an operation instead. */
  read(lane: number, bytes: Uint8Array, offset: number, length: number, timeoutUs: number, now: Instant): void {
    this.accept(lane, bytes, offset, length);
    this.counters[ClientCounter.reads]!++;
    this.begin(lane, State.read, timeoutUs, now);
  }

  /** Ends the wait for a lane's request: its outcome is unknown. Does nothing on an idle lane. */
  cancel(lane: number): void {
    if (this.state[lane] !== State.idle) this.complete(lane, Outcome.unknown, 0);
  }

  /** The result's bytes, from 0 to `resultLength`; valid until the next submit on the lane. */
  resultBytes(lane: number): Uint8Array {
    return this.results.bytes(lane);
  }

  resultLength(lane: number): number {
    return this.results.length(lane);
  }

  /** Monotonic µs at which `tick` should be called next. */
  get wakeAtUs(): number {
    return this.earliestUs;
  }

  /** Takes one message that has passed `validate`, from the replica that the envelope names. */
  receive(bytes: Uint8Array, offset: number, length: number, from: number, now: Instant): void {
    if (from >= this.n || length === 0) return;
    const type = typeOf(bytes, offset);
    if (this.lists.refuses(type, bytes, offset, from)) {
      if (this.taughtBy === from) this.unlearnView(now);
      return;
    }
    this.hearing.heard(from, now);
    const known = type as TypesFor<'client'>;
    switch (known) {
      case wire.Reply.type:
        this.onReply(bytes, offset, from, now);
        return;
      case wire.Reject.type:
        this.onReject(bytes, offset, from, now);
        return;
      case wire.ReadReply.type:
        this.onReadReply(bytes, offset, from, now);
        return;
      case wire.ProbeReply.type: {
        const at = wire.ProbeReply.at;
        const bit = 1 << from;
        this.majorityLost =
          (bytes[offset + at.condition]! & wire.ReplicaCondition.majorityLost) !== 0
            ? this.majorityLost | bit
            : this.majorityLost & ~bit;
        if (bytes[offset + at.status] === ReplicaStatus.normal)
          this.learnView(readI32(bytes, offset + at.view), from, now);
        return;
      }
      default:
        known satisfies never; // each message for a client has its case; others are ignored
    }
  }

  /** The operating system at a replica says that nobody listens there. Where requests need it, the others are asked at once what to do without it. */
  unreachable(replica: number, now: Instant): void {
    this.counters[ClientCounter.unreachable]!++;
    if (
      this.open === 0 ||
      !this.views.isMember(this.view, replica) ||
      now.monotonicUs - this.lastProbeUs < this.config.timings.retryUs
    )
      return;
    this.askForView(true, now);
  }

  tick(now: Instant): void {
    if (now.monotonicUs < this.earliestUs) return;
    this.earliestUs = Infinity;
    this.lead.tick(now.monotonicUs);
    if (this.registration.atUs <= now.monotonicUs) this.beginRegistration(now);
    else this.earliestUs = this.registration.atUs;
    for (let slot = 0; slot <= this.lanes; slot++) {
      if (this.state[slot] === State.idle) continue;
      if (this.deadlineUs[slot]! <= now.monotonicUs) {
        this.complete(slot, Outcome.unknown, 0);
        continue;
      }
      if (this.dueUs[slot]! <= now.monotonicUs) this.again(slot, now);
      if (this.reconcileUs[slot]! <= now.monotonicUs) {
        this.ordering[slot] = 0;
        this.reconcileUs[slot] = Infinity;
        this.settle(slot, now);
      }
      this.wakeFor(slot);
    }
  }

  private accept(lane: number, bytes: Uint8Array, offset: number, length: number): void {
    invariant(
      lane >= 0 && lane < this.lanes && this.state[lane] === State.idle,
      'a request is submitted on an idle lane',
    );
    invariant(length <= this.config.limits.operationBytes, 'an operation keeps within the limit');
    this.operations.put(lane, this.submitted.of(bytes), offset, length);
  }

  private begin(slot: number, state: number, timeoutUs: number, now: Instant): void {
    this.state[slot] = state;
    this.open++;
    // Lanes that nobody replaces in time: the session is used up, rather than that a number comes twice.
    if (++this.request[slot]! >= this.wornAt) this.wear(slot, now);
    this.attempts[slot] = 0;
    this.repeated[slot] = 0;
    this.timestamps.margins.clear(slot);
    this.pace[slot] = Pace.one;
    this.flags[slot] = slot === this.lanes ? RequestFlag.register : state === State.read ? RequestFlag.query : 0;
    this.deadlineUs[slot] = now.monotonicUs + timeoutUs;
    this.sentUs[slot] = now.monotonicUs;
    this.forget(slot);
    if (this.sessionLost) {
      // Ends at the next tick, not here: a completion may submit again.
      this.deadlineUs[slot] = now.monotonicUs;
      this.dueUs[slot] = Infinity;
      this.wakeFor(slot);
      return;
    }
    if (state === State.write) this.timestamps.stamp(slot, this.lead.leadNs, now);
    this.send(slot, now);
  }

  /** A lane is near, or at, the end of its numbers. */
  private wear(slot: number, now: Instant): void {
    this.worn = true;
    if (this.request[slot]! <= this.requestsMax) return;
    this.request[slot] = this.requestsMax;
    this.loseSession(now);
  }

  /** Nothing of an earlier view or request counts. */
  private forget(slot: number): void {
    this.acks.clear(slot);
    this.rejectedMask[slot] = 0;
    this.askedMask[slot] = 0;
    this.ordering[slot] = 0;
    this.reconcileUs[slot] = Infinity;
  }

  /** A reply or reject to the present timestamp of `slot`: what it says of the replica's clock and the way there. */
  private heardSlack(from: number, slot: number, slackUs: number, now: Instant): void {
    this.lead.heard(from, slackUs);
    // Sent twice, nobody knows which one the slack is of.
    if (this.repeated[slot] === 0) this.clock.heard(from, slot, slackUs, now);
  }

  /** Sends the request to every member of the view. */
  private send(slot: number, now: Instant): void {
    const { view } = this;
    const message = this.state[slot] === State.read ? wire.Read : wire.Request;
    // The primary last: its reply carries the result, and the others' are on their way by then.
    this.sender.request(
      message,
      this.views.memberMask(view),
      this.views.primary(view),
      view,
      slot,
      this.wireLane(slot),
      this.request[slot]!,
      this.flags[slot]!,
      this.timestamps.hi[slot]!,
      this.timestamps.lo[slot]!,
    );
    this.scheduleRetry(slot, now);
  }

  private sendReconcile(slot: number, replica: number): void {
    const { acks } = this;
    if (
      !this.sender.reconcile(
        replica,
        this.view,
        this.wireLane(slot),
        this.request[slot]!,
        acks.primaryIndex(slot),
        acks.primaryChainHi(slot),
        acks.primaryChainLo(slot),
      )
    )
      return;
    this.counters[ClientCounter.reconciled]!++;
    if (this.pace[slot] !== Pace.more) this.pace[slot] = Pace.reconciled;
  }

  private wireLane(slot: number): number {
    return slot === this.lanes ? REGISTER_LANE : slot;
  }

  /** The slot that a message of our session speaks of, when its request is the open one and in this state; else −1. */
  private slotOf(message: DataView, sessionAt: number, laneAt: number, requestAt: number): number {
    if (
      message.getInt32(sessionAt) !== this.config.sessionHi ||
      message.getInt32(sessionAt + 4) !== this.config.sessionLo
    )
      return -1;
    const lane = message.getUint16(laneAt);
    const slot = lane === REGISTER_LANE ? this.lanes : lane < this.lanes ? lane : -1;
    if (slot < 0 || this.state[slot] === State.idle || message.getInt32(requestAt) !== this.request[slot]) return -1;
    return slot;
  }

  private onReply(bytes: Uint8Array, o: number, from: number, now: Instant): void {
    const at = wire.Reply.at;
    const reply = this.received.of(bytes);
    const slot = this.slotOf(reply, o + at.session, o + at.lane, o + at.request);
    const view = reply.getInt32(o + at.view);
    if (slot < 0 || this.state[slot] !== State.write || view < this.view) return;
    if (view > this.view) this.learnView(view, from, now);
    if (!this.views.isMember(view, from)) return;
    const index = indexAt(reply, o + at.index);
    const chainHi = reply.getInt32(o + at.chain);
    const chainLo = reply.getInt32(o + at.chain + 4);
    const timestampLo = reply.getInt32(o + at.timestamp + 4);
    const ordered = reply.getUint8(o + at.ordered);
    const isPrimary = from === this.views.primary(view);
    // What a member acknowledges by the primary's order says nothing of the way from here to it.
    if (isPrimary || ordered === 0) {
      if (timestampLo === this.timestamps.lo[slot]) this.heardSlack(from, slot, reply.getInt32(o + at.slack), now);
      else this.lead.heard(from, reply.getInt32(o + at.slack));
    }
    if (isPrimary) {
      if (!this.acks.hasPrimary(slot)) {
        this.results.put(slot, reply, o + wire.Reply.size, reply.getUint16(o + at.result));
        this.resultStatus[slot] = reply.getUint8(o + at.status);
        this.acks.setPrimary(slot, index, chainHi, chainLo);
        this.ordering[slot] = ordered;
        this.timestamps.learn(slot, reply.getInt32(o + at.timestamp), timestampLo);
      }
    } else {
      this.acks.add(slot, from, index, chainHi, chainLo);
      if (ordered === 1) this.differed(slot);
    }
    this.settle(slot, now);
  }

  /** A member did not have the request where the primary has it, or not at once. */
  private differed(slot: number): void {
    if (this.pace[slot] !== Pace.one) return;
    this.pace[slot] = Pace.oneAndAHalf;
    this.lead.missed();
  }

  /** Commits the request of a slot when the rule holds; asks members that differ to reconcile. */
  private settle(slot: number, now: Instant): void {
    const mask = this.views.memberMask(this.view);
    if (!this.acks.hasPrimary(slot) || (mask & this.lists.mask) !== 0) return;
    const primary = this.views.primary(this.view);
    const missing = this.acks.missing(slot, mask & ~(1 << primary));
    if (missing === 0) {
      this.commit(slot, now);
      return;
    }
    for (let r = 0; r < this.n; r++) {
      const bit = 1 << r;
      if ((missing & bit) === 0 || (this.askedMask[slot]! & bit) !== 0) continue;
      if ((this.rejectedMask[slot]! & bit) === 0 && !this.acks.differs(slot, r)) continue;
      this.differed(slot);
      if (this.ordering[slot] === 1) {
        this.awaitOrder(slot, now);
        continue;
      }
      this.askedMask[slot]! |= bit;
      this.sendReconcile(slot, r);
    }
  }

  /** The primary's order is on its way to the member, which is asked only when that has had time. */
  private awaitOrder(slot: number, now: Instant): void {
    if (this.reconcileUs[slot] !== Infinity) return;
    this.reconcileUs[slot] = now.monotonicUs + Math.max(this.retries.longestUs, ORDER_PATIENCE_US);
    this.wakeFor(slot);
  }

  private commit(slot: number, now: Instant): void {
    const status = this.resultStatus[slot]!;
    this.committedUs = now.monotonicUs;
    this.hearing.settled();
    if (this.repeated[slot] === 0) this.retries.committed(this.sentUs, slot, now);
    else this.retries.committedAgain(this.sentUs, slot, now);
    if (this.pace[slot] === Pace.one) this.lead.committedFast(this.sentUs, slot, now);
    if (slot === this.lanes) {
      this.finish(slot);
      this.registered = status === ReplyStatus.ok;
      this.registration.registered(now);
      this.events.registered(status);
      return;
    }
    if (status === ReplyStatus.ok) {
      this.counters[ClientCounter.commits]!++;
      if (this.pace[slot] === Pace.one) this.counters[ClientCounter.commits_fast]!++;
      else if (this.pace[slot] === Pace.oneAndAHalf) this.counters[ClientCounter.commits_ordered]!++;
      else if (this.pace[slot] === Pace.reconciled) this.counters[ClientCounter.commits_reconciled]!++;
      this.complete(slot, Outcome.committed, status);
    } else if (status === ReplyStatus.sessionUnknown) {
      this.loseSession(now);
    } else {
      this.complete(slot, Outcome.refused, status);
    }
  }

  private onReject(bytes: Uint8Array, o: number, from: number, now: Instant): void {
    const at = wire.Reject.at;
    const slot = this.slotOf(this.received.of(bytes), o + at.session, o + at.lane, o + at.request);
    if (slot < 0) return;
    const reason = bytes[o + at.reason]! as RejectReasonCode;
    const view = readI32(bytes, o + at.view);
    if (reason === RejectReason.wrongView) {
      this.counters[CLIENT_REJECT_COUNTERS[reason]!]!++;
      this.learnView(view, from, now);
      return;
    }
    if (this.state[slot] !== State.write || view !== this.view) return;
    const primary = this.views.primary(view);
    // Only what is said of the present timestamp; an older one was given up already.
    if (!this.timestamps.isPresent(slot, readI32(bytes, o + at.timestamp), readI32(bytes, o + at.timestamp + 4)))
      return;
    this.counters[CLIENT_REJECT_COUNTERS[reason]!]!++;
    if (reason !== RejectReason.late || from === primary) this.pace[slot] = Pace.more;
    const lastHi = readI32(bytes, o + at.lastTimestamp);
    const lastLo = readI32(bytes, o + at.lastTimestamp + 4);
    switch (reason) {
      case RejectReason.late:
        this.heardSlack(from, slot, readI32(bytes, o + at.slack), now);
        if (from !== primary) {
          this.differed(slot);
          this.rejectedMask[slot]! |= 1 << from;
          this.settle(slot, now);
          return;
        }
        if (this.acks.hasPrimary(slot)) {
          // The primary had the registration and no longer knows it: the session was evicted before all members had answered.
          if (slot === this.lanes) this.complete(slot, Outcome.refused, ReplyStatus.sessionTaken);
          return;
        }
        this.lead.missed();
        if (slot === this.lanes) this.timestamps.margins.late(slot);
        this.timestamps.late(slot, lastHi, lastLo, readI32(bytes, o + at.slack), now);
        if (slot === this.lanes && this.registration.isOldFor(lastHi, lastLo)) {
          this.refuseRegistration(lastHi, lastLo);
          return;
        }
        this.restamp(slot, now);
        return;
      case RejectReason.tooFarAhead: {
        if (from !== primary) {
          // One member's clock. Ours is wrong when the primary says so.
          this.rejectedMask[slot]! |= 1 << from;
          this.settle(slot, now);
          return;
        }
        if (this.acks.hasPrimary(slot)) return;
        // The cluster's time counts: what the primary's clock says, or its log where that is ahead, replaces ours from here on.
        this.timestamps.tooFarAhead(slot, this.lead.leadNs, lastHi, lastLo);
        // A Register may not go back in time (sessions.ts): the next session starts with what was learnt.
        if (slot === this.lanes) this.refuseRegistration(lastHi, lastLo);
        else this.restamp(slot, now);
        return;
      }
      case RejectReason.sessionUnknown:
        if (from === primary) this.loseSession(now);
        else this.rejectedMask[slot]! |= 1 << from;
        return;
      case RejectReason.badRequest:
        if (from === primary) this.complete(slot, Outcome.refused, ReplyStatus.badRequest);
        return;
      case RejectReason.busy:
      case RejectReason.notInQuorum:
        return; // it is sent again when the wait for an answer is over
      default:
        reason satisfies never; // each reason has its case; one of a later version is only counted, as unknown
    }
  }

  /** Ends the registration; the next session starts from what the cluster takes for now. */
  private refuseRegistration(hi: number, lo: number): void {
    this.registration.bearNextAbove(hi, lo);
    this.complete(this.lanes, Outcome.refused, ReplyStatus.sessionTaken);
  }

  private restamp(slot: number, now: Instant): void {
    this.counters[ClientCounter.restamped]!++;
    this.timestamps.stamp(slot, this.lead.leadNs, now);
    this.rejectedMask[slot] = 0;
    this.askedMask[slot] = 0;
    this.send(slot, now);
  }

  private onReadReply(bytes: Uint8Array, o: number, from: number, now: Instant): void {
    const at = wire.ReadReply.at;
    const slot = this.slotOf(this.received.of(bytes), o + at.session, o + at.lane, o + at.request);
    const view = readI32(bytes, o + at.view);
    if (slot < 0 || this.state[slot] !== State.read || view !== this.view || !this.views.isMember(view, from)) return;
    const index = readIndex(bytes, o + at.lastIndex);
    const chainHi = readI32(bytes, o + at.lastChain);
    const chainLo = readI32(bytes, o + at.lastChain + 4);
    const primary = this.views.primary(view);
    if (from === primary) {
      this.results.put(slot, this.received.of(bytes), o + wire.ReadReply.size, readU16(bytes, o + at.result));
      this.acks.setPrimary(slot, index, chainHi, chainLo);
    } else {
      this.acks.add(slot, from, index, chainHi, chainLo);
    }
    const mask = this.views.memberMask(view);
    if (!this.acks.hasPrimary(slot) || (mask & this.lists.mask) !== 0) return;
    const missing = this.acks.missing(slot, mask & ~(1 << primary));
    for (let r = 0; r < this.n; r++) if (((missing >>> r) & 1) === 1 && !this.acks.differs(slot, r)) return;
    if (missing === 0) {
      this.counters[ClientCounter.reads_fast]!++;
      this.complete(slot, Outcome.committed, ReplyStatus.ok);
    } else {
      this.readThroughLog(slot, now);
    }
  }

  /** Logs differ, or someone is silent: the read becomes an operation, under a new number. */
  private readThroughLog(slot: number, now: Instant): void {
    this.state[slot] = State.write;
    this.request[slot]!++;
    this.timestamps.margins.clear(slot);
    this.pace[slot] = Pace.more;
    this.forget(slot);
    this.timestamps.stamp(slot, this.lead.leadNs, now);
    this.send(slot, now);
  }

  /** A higher view runs, or is about to: everything open is sent again in it. */
  private learnView(view: number, from: number, now: Instant): void {
    if (view <= this.view) return;
    this.taughtBy = from;
    this.enterView(view, now);
  }

  /** A replica that is not heard any more said that this view runs: a number of views that are not the cluster's. The others say which one does. */
  private unlearnView(now: Instant): void {
    this.taughtBy = -1;
    this.enterView(0, now);
    this.askForView(false, now);
  }

  private enterView(view: number, now: Instant): void {
    this.view = view;
    this.lead.forget();
    this.counters[ClientCounter.view_changes]!++;
    for (let slot = 0; slot <= this.lanes; slot++) {
      if (this.state[slot] === State.idle || this.sessionLost) continue;
      this.forget(slot);
      this.pace[slot] = Pace.more;
      this.attempts[slot] = 0;
      this.repeated[slot] = 0;
      this.sentUs[slot] = now.monotonicUs;
      this.send(slot, now);
    }
  }

  /** No answer, or not enough of them, in time. */
  private again(slot: number, now: Instant): void {
    const { retries } = this;
    this.attempts[slot]!++;
    // As long as others commit, the view is not what is wrong.
    const silent = now.monotonicUs - this.committedUs >= retries.waitUs(0);
    if (
      silent &&
      this.attempts[slot]! > PROBE_AFTER &&
      now.monotonicUs - this.lastProbeUs >= this.config.timings.retryUs
    )
      this.askForView(this.attempts[slot]! > PLEA_AFTER, now);
    if (!retries.spend(now.monotonicUs)) {
      this.scheduleRetry(slot, now);
      return;
    }
    this.pace[slot] = Pace.more;
    this.repeated[slot] = 1;
    this.counters[ClientCounter.retransmitted]!++;
    if (this.state[slot] === State.read) {
      this.readThroughLog(slot, now);
      return;
    }
    this.askedMask[slot] = 0;
    this.ordering[slot] = 0;
    this.send(slot, now);
    this.settle(slot, now);
  }

  private askForView(plead: boolean, now: Instant): void {
    this.lastProbeUs = now.monotonicUs;
    askReplicas(this.outbox, this.n, this.view, plead, this.hearing.asked(now, this.retries.longestUs), this.counters);
  }

  private scheduleRetry(slot: number, now: Instant): void {
    this.jitter.step();
    this.dueUs[slot] = now.monotonicUs + this.retries.waitUs(this.attempts[slot]!) * (1 + 0.25 * this.jitter.value[0]!);
    this.wakeFor(slot);
  }

  private wakeFor(slot: number): void {
    const at = Math.min(this.dueUs[slot]!, this.deadlineUs[slot]!, this.reconcileUs[slot]!);
    if (at < this.earliestUs) this.earliestUs = at;
  }

  private loseSession(now: Instant): void {
    if (this.sessionLost) return;
    this.sessionLost = true;
    this.registration.lost(now);
    this.counters[ClientCounter.session_lost]!++;
    for (let slot = 0; slot <= this.lanes; slot++) {
      if (this.state[slot] === State.idle) continue;
      this.dueUs[slot] = Infinity;
      this.deadlineUs[slot] = now.monotonicUs;
      this.wakeFor(slot);
    }
  }

  private complete(slot: number, outcome: number, status: number): void {
    const fast = this.pace[slot] === Pace.one;
    const ending = outcome === Outcome.unknown && this.sessionLost ? Outcome.sessionLost : outcome;
    if (ending === Outcome.unknown) this.counters[ClientCounter.unknown]!++;
    if (ending === Outcome.refused) this.counters[ClientCounter.refused]!++;
    this.finish(slot);
    if (slot === this.lanes) this.events.registered(status === ReplyStatus.ok ? ReplyStatus.sessionUnknown : status);
    else this.events.completed(slot, ending, status, fast);
  }

  private finish(slot: number): void {
    this.state[slot] = State.idle;
    this.open--;
    this.dueUs[slot] = Infinity;
    this.reconcileUs[slot] = Infinity;
    this.deadlineUs[slot] = Infinity;
  }
}
