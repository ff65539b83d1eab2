/**
 * Compares the states of replicas behind equal logs, and the limits that decide what is executed.
 *
 * Digests are those of snapshots that this replica took of its own execution, at indexes that all replicas choose alike
 * (log-capacity.ts). An installed snapshot would only echo its source, and so would everything that follows from it: of
 * two replicas that differ, the one from which a third was filled would get a majority that way. So after an installation
 * a replica says nothing of its own. It asks the others what they have at each index, until all of them have agreed at
 * one, or none has contradicted it for a while (they may be as mute as it is), or f + 1 have contradicted it and it stops.
 * This muteness is kept with the log, because a restart does not make a state its own.
 *
 * Digests are XXH3-64, unkeyed: they guard against accidents, which do not search for collisions. A client cannot cause
 * different states in the first place: it would need two operations under one chain, and the chain prevents that.
 *
 * A digest names the log that it belongs to, so a recording of it is still true when it is replayed. Limits do not: an
 * operator may have changed them since. So limits count only in an answer to this replica's own question, which carries
 * a number drawn for it. Limits that come without it are only a reason to ask.
 */
import { readI32, toHex } from '../../wire/u64.js';
import { SLOTS } from '../configuration.js';
import type { Hasher, Instant, Snapshot } from '../contract.js';
import { Counter } from '../counters.js';
import { DOUBLE_ZERO } from '../double-zero.js';
import { count, lowest } from '../masks.js';
import {
  areComparable,
  comparedPart,
  type DigestAt,
  DigestsHeard,
  INDEXES_KEPT,
  limitsDigest,
} from './digests-heard.js';
import { DivergedError, OTHERS_GO_ON } from './diverged-error.js';
import { writeDigest } from '../log/snapshots.js';
import { compareLimits } from './limits-digest.js';
import type { ReplicaState } from './replica-state.js';
import type { Sender } from './replica-sender.js';

/**
 * If no digest for an index was heard, this replica repeats its own and asks again: this many times, with doubling
 * pauses. A digest that is asked for is sent once.
 */
const REPEATS = 5;
/**
 * A state from another replica counts as the own one when no replica has contradicted it for this many suspicion times.
 */
const QUIET = 64;

/** What this replica itself has at one index, and what was heard about it. */
interface Own extends DigestAt {
  /** Replicas that have said something of this index; a mask, as the next two. */
  heard: number;
  /** Replicas that said the same. */
  agreed: number;
  /** Replicas that said something else. */
  differed: number;
  /** Not said, only asked about: the state is another replica's. */
  readonly isEcho: boolean;
  repeats: number;
  repeatUs: number;
}

export class StateDigests {
  /** Replicas that differ from this one, as far as it knows, in the state behind equal logs; a mask. */
  states = 0;
  /** Replicas that differ from this one in the limits; a mask. */
  limits = 0;

  private readonly own: Own[] = [];
  /** When the next question is repeated, monotonic µs; kept, because it is looked up at the end of every turn. */
  private repeatUs = Infinity;
  private readonly heard: DigestsHeard;
  /** The value of `Execution.installs` at the last snapshot. */
  private installs = 0;
  /** The last index that was compared, but not said, since the state came from another replica; undefined: none. */
  private echo: Own | undefined;
  /** Since when no replica has contradicted that state, monotonic µs. */
  private quietUs = DOUBLE_ZERO;
  /** Replicas already named as being in the wrong; a mask. */
  private decided = 0;
  /** It was found that this replica is in the wrong. */
  private isWrong = false;
  /** Of the last question about limits; never 0. */
  private nonce: number;
  /** When that was asked, monotonic µs. */
  private askedUs = DOUBLE_ZERO;
  /** Index at which the state of each replica was last found to differ. */
  private readonly differedAt: Float64Array;
  private readonly digest = new Uint8Array(8);

  /** @param stops called when a quorum of the voters shares another state, or other limits, than this replica has */
  constructor(
    private readonly state: ReplicaState,
    private readonly sender: Sender,
    private readonly hasher: Hasher,
    private readonly stops: (error: DivergedError, now: Instant) => void,
  ) {
    this.heard = new DigestsHeard(SLOTS);
    this.differedAt = new Float64Array(SLOTS).fill(-1);
    // A different number in each life, so that answers to an earlier life do not count in this one.
    this.nonce = (state.config.seed ^ 0x51ed270b) & 0x7fffffff || 1;
  }

  /** A life begins: says what the limits are. */
  start(now: Instant): void {
    this.say(limitsDigest(this.state.config.limits, this.state.config.features ?? 0), false, now);
  }

  /** Ends a turn: a snapshot of this replica's own may have become stable in it. */
  flush(now: Instant): void {
    const { execution } = this.state;
    const snapshot = execution.comparable;
    if (snapshot === undefined) return;
    execution.comparable = undefined;
    this.took(snapshot, now);
  }

  wakeBefore(out: Float64Array): void {
    if (this.repeatUs < out[0]!) out[0] = this.repeatUs;
  }

