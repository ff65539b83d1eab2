/**
 * How a client finds the view that runs.
 *
 * - It learns a higher view from any replica that it hears. A wrong view costs time, never safety: only answers that
 *   were given in the view count (commit-rule.ts).
 * - When nothing commits, it asks all replicas which view they are in (Probe), and after one more wait in vain also to
 *   check whether that view works (Plea). Its plea names the replicas that it does not hear (hearing.ts).
 * - When that is in vain as well, all replicas that it knows may have left: its host searches for the members.
 * - A replica that is no longer heard (other-lists.ts) may have named a view that is not the cluster's. Then the client
 *   starts again from view 0 and asks the others.
 */
import { begin } from '../../wire/layout.js';
import { Plea, Probe } from '../../wire/messages.js';
import { writeI32 } from '../../wire/u64.js';
import type { Instant, Outbox } from '../contract.js';
import { ClientCounter } from '../counters.js';
import { lowest } from '../masks.js';
import type { Views } from '../views.js';
import { Hearing } from './hearing.js';
import type { Retries } from './retries.js';

/** After more waits in vain than this, all replicas are asked for their view, and asked to check it. */
const PROBE_AFTER = 1;
const PLEA_AFTER = 2;
/** And after more than this, the members are searched for elsewhere. */
const SEARCH_AFTER = 3;

export class ViewSearch {
  private readonly hearing: Hearing;
  /** The replica that first named the present view; −1: none. */
  private taughtBy = -1;
  /** When a request was last committed, and when the replicas were last asked, monotonic µs. */
  private committedUs = -Infinity;
  private askedUs = -Infinity;

  /**
   * @param counters by ClientCounter
   */
  constructor(
    private readonly views: Views,
    places: number,
    private readonly outbox: Outbox,
    private readonly retries: Retries,
    private readonly counters: Float64Array,
  ) {
    this.hearing = new Hearing(views, places);
  }

  heard(replica: number, now: Instant): void {
    this.hearing.heard(replica, now);
  }

  /** This replica named the view that is entered; −1: none did. */
  entered(taughtBy: number): void {
    this.taughtBy = taughtBy;
  }

  isTaughtBy(replica: number): boolean {
    return this.taughtBy === replica;
  }

  /** A request was committed: the view serves this client. */
  committed(now: Instant): void {
    this.committedUs = now.monotonicUs;
    this.hearing.settled();
  }

  /**
   * `attempts` waits for an answer were in vain. As long as other requests commit, the view is not the reason.
   * @returns true if the replicas that are known here do not lead on: the members have to be searched for
   */
  noAnswer(view: number, attempts: number, now: Instant): boolean {
    if (now.monotonicUs - this.committedUs < this.retries.waitUs(0)) return false;
    if (attempts <= PROBE_AFTER || !this.mayAsk(now)) return false;
    this.ask(view, attempts > PLEA_AFTER, now);
    return attempts > SEARCH_AFTER;
  }

  /** No process listens at a member of the view: the others are asked at once how to continue without it. */
  unreachable(view: number, now: Instant): void {
    if (this.mayAsk(now)) this.ask(view, true, now);
  }

  /** Asks all replicas. @param plead also asks them to check whether the view works */
  ask(view: number, plead: boolean, now: Instant): void {
    this.askedUs = now.monotonicUs;
    const unheard = this.hearing.asked(now, this.retries.longestUs);
    for (let rest = this.views.voters; rest !== 0; rest &= rest - 1) {
      const r = lowest(rest);
      if (this.sendProbe(r, view) && plead) this.sendPlea(r, view, unheard);
    }
  }

  private mayAsk(now: Instant): boolean {
    return now.monotonicUs - this.askedUs >= this.retries.pauseUs(now.monotonicUs);
  }

  private sendProbe(to: number, view: number): boolean {
    const { outbox } = this;
    const o = outbox.reserve(to, Probe.size);
    if (o < 0) return false;
    begin(Probe, outbox.bytes, o);
    writeI32(outbox.bytes, o + Probe.at.view, view);
    outbox.commit(Probe.size);
    this.counters[ClientCounter.probes]!++;
    return true;
  }

  /** @param unheard replicas that the client does not hear, one bit each */
  private sendPlea(to: number, view: number, unheard: number): void {
    const { outbox } = this;
    const o = outbox.reserve(to, Plea.size);
    if (o < 0) return;
    begin(Plea, outbox.bytes, o);
    writeI32(outbox.bytes, o + Plea.at.view, view);
    writeI32(outbox.bytes, o + Plea.at.unreachable, unheard);
    outbox.commit(Plea.size);
    this.counters[ClientCounter.pleas]!++;
  }
}
