/**
 * The round of probes of a replica that wants to know who is alive: what the others answered, and what their hosts say.
 *
 * A host says that nobody listens at an address (ICMP) when the process there is gone. That finds a dead process sooner than any
 * silence does, but anybody can forge it. So it counts only when it came since the round was sent and instead of an answer. A
 * replica that is left as gone and then answers that very round was alive: the word was false, and for a while none is believed.
 */
import { DOUBLE_ZERO } from '../../double-zero.js';
import { ProbeReply, ReplicaCondition, ReplicaStatus } from '../../../wire/messages.js';
import { readI32 } from '../../../wire/u64.js';
import type { Instant } from '../../contract.js';
import { Experience } from './experience.js';
import type { ReplicaState } from '../replica-state.js';

/** What another replica said of itself in answer to the round. */
export interface Answer {
  readonly view: number;
  readonly status: number;
  readonly heardPrimary: boolean;
  readonly starting: boolean;
}

/** False words of hosts that count: after each, ten minutes without another one have to pass until hosts are believed again. */
const FORGERIES_MAX = 3;

export class ProbeRound {
  readonly answers = new Map<number, Answer>();
  /** Monotonic µs at which it was sent. */
  sentUs = -Infinity;
  private nonce: number;
  /** When the host of each replica last said that nobody listens there. */
  private readonly saidUs: Float64Array;
  private readonly forgeries = new Experience(FORGERIES_MAX);
  private believesHosts = true;
  private accused = 0;
  /** Of the last accusation: since when they had been silent, and whether their hosts said that they are gone. */
  accusedSinceUs = DOUBLE_ZERO;
  accusedGone = false;

  constructor(private readonly state: ReplicaState) {
    // Another one in each life, so that answers to the probes of an earlier life do not count in this one.
    this.nonce = state.config.seed & 0x3fffffff;
    this.saidUs = new Float64Array(state.n).fill(-Infinity);
  }

  /** Another round; returns its nonce. */
  begin(): number {
    this.nonce = (this.nonce + 1) & 0x7fffffff || 1;
    this.answers.clear();
    return this.nonce;
  }

  /** True of an answer to this round, whether or not it is over. */
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

  /** Its host said since the round was sent that nobody listens there, and it did not answer. */
  isGone(replica: number): boolean {
    return this.believesHosts && this.saidUs[replica]! > this.sentUs && !this.answers.has(replica);
  }

  /** A member of the present view is gone. */
  someoneGone(): boolean {
    return this.goneMembers() !== 0;
  }

  /** Nothing is waited for any more. */
  allAnswered(): boolean {
    const { state } = this;
    for (let r = 0; r < state.n; r++) if (r !== state.id && !this.answers.has(r) && !this.isGone(r)) return false;
    return true;
  }

  /** Replicas that answered, a bit each. */
  alive(): number {
    let mask = 0;
    for (const r of this.answers.keys()) mask |= 1 << r;
    return mask;
  }

  /** Those of them that have a log, a bit each. */
  withLog(): number {
    let mask = 0;
    for (const [r, { status }] of this.answers) if (status !== ReplicaStatus.recovering) mask |= 1 << r;
    return mask;
  }

  /** The highest view that some replica says it works in; −1 when none does. */
  highestNormal(): number {
    let highest = -1;
    for (const { status, view } of this.answers.values())
      if (status === ReplicaStatus.normal) highest = Math.max(highest, view);
    return highest;
  }

  /** A view is asked for because of this round: without those who are gone, or else without these, silent since then. */
  accuse(silent: number, sinceUs: number): void {
    const gone = silent === 0 ? 0 : this.goneMembers();
    this.accusedGone = gone !== 0;
    this.accused = this.accusedGone ? gone : silent;
    this.accusedSinceUs = sinceUs;
  }

  /** An answer after the round: true when a view was asked for without that replica, the first time. */
  acquits(replica: number): boolean {
    if (((this.accused >>> replica) & 1) === 0) return false;
    this.accused = 0;
    return true;
  }

  private goneMembers(): number {
    const { state } = this;
    let mask = 0;
    for (let r = 0; r < state.n; r++)
      if (r !== state.id && state.views.isMember(state.view, r) && this.isGone(r)) mask |= 1 << r;
    return mask;
  }
}