  tick(now: Instant): void {
    if (now.monotonicUs < this.repeatUs) return;
    for (const own of this.own) {
      if (now.monotonicUs < own.repeatUs || !this.isOpen(own)) continue;
      own.repeats++;
      own.repeatUs = now.monotonicUs + this.pauseUs(own.repeats);
      this.ask(own, now);
    }
    this.findRepeat();
  }

  /** Another host has that slot: what was heard from there is of the one before. */
  forget(slot: number): void {
    const others = ~(1 << slot);
    this.states &= others;
    this.limits &= others;
    this.decided &= others;
    this.differedAt[slot] = -1;
    this.heard.forget(slot);
    for (const own of this.own) {
      own.heard &= others;
      own.agreed &= others;
      own.differed &= others;
    }
    this.findRepeat();
  }

  /** What this replica has at an index that it still compares with the others. */
  at(index: number): DigestAt | undefined {
    return index === 0 ? undefined : this.own.find((one) => one.index === index);
  }

  /**
   * @param asks replica `from` asks for what this one has
   * @param nonce of its question, or of the question that it answers
   */
  take(from: number, said: DigestAt, asks: boolean, nonce: number, now: Instant): void {
    const own = this.own.find(({ index }) => index === said.index);
    if (asks && own !== undefined && !own.isEcho) this.send(from, own, false, nonce);
    if ((said.digestHi | said.digestLo) === 0) return;
    if (said.index === 0 && (asks || nonce !== this.nonce)) {
      if (own !== undefined) this.doubt(own, from, said, now);
      return;
    }
    this.heard.take(from, said);
    if (own === undefined) return;
    own.heard |= 1 << from;
    this.findRepeat();
    this.judge(own, now);
  }

  /** Replica `from` may have these limits, or may have had them once. If that is news, it will be asked. */
  private doubt(own: Own, from: number, said: DigestAt, now: Instant): void {
    const known = this.heard.of(from, 0);
    if (known !== undefined && comparedPart(known) === comparedPart(said)) return;
    own.heard &= ~(1 << from);
    if (own.repeats >= REPEATS) own.repeats = REPEATS - 1;
    own.repeatUs = Math.min(own.repeatUs, Math.max(now.monotonicUs, this.askedUs + this.pauseUs(0)));
    this.findRepeat();
  }

  private took(snapshot: Snapshot, now: Instant): void {
    const { state, echo } = this;
    const { installs } = state.execution;
    // What was compared before an installation was another state.
    if (echo === undefined || installs !== this.installs || echo.differed !== 0) this.quietUs = now.monotonicUs;
    else if (this.isHeard(echo) || now.monotonicUs - this.quietUs >= QUIET * state.config.timings.suspectUs)
      state.ownState();
    this.installs = installs;
    writeDigest(snapshot, this.hasher, this.digest, 0);
    const { index, chainHi, chainLo } = snapshot;
    const { isEcho } = state;
    const digestHi = readI32(this.digest, 0);
    const digestLo = readI32(this.digest, 4);
    const own = this.say({ index, chainHi, chainLo, digestHi, digestLo }, isEcho, now);
    this.echo = isEcho ? own : undefined;
  }

  private say(said: DigestAt, isEcho: boolean, now: Instant): Own | undefined {
    const { state } = this;
    if (state.hosts.others === 0) return undefined;
    const own: Own = {
      ...said,
      heard: (1 << state.id) | this.heard.heardOf(said.index),
      agreed: 1 << state.id,
      differed: 0,
      isEcho,
      repeats: 0,
      repeatUs: now.monotonicUs + this.pauseUs(0),
    };
    this.own.push(own);
    while (this.own.length > INDEXES_KEPT + 1) this.own.splice(1, 1); // the first are the limits
    this.findRepeat();
    // The others may have said their limits long ago, so they are asked for them.
    if (isEcho) this.ask(own, now);
    else this.sendToAll(own, said.index === 0);
    this.judge(own, now);
    return own;
  }

  /** Compares what others said of an index with what this replica has. */
  private judge(own: Own, now: Instant): void {
    const { state } = this;
    /** Replicas by what they have in place of what this one has; masks. */
    const differing = new Map<string, number>();
    let agreeing = 1 << state.id;
    for (let rest = state.hosts.listed; rest !== 0; rest &= rest - 1) {
      const r = lowest(rest);
      const said = this.heard.of(r, own.index);
      if (said === undefined || !areComparable(own, said)) continue;
      if (comparedPart(said) === comparedPart(own)) {
        agreeing |= 1 << r;
        this.settle(own, r);
      } else {
        differing.set(comparedPart(said), (differing.get(comparedPart(said)) ?? 0) | (1 << r));
      }
    }
    for (const replicas of differing.values())
      if (state.configuration.hasQuorum(replicas)) this.stopBy(own, replicas, now);
    for (const replicas of differing.values())
      for (let rest = replicas; rest !== 0; rest &= rest - 1) this.differs(own, lowest(rest), agreeing);
  }

  private settle(own: Own, r: number): void {
    if (((own.agreed >>> r) & 1) === 1) return;
    own.agreed |= 1 << r;
    if (own.index === 0) {
      this.limits &= ~(1 << r);
      return;
    }
    this.state.counters[Counter.states_agreed]!++;
    if (own.index > this.differedAt[r]!) this.states &= ~(1 << r);
  }

