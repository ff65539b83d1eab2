/**
 * The round of probes of a replica that asks who is alive: what the others answered, and what their hosts say. May be changed
 * freely.
 *
 * If the process at an address is gone, its host says so (ICMP). That finds a dead process sooner than its silence does, but
 * anyone can forge it. So it counts only when it came after the round was sent, and instead of an answer. A replica that is
 * left as gone and then answers that very round was alive: the report was false, and for a while no such report is believed.
 */
import { DOUBLE_ZERO } from '../../double-zero.js';
import { ProbeReply, ReplicaCondition, ReplicaStatus } from '../../../wire/messages.js';
import { readI32, readIndex } from '../../../wire/u64.js';
import { SLOTS } from '../../configuration.js';
import type { Instant } from '../../contract.js';
import { lowest } from '../../masks.js';
import { Experience } from './experience.js';
import type { ReplicaState } from '../replica-state.js';

/** What another replica said of itself in answer to the round. */
export interface Answer {
  readonly view: number;
  readonly status: number;
  readonly heardPrimary: boolean;
  readonly starting: boolean;
  readonly lastIndex: number;
}

/** False reports of hosts that count: after each, ten minutes have to pass without another one until hosts are believed. */
const FORGERIES_MAX = 3;

export class ProbeRound {
  readonly answers = new Map<number, Answer>();
  /** Monotonic µs at which it was sent. */
  sentUs = -Infinity;
  private nonce: number;
  /** When the host of each replica last said that no process listens there. */
  private readonly saidUs: Float64Array;
  private readonly forgeries = new Experience(FORGERIES_MAX);
  private believesHosts = true;
  /** The replicas that a view was last asked for without; a mask. */
  private accused = 0;
  /** Since when the replicas had been silent that a view was last asked for without. */
  accusedSinceUs = DOUBLE_ZERO;
  /** Their hosts said that they are gone. */
  accusedGone = false;

  constructor(private readonly state: ReplicaState) {
    // A different number in each life, so that answers to the probes of an earlier life do not count in this one.
    this.nonce = state.config.seed & 0x3fffffff;
    this.saidUs = new Float64Array(SLOTS).fill(-Infinity);
  }

  /** Begins another round; returns its nonce. */
  begin(): number {
    this.nonce = (this.nonce + 1) & 0x7fffffff || 1;
    this.answers.clear();
    return this.nonce;
  }

  /** The ProbeReply at `bytes[o]` answers this round, whether or not the round is over. */
  isAnswer(bytes: Uint8Array, o: number): boolean {
    return readI32(bytes, o + ProbeReply.at.nonce) === this.nonce;
  }

  take(bytes: Uint8Array, o: number, from: number): void {
    const { at } = ProbeReply;
    this.answers.set(from, {
      view: readI32(bytes, o + at.view),
      status: bytes[o + at.status]!,
      heardPrimary: bytes[o + at.heardPrimary] === 1,
      starting: (bytes[o + at.condition]! & ReplicaCondition.starting) !== 0,
      lastIndex: readIndex(bytes, o + at.lastIndex),
    });
  }

  tick(now: Instant): void {
    this.believesHosts = this.forgeries.at(now) === 0;
  }

  hostSays(replica: number, now: Instant): void {
    this.saidUs[replica] = now.monotonicUs;
  }

  /** A replica that counted as gone has answered. */
  wasForged(now: Instant): void {
    this.forgeries.changed(now);
    this.believesHosts = false;
  }

  /** Its host said after the round was sent that no process listens there, and it did not answer. */
  isGone(replica: number): boolean {
    return this.believesHosts && this.saidUs[replica]! > this.sentUs && !this.answers.has(replica);
  }

  /** A member of the present view is gone. */
  someoneGone(): boolean {
    return this.goneMembers() !== 0;
  }

  /** Each of the others has answered or is gone. */
  allAnswered(): boolean {
    const { state } = this;
    for (let rest = state.hosts.others; rest !== 0; rest &= rest - 1) {
      const r = lowest(rest);
      if (!this.answers.has(r) && !this.isGone(r)) return false;
    }
    return true;
  }

  /** Replicas that answered; a mask. */
  alive(): number {
    let mask = 0;
    for (const r of this.answers.keys()) mask |= 1 << r;
    return mask;
  }

  /** Replicas that answered and have a log; a mask. */
  withLog(): number {
    let mask = 0;
    for (const [r, { status }] of this.answers) if (status !== ReplicaStatus.recovering) mask |= 1 << r;
    return mask;
  }

  /** Replicas that answered and have a log of that many entries; a mask. */
  keepingUp(entries: number): number {
    let mask = 0;
    for (const [r, { status, lastIndex }] of this.answers)
      if (status !== ReplicaStatus.recovering && lastIndex >= entries) mask |= 1 << r;
    return mask;
  }

  /** The highest view that one of these replicas named; −1: none answered. */
  highest(among: number): number {
    let highest = -1;
    for (const [r, { view }] of this.answers) if (((among >>> r) & 1) === 1) highest = Math.max(highest, view);
    return highest;
  }

  /** A replica runs `view`, and hears its primary, which is another one. */
  isHeardPrimary(view: number): boolean {
    for (const [r, answer] of this.answers)
      if (
        answer.view === view &&
        answer.status === ReplicaStatus.normal &&
        answer.heardPrimary &&
        r !== this.state.views.primary(view)
      )
        return true;
    return false;
  }

  /** The highest view that a replica says it takes part in; −1: there is none. */
  highestNormal(): number {
    let highest = -1;
    for (const { status, view } of this.answers.values())
      if (status === ReplicaStatus.normal) highest = Math.max(highest, view);
    return highest;
  }

  /**
   * A view is asked for because of this round: without the replicas that are gone, or else without `silent`.
   * @param sinceUs when the silent ones were last heard
   */
  accuse(silent: number, sinceUs: number): void {
    const gone = silent === 0 ? 0 : this.goneMembers();
    this.accusedGone = gone !== 0;
    this.accused = this.accusedGone ? gone : silent;
    this.accusedSinceUs = sinceUs;
  }

  /** An answer came after the round. True the first time, if a view was asked for without that replica. */
  acquits(replica: number): boolean {
    if (((this.accused >>> replica) & 1) === 0) return false;
    this.accused = 0;
    return true;
  }

  private goneMembers(): number {
    const { state } = this;
    let mask = 0;
    for (let rest = state.views.memberMask(state.view) & ~(1 << state.id); rest !== 0; rest &= rest - 1)
      if (this.isGone(lowest(rest))) mask |= rest & -rest;
    return mask;
  }
}
