/**
 * Asks for the membership when a view of an epoch that is not known here is spoken of, and when those that are known here
 * do not answer. Only finds the way: what is learned is committed wherever it comes from, and until then the view is left
 * alone (C2).
 */
import type { Instant } from '../../contract.js';
import { Counter } from '../../counters.js';
import type { ReplicaState } from '../replica-state.js';

/** At most one question in this time. */
const ASK_US = 20_000;
/** The same for questions to all addresses in turn. */
const SEARCH_US = 100_000;
/** And one of the two is told to logs at most once in this time. */
const TELL_US = 10_000_000;

export class MemberSearch {
  private askedUs = -Infinity;
  private searchedUs = -Infinity;
  private toldUs = -Infinity;

  constructor(private readonly state: ReplicaState) {}

  /** Replica or address `from` speaks of `view`. */
  ask(from: number, now: Instant): void {
    if (now.monotonicUs - this.askedUs < ASK_US) return;
    this.askedUs = now.monotonicUs;
    this.note(`${from} speaks of an epoch, or is a host, that is not known here`, now);
    this.state.observer.unknownEpoch?.(from);
  }

  /** Too few of the voters that are known here answer for any view: others may know who the voters are now. */
  search(now: Instant): void {
    if (now.monotonicUs - this.searchedUs < SEARCH_US) return;
    this.searchedUs = now.monotonicUs;
    this.note('too few of the voters that are known here answer', now);
    this.state.observer.searchMembers?.();
  }

  private note(why: string, now: Instant): void {
    this.state.counters[Counter.members_asked]!++;
    if (now.monotonicUs - this.toldUs < TELL_US) return;
    this.toldUs = now.monotonicUs;
    this.state.transition('ask-epoch', why);
  }
}