  /**
   * Replica `r` differs. Said when it is found, and again when it becomes known which replica is in the wrong.
   * @param agreeing those that have the same as this one, itself included; a mask
   */
  private differs(own: Own, r: number, agreeing: number): void {
    const { configuration } = this.state;
    const isDecided = configuration.hasQuorum(agreeing);
    const known = own.index === 0 ? this.limits : this.states;
    const isNews = ((known >>> r) & 1) === 0 || (isDecided && ((this.decided >>> r) & 1) === 0);
    if (isDecided) this.decided |= 1 << r;
    else if (isNews) this.decided &= ~(1 << r);
    if (isNews) this.nameDifference(own, r, isDecided ? count(agreeing & configuration.voters) : 0);
    if (own.index === 0) {
      this.limits |= 1 << r;
      return;
    }
    if (((own.differed >>> r) & 1) === 0) this.state.counters[Counter.states_differed]!++;
    own.differed |= 1 << r;
    this.states |= 1 << r;
    this.differedAt[r] = Math.max(this.differedAt[r]!, own.index);
  }

  /** @param majority voters that have the same as this one, if that decides; otherwise 0 */
  private nameDifference(own: Own, r: number, majority: number): void {
    const said = this.heard.of(r, own.index)!;
    const id = this.state.hosts.idOf(r);
    const who =
      majority > 0
        ? `${majority} replicas agree with this one, so replica ${id} is in the wrong and stops itself`
        : 'which of them is in the wrong is not known, so none is stopped: look at both';
    if (own.index === 0)
      this.state.transition(
        'limits-differ',
        `from replica ${id}: ${compareLimits(own, said, `at replica ${id}`)}; ${who}`,
      );
    else
      this.state.transition(
        'state-diverged',
        `from replica ${id}: behind entry ${own.index}, chain ${toHex(own.chainHi, own.chainLo)}, the state here has digest ${toHex(own.digestHi, own.digestLo)} and there ${toHex(said.digestHi, said.digestLo)}; ${who}`,
      );
  }

  /** The replicas `replicas`, a quorum of voters among them, share something else than this one has. */
  private stopBy(own: Own, replicas: number, now: Instant): void {
    if (this.isWrong) return;
    this.isWrong = true;
    // A quorum shares another state, so what this one says gives no majority to its own state, wherever that came
    // from.
    if (own.isEcho) this.sendToAll(own, false);
    const others = this.state.hosts.namesOf(replicas);
    const first = lowest(replicas);
    const said = this.heard.of(first, own.index)!;
    this.stops(
      own.index === 0
        ? new DivergedError(
            'limits-differ',
            `this replica has other limits than replicas ${others}: ${compareLimits(own, said, 'there')}; limits decide what is executed, so give all replicas the same and start it again`,
          )
        : new DivergedError(
            'state-diverged',
            `the state of replica ${this.state.hosts.self} behind entry ${own.index}, chain ${toHex(own.chainHi, own.chainLo)}, has digest ${toHex(own.digestHi, own.digestLo)}, and that of replicas ${others}, behind the same log, ${toHex(said.digestHi, said.digestLo)}: ` +
              `its state machine is not deterministic or not the same, or its memory or disk is at fault. It must not serve that state again; ${OTHERS_GO_ON}`,
          ),
      now,
    );
  }

  /**
   * Asks the replicas that have said nothing of that index, and says what this replica has, if the state is its own.
   */
  private ask(own: Own, now: Instant): void {
    const { state } = this;
    if (own.index === 0) {
      this.nonce = (this.nonce + 1) & 0x7fffffff || 1;
      this.askedUs = now.monotonicUs;
    }
    for (let rest = state.hosts.listed & ~own.heard; rest !== 0; rest &= rest - 1) {
      const r = lowest(rest);
      if (own.isEcho) this.sender.stateDigest(r, own.index, own.chainHi, own.chainLo, 0, 0, true, 0);
      else this.send(r, own, true);
    }
  }

  private sendToAll(own: Own, asks: boolean): void {
    for (let rest = this.state.hosts.others; rest !== 0; rest &= rest - 1) this.send(lowest(rest), own, asks);
  }

  /** @param nonce of the question that this answers */
  private send(to: number, own: Own, asks: boolean, nonce = this.nonce): void {
    this.sender.stateDigest(to, own.index, own.chainHi, own.chainLo, own.digestHi, own.digestLo, asks, nonce);
  }

  private findRepeat(): void {
    this.repeatUs = Infinity;
    for (const own of this.own) if (this.isOpen(own)) this.repeatUs = Math.min(this.repeatUs, own.repeatUs);
  }

  private isOpen(own: Own): boolean {
    return own.repeats < REPEATS && !this.isHeard(own);
  }

  /** All others have said something of that index. */
  private isHeard(own: Own): boolean {
    return (this.state.hosts.listed & ~own.heard) === 0;
  }

  private pauseUs(repeats: number): number {
    return 2 * this.state.config.timings.suspectUs * 2 ** repeats;
  }
}
